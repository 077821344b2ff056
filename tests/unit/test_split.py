"""Where long captures are cut: at clean keyframes, into parts of about the same work, and only where that pays."""

import io
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest

from tests.parts import capture_in_parts, results
from tests.streams import Stream, make
from worker.media import split
from worker.media.access import Access
from worker.media.capture import capture
from worker.media.container import Media
from worker.media.plan import CapturePlan, Cuts, EntryPlan, Format, Limits, Mode, Rendition, Selection

FRAMES = 500
X264 = "keyint=25:scenecut=0:bframes=2:b-adapt=0:threads=1:open-gop={}"
X265 = "keyint=25:scenecut=0:bframes=2:b-adapt=0:pools=none:frame-threads=1:log-level=none:open-gop={}"
SELECTIONS = {
    "interval": Selection(interval_s=Fraction(1, 2)),
    "interval-number": Selection(interval_s=Fraction(1, 2), start_s=Fraction(3), number=30),
    "every": Selection(),
    "every-number": Selection(number=300),
    "average": Selection(Mode.AVERAGE, number=30),
    "keyframe": Selection(Mode.KEYFRAME),
    "keyframe-number": Selection(Mode.KEYFRAME, number=12),
    "dhash": Selection(Mode.DHASH, interval_s=Fraction(1, 5), threshold=5),
    "dhash-number": Selection(Mode.DHASH, interval_s=Fraction(1, 5), threshold=5, number=9),
}


def recipe(codec="libx264", container="mp4", *, open_gop=0, steps=None):
    name, params = ("x264-params", X264) if codec == "libx264" else ("x265-params", X265)
    options = (("preset", "ultrafast"), (name, params.format(open_gop)))
    return Stream(
        codec, container, 25, 2, options, Fraction(1, 25), Fraction(25), steps or (1,) * FRAMES, 0, 0, (96, 64),
        interlaced=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    made = {}

    def get(*arguments, **options):
        key = (arguments, *options.items())
        if key not in made:
            made[key] = make(recipe(*arguments, **options), tmp_path_factory.mktemp("video")).read_bytes()
        return made[key]

    return get


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Take little work for much."""
    for name in ("DECODED_PIXELS_PER_S", "DRAWN_PIXELS_PER_S"):
        monkeypatch.setattr(split, name, getattr(split, name) / 4000)


def plan_of(*selections, **more):
    return CapturePlan(tuple(EntryPlan(each, Rendition(Format.PNG)) for each in selections), **more)


def cut(data, plan):
    """The cuts that a capture tells; none where it tells images first."""
    first = next(capture(io.BytesIO(data), replace(plan, may_split=True)))
    return first.times_s if isinstance(first, Cuts) else ()


def key_times_s(data):
    with Media(io.BytesIO(data), Limits()) as media:
        packets = iter(media.read, None)
        return [packet.pts * media.time_base for packet in packets if media.access(packet) >= Access.CLEAN]


KINDS = [
    ("libx264", "mp4", 0),
    ("libx264", "mkv", 0),
    ("libx264", "mov", 0),
    ("libx265", "mp4", 1),
    ("libx265", "mkv", 0),
]


@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=list(SELECTIONS))
@pytest.mark.parametrize(("codec", "container", "open_gop"), KINDS)
def test_cuts_are_clean_keyframes_and_parts_give_the_whole_for_no_more_decoding(
    video, codec, container, open_gop, selection
):
    data, plan = video(codec, container, open_gop=open_gop), plan_of(selection)
    times_s = cut(data, plan)
    assert 3 <= len(times_s) < split.MAX_PARTS
    first_s, *others = key_times_s(data)
    assert set(times_s) <= {time_s - first_s for time_s in others}
    whole = list(capture(io.BytesIO(data), plan))
    joined = capture_in_parts(io.BytesIO(data), plan, times_s)
    assert results(joined) == results(whole)
    more = joined[-1].frames_decoded - whole[-1].frames_decoded
    allowed = 6 if selection.mode is Mode.KEYFRAME or not selection.interval_s else 0
    assert more <= allowed * len(times_s)


def test_parts_have_about_the_same_work_and_get_shorter_at_the_end(video):
    times_s = [Fraction(0), *cut(video(), plan_of(SELECTIONS["dhash"])), Fraction(FRAMES, 25)]
    lengths_s = [float(end - start) for start, end in pairwise(times_s)]
    assert max(lengths_s[:-1]) <= 2 * min(lengths_s[:3])
    assert lengths_s[-1] <= lengths_s[0]


def test_only_what_is_wanted_is_cut(video):
    wanted = Selection(interval_s=Fraction(1, 5), start_s=Fraction(8), number=30)
    times_s = cut(video(), plan_of(wanted))
    assert times_s
    assert all(8 < time_s < 14 for time_s in times_s[:-1])
    assert times_s[-1] in {14, 15}, "what follows the last wanted time is a part with nothing to do"
    times_s = cut(video(), plan_of(SELECTIONS["every"], trim_start_s=Fraction(10), trim_duration_s=Fraction(5)))
    assert times_s
    assert all(10 < time_s <= 15 for time_s in times_s)


def test_entries_that_share_a_pass_are_cut_together(video):
    plan = plan_of(*SELECTIONS.values(), trim_start_s=Fraction(2))
    times_s = cut(video(), plan)
    whole = list(capture(io.BytesIO(video()), plan))
    assert results(capture_in_parts(io.BytesIO(video()), plan, times_s)) == results(whole)


def test_frames_of_varying_length_are_cut_too(video):
    data = video(steps=tuple(1 + (number * 7) % 4 for number in range(FRAMES)))
    for selection in SELECTIONS.values():
        plan = plan_of(selection)
        times_s = cut(data, plan)
        assert times_s
        whole = list(capture(io.BytesIO(data), plan))
        assert results(capture_in_parts(io.BytesIO(data), plan, times_s)) == results(whole)


@pytest.mark.parametrize("container", ["ts", "avi"])
def test_a_container_without_a_good_index_is_not_cut(video, container):
    assert cut(video("libx264", container), plan_of(SELECTIONS["dhash"])) == ()


def test_h264_of_open_gops_is_not_cut(video):
    assert cut(video("libx264", "mkv", open_gop=1), plan_of(SELECTIONS["dhash"])) == ()


def test_a_little_work_is_not_cut(video, monkeypatch):
    assert cut(video(), plan_of(Selection(number=1, start_s=Fraction(10)))) == ()
    monkeypatch.setattr(split, "WORTH_S", 10_000.0)
    assert cut(video(), plan_of(SELECTIONS["every"])) == ()


def test_entries_that_share_one_image_and_files_that_end_early_are_not_cut(video):
    plan = plan_of(SELECTIONS["every"])
    last = replace(plan, entries=(replace(plan.entries[0], last_only=True),))
    assert cut(video(), last) == ()
    data = video("libx264", "mkv")
    assert cut(data, plan)
    assert cut(data[: len(data) * 3 // 4], plan) == ()


def test_nothing_is_cut_unless_the_plan_allows_it(video):
    assert not any(isinstance(event, Cuts) for event in capture(io.BytesIO(video()), plan_of(SELECTIONS["every"])))


def test_the_first_part_is_all_that_a_capture_does_that_tells_cuts(video):
    events = list(capture(io.BytesIO(video()), replace(plan_of(SELECTIONS["every"]), may_split=True)))
    cuts, *images, report = events
    assert len(images) >= report.entries[0].count == round(cuts.times_s[0] * 25)


def test_limits_hold_over_all_parts(video):
    plan = plan_of(SELECTIONS["every"], SELECTIONS["dhash"], limits=Limits(max_frames_per_entry=60))
    whole = list(capture(io.BytesIO(video()), plan))
    joined = capture_in_parts(io.BytesIO(video()), plan, cut(video(), plan))
    assert results(joined) == results(whole)
    assert joined[-1].entries[0].count == 60


@pytest.mark.parametrize(("number", "is_cut"), [(8, True), (9, False)])
def test_nothing_is_cut_whose_best_images_are_too_large_to_be_kept_for_all_parts(video, number, is_cut):
    """Parts are joined by the process that all captures share."""
    selection = replace(SELECTIONS["dhash-number"], number=number)
    large = EntryPlan(selection, Rendition(width=1024, height=1024))
    assert bool(cut(video(), CapturePlan((large,)))) is is_cut
