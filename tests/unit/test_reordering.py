"""Frames that are reordered further than a file's start lets on, or than its container tells."""

from fractions import Fraction
from itertools import pairwise

import av
import pytest

from tests.exact import assert_as_expected
from tests.naive import decode_all
from tests.naive_selection import expect
from tests.streams import FAST, Stream, make
from worker.media.capture import capture
from worker.media.container import Media
from worker.media.plan import CapturePlan, EntryPlan, Format, Image, Limits, Mode, Rendition, Selection
from worker.media.timeline import key_pts

PNG = Rendition(format=Format.PNG)
SMALL = Rendition(width=16, height=16)


def recipe(codec, container, params, *, base=25, steps=(1,) * 60, plain=0, **options):
    name, rest = {
        "libx264": ("x264-params", "scenecut=0:b-adapt=0:threads=1:rc-lookahead=30"),
        "libx265": ("x265-params", "scenecut=0:b-adapt=0:pools=none:frame-threads=1:log-level=none:rc-lookahead=30"),
    }[codec]
    options = FAST[codec] | options | {name: f"{params}:{rest}"}
    return Stream(
        codec, container, 250, 16, tuple(options.items()), Fraction(1, base), Fraction(25), tuple(steps), 0, 0,
        (64, 48), interlaced=False, plain=plain,
    )  # fmt: skip


def assert_pts(path, video, *selections):
    for selection in selections:
        with path.open("rb") as file:
            images = capture(file, CapturePlan((EntryPlan(selection, SMALL),)))
            found = [image.source_pts for image in images if isinstance(image, Image)]
        wanted = expect(video, EntryPlan(selection, SMALL)).frames
        assert found == [video.frames[each.index].pts for each in wanted], selection


# --- H.264 that does not say how far it reorders


class Bits:
    """The bits of a parameter set of H.264."""

    def __init__(self, data):
        self.digits = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def number(self):
        """Pass a number of Exp-Golomb code, and return it."""
        zeros = self.digits.index("1", self.at) - self.at
        self.at += 2 * zeros + 1
        return int(self.digits[self.at - zeros - 1 : self.at], 2) - 1

    def flag(self):
        """Pass a bit."""
        self.at += 1
        return self.digits[self.at - 1] == "1"


def untold(sps):
    """A sequence parameter set of the main profile without its VUI, where the reordering is told (7.3.2.1.1)."""
    bits = Bits(sps.replace(b"\0\0\3", b"\0\0"))
    bits.at = 32
    for _ in range(2):  # its number, log2_max_frame_num
        bits.number()
    assert bits.number() == 0  # pic_order_cnt_type
    for _ in range(2):
        bits.number()
    bits.flag()
    for _ in range(2):  # width, height
        bits.number()
    assert bits.flag()  # frame_mbs_only
    bits.flag()
    if bits.flag():
        for _ in range(4):
            bits.number()
    assert bits.flag()  # it has a VUI
    digits = bits.digits[: bits.at - 1] + "01"
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8).ljust(len(sps), b"\0")


def without_vui(path):
    with av.open(path) as container:
        extradata = bytes(container.streams.video[0].codec_context.extradata)
    sps = extradata[8 : 8 + int.from_bytes(extradata[6:8])]
    data = path.read_bytes()
    assert data.count(sps) == 1
    path.write_bytes(data.replace(sps, untold(sps)))
    return path


@pytest.mark.parametrize("container", ["mkv", "flv"])
@pytest.mark.parametrize("pyramid", ["none", "normal"])
@pytest.mark.parametrize("plain", [8, 12])
def test_h264_whose_b_frames_come_late_and_unannounced(plain, pyramid, container, tmp_path):
    """FFmpeg guesses how far frames are reordered from the first ones, and from that when Matroska's are decoded."""
    params = f"keyint=30:min-keyint=30:bframes=3:b-pyramid={pyramid}"
    path = without_vui(make(recipe("libx264", container, params, profile="main", plain=plain), tmp_path))
    video = decode_all(path)
    shown = [*(a for a, b in pairwise(video.times_s) if b > a), video.times_s[-1]]
    assert len(shown) >= 58
    alone = [Selection(start_s=time, number=1) for time in shown]
    assert_pts(path, video, *alone, Selection(interval_s=Fraction(1, 5)), Selection())


# --- variable rates


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("bframes", [8, 16])
def test_the_end_of_a_video_that_slows_down(bframes, codec, tmp_path):
    """Its last frame is decoded before as many as there are B-frames in a row."""
    steps = [10] * 5 + [100] * (4 * bframes)
    pyramid = "normal" if codec == "libx264" else 1
    path = make(recipe(codec, "mp4", f"keyint=250:bframes={bframes}:b-pyramid={pyramid}", base=1000, steps=steps),
                tmp_path)  # fmt: skip
    video = decode_all(path, keys=True)
    end_s = video.end_s
    for selection in (
        Selection(Mode.AVERAGE, number=5),
        Selection(interval_s=Fraction(1, 5), start_s=Fraction(1)),
        Selection(start_s=end_s - Fraction(1, 20), number=1),
        Selection(start_s=end_s + 1, number=1),
        Selection(Mode.DHASH, interval_s=Fraction(1, 10)),
    ):
        plan = CapturePlan((EntryPlan(selection, PNG),))
        assert_as_expected(path, plan, ("mp4", codec), "made streams", video)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_keyframes_from_a_time_on_where_several_are_decoded_before_one_is_shown(container, tmp_path):
    steps = [10] * 10 + [3000] * 4 + [10] * 20
    params = "keyint=2:min-keyint=1:open-gop=1:bframes=1"
    path = make(recipe("libx265", container, params, base=1000, steps=steps), tmp_path)
    video = decode_all(path, keys=True)
    keys = [video.frames[index].pts for index in sorted(video.keys)]
    for start in keys:
        with path.open("rb") as file, Media(file, Limits()) as media:
            assert key_pts(media, start) == [pts for pts in keys if pts >= start]
