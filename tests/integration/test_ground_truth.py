"""What others say is right: times and pictures as torchcodec, PySceneDetect and Android's extractor have them.

The files and the pictures are beside the project.
"""

import io
import json
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image as Picture

from tests.pictures import MEDIA, real_files
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Format, Image, Mode, Rendition, Selection

TRUTH = MEDIA / "ground_truth"
pytestmark = real_files


def shots(name, times_s, **rendition):
    """Capture at each of some times in one pass; gives pictures as arrays, and their times."""
    entries = tuple(
        EntryPlan(Selection(Mode.INTERVAL, Fraction(time), number=1), Rendition(Format.PNG, **rendition))
        for time in times_s
    )
    with (MEDIA / name).open("rb") as file:
        images = {e.entry: e for e in capture(file, CapturePlan(entries)) if isinstance(e, Image)}
    return [(np.asarray(Picture.open(io.BytesIO(images[i].data))), images[i]) for i in range(len(entries))]


def difference(a, b):
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize(
    ("name", "listing"),
    [
        ("footage/nasa_13013.mp4", "nasa_13013.mp4.stream0.all_frames_info.json"),
        ("geometry/rot_90_torchcodec_nasa.mp4", "nasa_13013_rotated.mp4.stream0.all_frames_info.json"),
        ("timing/start_8_3s.mp4", "test_non_zero_start.mp4.stream0.all_frames_info.json"),
    ],
)
def test_every_frame_has_the_time_that_torchcodec_lists(name, listing):
    listed = [Fraction(frame["pts_time"]) for frame in json.loads((TRUTH / "torchcodec" / listing).read_text())]
    plan = CapturePlan((EntryPlan(Selection(), Rendition(width=16, height=16)),))
    with (MEDIA / name).open("rb") as file:
        times_s = [event.time_s for event in capture(file, plan) if isinstance(event, Image)]
    assert len(times_s) == len(listed)
    assert all(abs(t - (told - listed[0])) < Fraction(1, 100_000) for t, told in zip(times_s, listed, strict=True))


@pytest.mark.parametrize(
    ("name", "reference", "frame", "rate"),
    [
        ("footage/nasa_13013.mp4", "nasa_13013.mp4.stream0.frame000000.pt", 0, 25),
        ("footage/nasa_13013.mp4", "nasa_13013.mp4.stream0.frame000035.pt", 35, 25),
        ("codecs/hevc_main_128x128.mp4", "h265_video.mp4.stream0.frame000005.pt", 5, 10),
        ("codecs/av1_360p.mkv", "av1_video.mkv.stream0.frame000010.pt", 10, 25),
    ],
)
def test_pictures_are_those_of_torchcodec(name, reference, frame, rate):
    """torchcodec's conversion to RGB rounds more coarsely, so a frame is known by being nearer than its neighbours."""
    near = [n for n in (frame - 1, frame, frame + 1) if n >= 0]
    pictures = [picture for picture, _ in shots(name, [Fraction(n, rate) for n in near])]
    with zipfile.ZipFile(TRUTH / "torchcodec" / reference) as file:
        raw = file.read(next(each for each in file.namelist() if each.endswith("data/0")))
    wanted = np.frombuffer(raw, np.uint8)[: pictures[0].size].reshape(pictures[0].shape)
    differences = dict(zip(near, (difference(picture, wanted) for picture in pictures), strict=True))
    assert differences[frame] < 2
    assert min(differences, key=differences.__getitem__) == frame


@pytest.mark.parametrize("number", [0, 1, 7, 14, 15, 28, 29])
def test_numbered_frames_are_those_of_pyscenedetect(number):
    ((picture, _),) = shots("footage/pyscenedetect_counter.mp4", [Fraction(number, 10)])
    near = [n for n in (number - 1, number, number + 1) if 0 <= n < 30]
    frames = {n: TRUTH / "pyscenedetect_counter_frames" / f"frame{n + 1:03}.png" for n in near}
    differences = {n: difference(picture, np.asarray(Picture.open(frames[n]).convert("RGB"))) for n in near}
    assert min(near, key=differences.__getitem__) == number
    assert differences[number] < 4  # its reader takes untagged HD for BT.601


@pytest.mark.parametrize(
    ("name", "reference", "time_s"),
    [
        ("timing/timestamps_360p.mp4", "sample_with_increasing_timestamps_360p_0.000.png", "0"),
        ("timing/timestamps_360p.mp4", "sample_with_increasing_timestamps_360p_0.033.png", "0.034"),
        ("timing/timestamps_360p.mp4", "sample_with_increasing_timestamps_360p_0.066.png", "0.067"),
        ("timing/timestamps_360p.mp4", "sample_with_increasing_timestamps_360p_8.331.png", "8.332"),
        ("timing/timestamps_360p.mp4", "sample_with_increasing_timestamps_360p_8.531.png", "8.532"),
        ("timing/timestamps_360p.mp4", "sample_with_increasing_timestamps_360p_17.029.png", "17.03"),
        ("containers/mp4_sample_simple.mp4", "sample_0.000.png", "0"),
        ("timing/elst_only_preroll_sync.mp4", "sample_edit_list_only_preroll_sync_sample_0.000.png", "0"),
    ],
)
def test_pictures_are_those_of_androids_extractor(name, reference, time_s):
    (picture, _), (later, _) = shots(name, [Fraction(time_s), Fraction(time_s) + Fraction(1, 10)])
    wanted = np.asarray(Picture.open(TRUTH / "media3_frame_extractor" / reference).convert("RGB"))
    assert picture.shape == wanted.shape
    assert difference(picture, wanted) < 4
    assert difference(picture, wanted) <= difference(later, wanted)


def test_pictures_are_those_of_androids_test_video():
    plan = CapturePlan((EntryPlan(Selection(), Rendition(Format.PNG)),))
    with (MEDIA / "timing/testvid_1022ms.mp4").open("rb") as file:
        pictures = [Picture.open(io.BytesIO(event.data)) for event in capture(file, plan) if isinstance(event, Image)]
    for frame in (0, 14, 15, 16, 29):
        truth = Picture.open(TRUTH / "media3_testvid_1022ms" / f"testvid_1022ms_{frame:03}.png").convert("RGB")
        differences = [difference(np.asarray(picture), np.asarray(truth)) for picture in pictures]
        assert int(np.argmin(differences)) == frame
