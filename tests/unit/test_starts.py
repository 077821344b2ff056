"""Where decoding starts again, after damage and where a keyframe turns out to need what was before it."""

from fractions import Fraction

import av
import pytest
from av.video.frame import PictureType

from tests.exact import assert_as_expected
from tests.naive import decode_all
from tests.streams import FAST, Stream, make, pictures, quiet
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Format, Mode, Rendition, Report, Selection

PNG = Rendition(format=Format.PNG)
GOP = 10


def recipe(codec, frames, **options):
    return Stream(
        codec, "mp4", GOP, 3, tuple((FAST[codec] | options).items()), Fraction(1, 25), Fraction(25), (1,) * frames, 0,
        0, (96, 64), interlaced=False,
    )  # fmt: skip


def report_of(path, selection):
    with path.open("rb") as file:
        events = list(capture(file, CapturePlan((EntryPlan(selection, PNG),))))
    report = events[-1]
    assert isinstance(report, Report)
    return report


@pytest.fixture(scope="module")
def damaged_hevc(tmp_path_factory):
    """HEVC whose keyframes are CRAs, as x265 makes it, with one that is damaged."""
    params = f"keyint={GOP}:scenecut=0:bframes=3:b-adapt=0:open-gop=1:pools=none:frame-threads=1:log-level=none"
    path = make(recipe("libx265", 200, **{"x265-params": params}), tmp_path_factory.mktemp("hevc"))
    with av.open(path) as container:
        keys = [packet.pos for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    data = bytearray(path.read_bytes())
    data[keys[10] : keys[10] + 4] = b"\xff" * 4  # the length of its first unit
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("selection", "most"),
    [
        (Selection(start_s=Fraction(10 * GOP + 9, 25), number=1), 2 * GOP),
        (Selection(start_s=Fraction(15 * GOP + 5, 25), number=1), GOP),
        (Selection(interval_s=Fraction(2 * GOP, 25)), 10 * GOP),
        (Selection(Mode.KEYFRAME), 3 * GOP),
    ],
    ids=["amid what is damaged", "elsewhere", "interval", "keyframes"],
)
def test_damaged_hevc_is_not_decoded_from_the_start(damaged_hevc, selection, most):
    report = report_of(damaged_hevc, selection)
    assert report.frames_decoded <= most


def mixed(folder):
    """H.264 of open GOPs with a reset at every sixth keyframe: the others tell the decoder to forget."""
    params = f"keyint={GOP}:min-keyint={GOP}:scenecut=0:bframes=3:open-gop=1:threads=1"
    source = recipe("libx264", 360, **{"x264-params": params})
    path = folder / "video.mp4"
    with quiet(), av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=25, options=dict(source.options) | {"forced-idr": "1"})
        video.width, video.height, video.pix_fmt = *source.size, "yuv420p"
        for number, picture in enumerate(pictures(source)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            if number % (6 * GOP) == 0:
                frame.pict_type = PictureType.I
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def test_h264_whose_keyframes_mostly_need_what_was_before(tmp_path):
    """Once that is known, starts are looked for among all keyframes, and what nothing refers to is still skipped."""
    path = mixed(tmp_path)
    video = decode_all(path)
    last, middle = (Selection(start_s=Fraction(number, 25), number=1) for number in (359, 178))
    for selection, most_read in (
        (last, 100),
        (middle, 100),
        (Selection(Mode.DHASH, interval_s=Fraction(2, 5), threshold=3), 360),
    ):
        assert_as_expected(path, CapturePlan((EntryPlan(selection, PNG),)), ("mp4", "libx264"), "made streams", video)
        report = report_of(path, selection)
        assert report.frames_decoded <= 4 * GOP  # of six times that from one reset to the next
        assert report.packets_read <= most_read
