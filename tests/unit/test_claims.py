"""What is believed of a decoder: all that a sound one says, and nothing that could not be stored, told or counted."""

import hashlib
from dataclasses import replace
from fractions import Fraction

import pytest

from worker.adapters import wire
from worker.adapters.claims import HASHES, MAX_COUNT, Claims
from worker.errors import Code
from worker.media.plan import (
    CapturePlan,
    Cuts,
    EntryPlan,
    EntryReport,
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

SIZE = 10_000
DATA = b"image"
PLAIN = CapturePlan((EntryPlan(Selection(number=3), Rendition(width=8)), EntryPlan(Selection(Mode.DHASH), Rendition())))
FIRST = Image(0, 1, Fraction(1, 3), Fraction(0), 7, True, 8, 6, DATA, hashlib.sha256(DATA).hexdigest())
HASHED = replace(FIRST, entry=1, dhash=HASHES - 1, score=Fraction(100))
ENTRIES = (EntryReport(1, 3), EntryReport(0, 0, (Warn("FrameDamaged", "one"),), Code.CORRUPT_MEDIA, "so", 5))
REPORT = Report(ENTRIES, "mov,mp4", "h264", 8, 6, 5, 6, 1, {"probe": 0.1, "decode": 2.0}, 1)


def claims(plan=PLAIN):
    return Claims(plan, SIZE, longest_s=60.0)


def refusal(*messages, plan=PLAIN):
    """Why the last of the messages is not believed; those before it are."""
    judged = claims(plan)
    for message in messages[:-1]:
        assert judged.check(message) is message
    with pytest.raises(wire.WireError) as caught:
        judged.check(messages[-1])
    return str(caught.value)


def test_what_a_sound_decoder_says_is_believed():
    judged = claims(replace(PLAIN, may_split=True))
    said = [
        *(wire.Read(0, SIZE), wire.Expect((0, 5), (5, SIZE - 5)), Cuts((Fraction(1), Fraction(2)), Fraction(9))),
        *(Progress(0.0), FIRST, replace(FIRST, index=2), HASHED, replace(FIRST, index=3, repeated=True), Progress(1.0)),
        *(replace(HASHED, index=2, score=Fraction(0)), REPORT),
        wire.Failure(Code.TIMEOUT, "late", retryable=True),
        wire.Failure(Code.CORRUPT_MEDIA, "broken", retryable=False),
    ]
    for message in said:
        assert judged.check(message) is message


@pytest.mark.parametrize(
    "changed",
    [
        {"entry": -1}, {"entry": 2}, {"index": 0}, {"index": -5}, {"index": 2}, {"index": 10**9}, {"width": 0},
        {"width": 7}, {"width": 9}, {"height": 0}, {"height": -1}, {"height": 2**31}, {"data": b""}, {"sha256": "x"},
        {"sha256": "A" * 64}, {"sha256": "0" * 63}, {"sha256": "0" * 64 + "\n"}, {"time_s": Fraction(-1, 3)},
        {"source_pts": MAX_COUNT}, {"source_pts": -MAX_COUNT - 1}, {"dhash": 5}, {"score": Fraction(5)},
    ],
    ids=str,
)  # fmt: skip
def test_an_image_that_nobody_asked_for_is_not_believed(changed):
    assert refusal(replace(FIRST, **changed)).startswith("an image ")


@pytest.mark.parametrize(
    "changed", [{"dhash": HASHES}, {"dhash": -1}, {"score": Fraction(101)}, {"score": Fraction(-1, 9)}], ids=str
)
def test_a_hash_or_score_that_there_is_not_is_not_believed(changed):
    assert refusal(replace(HASHED, **changed)).startswith("an image with the hash")


def test_images_are_numbered_in_order_up_to_what_is_asked_for():
    three = [replace(FIRST, index=index) for index in (1, 2, 3)]
    assert "an image 4 after 3, where at most 3" in refusal(*three, replace(FIRST, index=4))
    assert "an image 2 after 2" in refusal(*three[:2], three[1])
    few = replace(PLAIN, limits=Limits(max_frames_per_entry=1))
    assert "at most 1" in refusal(FIRST, three[1], plan=few)
    assert "at most 1" in refusal(HASHED, replace(HASHED, index=2), plan=few)


def test_an_image_that_stands_for_all_comes_once_with_any_number():
    plan = CapturePlan((EntryPlan(Selection(number=9), Rendition(), last_only=True),))
    last = replace(FIRST, index=7)
    assert "an image 9 after 7" in refusal(last, replace(FIRST, index=9), plan=plan)
    assert "at most 9" in refusal(replace(FIRST, index=10), plan=plan)


def test_only_the_first_sample_of_a_later_part_has_no_number():
    later = replace(PLAIN, part=Part(Fraction(5)))
    unscored = replace(HASHED, index=0, score=None)
    assert claims(later).check(unscored) is unscored
    assert "an image 0 after 0" in refusal(unscored, unscored, plan=later)
    assert "an image 0 after 1" in refusal(HASHED, unscored, plan=later)
    assert "an image 0 after 0" in refusal(unscored)
    assert "an image 0 after 0" in refusal(replace(FIRST, index=0), plan=later)


def test_an_image_that_is_fitted_is_no_larger_than_asked():
    plan = CapturePlan((EntryPlan(Selection(), Rendition(width=8, height=8, scale_type=ScaleType.FIT)),))
    assert claims(plan).check(FIRST) is FIRST
    assert "9x6" in refusal(replace(FIRST, width=9), plan=plan)
    assert "8x0" in refusal(replace(FIRST, height=0), plan=plan)


@pytest.mark.parametrize(
    "changed",
    [
        {"frames_decoded": -1}, {"frames_decoded": 2**999}, {"frames_decoded": 3_000_000}, {"packets_read": -1},
        {"seeks": -1}, {"seeks": 2**63}, {"damaged": -1}, {"width": -1}, {"height": -1}, {"container": "x" * 101},
        {"codec": "a\nb"}, {"stage_s": {"upload": 1.0}}, {"stage_s": {"decode": -0.1}}, {"stage_s": {"decode": 61.0}},
        {"entries": ENTRIES[:1]}, {"entries": ENTRIES * 2},
    ],
    ids=str,
)  # fmt: skip
def test_a_report_of_what_cannot_be_is_not_believed(changed):
    assert refusal(replace(REPORT, **changed)).startswith("a report ")


@pytest.mark.parametrize(
    "changed",
    [
        {"count": -1}, {"count": 4}, {"requested": -1}, {"requested": 2}, {"last_dhash": -1}, {"last_dhash": HASHES},
        {"error_code": Code.CANCELED}, {"error_code": Code.STORAGE_UNAVAILABLE}, {"error_message": "x" * 2001},
        {"warnings": (Warn("", "x"),)}, {"warnings": (Warn("a b", "x"),)}, {"warnings": (Warn("Odd", "x" * 1001),)},
        {"warnings": (Warn("Odd", "x"),) * 9},
    ],
    ids=str,
)  # fmt: skip
def test_a_report_on_an_entry_that_cannot_be_is_not_believed(changed):
    entries = (replace(ENTRIES[0], **changed), ENTRIES[1])
    assert refusal(replace(REPORT, entries=entries)).startswith("a report ")


@pytest.mark.parametrize(
    "message",
    [
        *(wire.Read(0, 0), wire.Read(-1, 5), wire.Read(SIZE - 4, 5), wire.Read(0, SIZE + 1), wire.Read(2**64, 1)),
        *(wire.Expect((0,), (0,)), wire.Expect((0, 1), (1,)), wire.Expect((SIZE,), (1,)), wire.Expect((-1,), (1,))),
        *(wire.Expect((0,) * 1025, (1,) * 1025), Progress(-0.01), Progress(99.0), Cuts((Fraction(1),))),
        *(wire.Started(), wire.Alive(), wire.Ready(7, seccomp=True)),
        *(wire.Failure(code, "so", retryable=False) for code in (Code.CANCELED, Code.EXPIRED, Code.WORKER_CRASHED)),
        wire.Failure(Code.STORAGE_UNAVAILABLE, "it costs no attempt", retryable=True),
        wire.Failure(Code.CORRUPT_MEDIA, "for ever", retryable=True),
    ],
    ids=lambda message: repr(message)[:50],
)
def test_what_is_out_of_place_is_not_believed(message):
    assert refusal(message)


@pytest.mark.parametrize(
    ("told", "cuts"),
    [([], ()), ([], (2, 1)), ([], (-1,)), ([], range(1, 1001)), ([Cuts((Fraction(1),))], (1,)), ([FIRST], (1,))],
)
def test_cuts_are_told_once_before_all_else_and_in_order(told, cuts):
    last = Cuts(tuple(map(Fraction, cuts)))
    assert refusal(*told, last, plan=replace(PLAIN, may_split=True)) == f"{len(cuts)} cuts"


def test_a_video_cannot_end_before_it_starts():
    cuts = Cuts((Fraction(1),), Fraction(-1))
    assert refusal(cuts, plan=replace(PLAIN, may_split=True)) == "1 cuts"
