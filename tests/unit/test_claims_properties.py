"""Decoders that are sound are believed whatever is asked of them, and of what is believed an event can be made."""

import io
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devkit.media import counter_video, cover_mp3
from tests.corpus.messages import snapshot
from tests.parsing import NOW, parse
from worker.adapters import wire
from worker.adapters.claims import Claims
from worker.errors import TaskError
from worker.media.capture import capture
from worker.media.plan import (
    CapturePlan,
    EntryPlan,
    EntryReport,
    Format,
    Image,
    Limits,
    Mode,
    Part,
    Progress,
    Rendition,
    Report,
    ScaleType,
    Selection,
    Warn,
)
from worker.messages import build_result
from worker.task import Completed, EntryResult, Frame

LENGTH_S = 4
MEDIA = Path(__file__).parents[2].parent / "shared" / "media"

numbers = st.integers(0, 6)
times = st.fractions(0, LENGTH_S + 1, max_denominator=50)
selections = st.one_of(
    st.builds(Selection, st.just(Mode.INTERVAL), times, st.fractions(0, 2, max_denominator=60), numbers),
    st.builds(Selection, st.just(Mode.AVERAGE), times, st.just(Fraction(0)), st.integers(1, 6)),
    st.builds(Selection, st.just(Mode.KEYFRAME), times, st.just(Fraction(0)), numbers),
    st.builds(Selection, st.just(Mode.DHASH), times, st.fractions(0, 2, max_denominator=60), numbers, numbers),
)
sides = st.none() | st.integers(1, 90) | st.fractions(Fraction(1, 100), 2, max_denominator=100)
renditions = st.builds(Rendition, st.sampled_from([Format.JPG, Format.PNG]), sides, sides, st.sampled_from(ScaleType))
entries = st.builds(EntryPlan, selections, renditions, st.booleans())
parts = st.none() | st.builds(Part, times, st.none() | times.map(lambda time_s: time_s + LENGTH_S), st.none())
bounds = st.builds(Limits, max_frames_per_entry=st.integers(1, 20), max_decoded_frames=st.sampled_from([5, 1000]))
plans = st.builds(
    lambda entries, limits, part: CapturePlan(
        tuple(replace(entry, last_only=entry.last_only and part is None) for entry in entries),
        limits=limits,
        part=part or Part(),
    ),
    st.lists(entries, min_size=1, max_size=3),
    bounds,
    parts,
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claims")
    options = {"width": 64, "height": 48, "fps": 10, "seconds": LENGTH_S, "gop": 5}
    video = counter_video(folder / "video.mp4", **options, bframes=2).path.read_bytes()
    turned = counter_video(folder / "turned.mkv", **options, start_s=3, rotation_deg=90).path.read_bytes()
    cover_mp3(folder / "cover.mp3", seconds=1)
    damaged = turned[: len(turned) * 2 // 3]
    return [video, turned, (folder / "cover.mp3").read_bytes(), damaged]


def judge(data, plan):
    """Hold a decoder's own words, as they arrive, to what is believed of it."""
    claims = Claims(plan, len(data), longest_s=600.0)
    said = 0
    with suppress(TaskError):
        for event in capture(io.BytesIO(data), plan):
            header, payload = wire.pack(event)
            claims.check(wire.unpack(header[wire.PREFIX.size :], payload, wire.FromDecoder))
            said += 1
    return said


@settings(max_examples=60)
@given(st.integers(0, 3), plans)
def test_a_sound_decoder_is_believed_whatever_is_asked_of_it(sources, source, plan):
    judge(sources[source], plan)


def test_the_sound_decoder_has_something_to_say(sources):
    plan = CapturePlan((EntryPlan(Selection(interval_s=Fraction(1)), Rendition()),))
    assert [judge(data, plan) for data in sources[:3]] == [8, 8, 2]


TASK = parse(snapshot(Mode="dhash", Interval=1))
PLAN = CapturePlan((TASK.entries[0].plan,))
odd = st.integers(-2, 3) | st.sampled_from([2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, -(2**64), 2**999, 10**9])
odd_fractions = st.builds(Fraction, odd, st.sampled_from([1, 3, 2**64]))
odd_texts = st.sampled_from(["", "x", "0" * 64, "a" * 64, "A" * 64, "CorruptMedia", "x" * 3000, "\x1b[31m", "é" * 99])
GOOD = Image(0, 1, Fraction(0), Fraction(0), 0, True, 1, 1, b"x", "0" * 64, 0, Fraction(5))
changes = {
    "index": odd, "time_s": odd_fractions, "source_pts": odd, "width": odd, "height": odd, "data": st.just(b""),
    "sha256": odd_texts, "dhash": st.none() | odd, "score": st.none() | odd_fractions,
}  # fmt: skip
images = st.fixed_dictionaries({}, optional=changes).map(lambda changed: replace(GOOD, **changed))
warnings = st.lists(st.builds(Warn, odd_texts, odd_texts), max_size=2).map(tuple)
reports = st.builds(
    lambda entry, *counts: Report((entry,), "mp4", "h264", *counts, {"decode": 1.0}),
    st.builds(EntryReport, odd, odd, warnings, st.sampled_from(["", "CorruptMedia", "Canceled"]), odd_texts),
    *[st.integers(0, 5) | odd] * 5,
)


@settings(max_examples=300)
@given(images)
def test_of_an_image_that_is_believed_an_event_can_be_made(image):
    try:
        Claims(PLAN, 0, 60.0).check(image)
    except wire.WireError:
        return
    frame = Frame(
        image.index, "oss://bucket/1.jpg", image.time_s, image.source_pts, image.key_frame, image.width, image.height,
        len(image.data), image.sha256, "tag", image.dhash, image.score, image.repeated,
    )  # fmt: skip
    told(EntryResult(0, (frame,), (), None))


@settings(max_examples=300)
@given(reports)
def test_of_a_report_that_is_believed_an_event_can_be_made(report):
    try:
        Claims(PLAN, 0, 60.0).check(report)
    except wire.WireError:
        return
    (entry,) = report.entries
    error = TaskError(entry.error_code, entry.error_message) if entry.error_code else None
    told(EntryResult(entry.requested, (), entry.warnings, error))


def told(result):
    assert build_result(TASK, Completed((result,)), started_at=NOW, now=NOW)


@given(st.floats(allow_nan=False))
def test_progress_that_is_believed_is_a_percentage(fraction):
    try:
        Claims(PLAN, 0, 60.0).check(Progress(fraction))
    except wire.WireError:
        assert not 0 <= fraction <= 1
    else:
        assert 0 <= int(fraction * 100) <= 100


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["audio_cover", "broken", "codecs", "containers"])
def test_real_files_are_believed(folder):
    files = sorted(path for path in (MEDIA / folder).rglob("*") if path.is_file() and path.stat().st_size < 2_000_000)
    if not files:
        pytest.skip(f"the shared media are not here: no {folder}")
    sampled = [Selection(Mode.INTERVAL, interval_s=Fraction(5), number=3), Selection(Mode.KEYFRAME, number=2)]
    sampled += [Selection(Mode.AVERAGE, number=2), Selection(Mode.DHASH, interval_s=Fraction(2), number=2)]
    plan = CapturePlan(tuple(EntryPlan(each, Rendition(width=64)) for each in sampled))
    assert max(judge(path.read_bytes(), plan) for path in files) > 1
