"""Bounds on what one source may cost: reaching one ends an entry, or the capture, with its name and value."""

import io
from fractions import Fraction

import av
import pytest

from tests.streams import Stream, make
from worker.errors import Code, TaskError
from worker.media import bounds
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Format, Image, Limits, Mode, Rendition, Report, Selection


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    options = (("preset", "veryfast"), ("x264-params", "keyint=25:bframes=2:threads=1"))
    recipe = Stream(
        "libx264", "mp4", 25, 2, options, Fraction(1, 25), Fraction(25), (1,) * 50, 0, 0, (96, 64), interlaced=False
    )
    return make(recipe, tmp_path_factory.mktemp("video")).read_bytes()


def run(data, *selections, **limits):
    """Gives how many images of each entry came, and the entries' reports."""
    entries = tuple(EntryPlan(each, Rendition(Format.PNG)) for each in selections)
    events = list(capture(io.BytesIO(data), CapturePlan(entries, limits=Limits(**limits))))
    assert isinstance(events[-1], Report)
    counts = [sum(isinstance(e, Image) and e.entry == n for e in events) for n in range(len(entries))]
    assert counts == [entry.count for entry in events[-1].entries]
    return counts, events[-1].entries


def test_an_entry_over_its_number_of_images_fails_and_keeps_the_first(data):
    counts, reports = run(data, Selection(), Selection(interval_s=Fraction(1)), max_frames_per_entry=10)
    assert counts == [10, 2]
    assert [report.error_code for report in reports] == [Code.LIMIT_EXCEEDED, ""]
    assert reports[0].error_message.endswith("the limit LIMITS__FRAMES_PER_ENTRY is 10")


def test_as_many_images_as_the_limit_are_fine(data):
    counts, reports = run(data, Selection(number=10), max_frames_per_entry=10)
    assert counts == [10]
    assert reports[0].error_code == ""


def test_an_image_over_its_size_fails_its_entry_alone(data):
    entries = (EntryPlan(Selection(), Rendition(Format.PNG)), EntryPlan(Selection(), Rendition(width=8, height=8)))
    events = list(capture(io.BytesIO(data), CapturePlan(entries, limits=Limits(max_image_bytes=1500))))
    assert [report.error_code for report in events[-1].entries] == [Code.LIMIT_EXCEEDED, ""]
    assert events[-1].entries[0].error_message.endswith("the limit LIMITS__IMAGE_BYTES is 1500")


def test_what_dhash_keeps_back_is_bounded(data, monkeypatch):
    monkeypatch.setattr(bounds, "HELD_BYTES", 20_000)
    counts, reports = run(data, Selection(Mode.DHASH, number=40))
    assert counts == [0]
    assert reports[0].error_code == Code.LIMIT_EXCEEDED
    assert "Number" in reports[0].error_message


def test_images_that_leave_the_best_take_no_memory(data, monkeypatch):
    monkeypatch.setattr(bounds, "HELD_BYTES", 40_000)
    counts, reports = run(data, Selection(Mode.DHASH, number=2))
    assert counts == [2]
    assert reports[0].error_code == ""


def test_samples_are_bounded_where_a_video_seems_to_last_for_years(tmp_path):
    steps = (1,) * 20 + (25 * 3600,) + (1,) * 4
    recipe = Stream("mjpeg", "mkv", 1, 0, (), Fraction(1, 25), Fraction(25), steps, 0, 0, (96, 64), interlaced=False)
    data = make(recipe, tmp_path).read_bytes()
    _, reports = run(data, Selection(Mode.DHASH, interval_s=Fraction(300), number=1), max_decoded_frames=1000)
    assert reports[0].error_code == ""
    _, reports = run(data, Selection(Mode.DHASH, interval_s=Fraction(3), number=1), max_decoded_frames=1000)
    assert reports[0].error_code == Code.LIMIT_EXCEEDED
    assert reports[0].error_message.endswith(
        "1000 samples would have to be taken: the limit LIMITS__DECODED_FRAMES is 1000"
    )


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"max_decoded_frames": 20}, "LIMITS__DECODED_FRAMES is 20$"),
        ({"max_pixels": 96 * 64 - 1}, "96x64 pixels: the limit LIMITS__PIXELS is 6143$"),
        ({"max_side": 95}, "96x64 pixels: the limit LIMITS__SIDE is 95$"),
    ],
)
def test_a_source_over_a_limit_is_refused(data, limits, named):
    with pytest.raises(TaskError, match=named) as caught:
        run(data, Selection(), **limits)
    assert caught.value.code == Code.LIMIT_EXCEEDED
    assert not caught.value.retryable


@pytest.fixture(scope="module")
def growing():
    """H.264 whose headers tell another size halfway: 96x64, then 640x480."""
    raw = b""
    for width, height in ((96, 64), (640, 480)):
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base = Fraction(1, 25)
        encoder.options = {"preset": "ultrafast", "threads": "1", "x264-params": "keyint=5"}
        frames = [av.VideoFrame(width, height, "yuv420p") for _ in range(10)]
        raw += b"".join(bytes(packet) for frame in (*frames, None) for packet in encoder.encode(frame))
    return raw


@pytest.mark.parametrize("mode", [Mode.INTERVAL, Mode.KEYFRAME])
@pytest.mark.parametrize("max_side", [700, 16_384])  # FFmpeg refuses at the first, and lets the second to us
def test_a_source_that_grows_past_the_limit_is_refused(growing, mode, max_side):
    with pytest.raises(TaskError, match=r"640x480 pixels: the limit LIMITS__PIXELS is 6144$") as caught:
        run(growing, Selection(mode), max_pixels=96 * 64, max_side=max_side)
    assert caught.value.code == Code.LIMIT_EXCEEDED


def test_a_source_may_grow_within_the_limits(growing):
    counts, _ = run(growing, Selection(), max_pixels=640 * 480)
    assert counts == [20]


def test_sources_within_their_limits_are_not(data):
    counts, _ = run(data, Selection(), max_decoded_frames=60, max_pixels=96 * 64, max_side=96)
    assert counts == [50]


def test_little_more_is_decoded_than_is_wanted(data):
    """Of two frames in different GOPs of 25, with B-frames that nothing refers to."""
    entries = tuple(EntryPlan(Selection(start_s=Fraction(n, 25), number=1), Rendition()) for n in (10, 30))
    report = list(capture(io.BytesIO(data), CapturePlan(entries)))[-1]
    assert report.frames_decoded <= 14
    assert [entry.count for entry in report.entries] == [1, 1]
