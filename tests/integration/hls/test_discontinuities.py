"""Discontinuities: runs follow each other by their frames, whatever changes between them, and past dead ones."""

import random
import shutil
from fractions import Fraction

import pytest

from tests.playlists import FPS, PART, PARTS, Reading, at, captured, grid, join, number_of, plan
from worker.errors import Code, TaskError
from worker.media.capture import capture
from worker.media.plan import Image, Mode, Selection
from worker.media.segments import read_table


@pytest.mark.parametrize("seed", range(4))
def test_runs_follow_each_other_by_their_frames(root, seed):
    """Container, codec and clock change at each discontinuity; every run starts where the last one ended."""
    chance = random.Random(seed)
    places = sorted(chance.sample(range(PARTS * PART), 3))
    with Reading(root, "joined.m3u8") as file:
        numbers, _ = captured(file, *(at(Fraction(place, FPS) + Fraction(1, 100)) for place in places))
    assert numbers == [[place % PART] for place in places]


def test_a_frame_of_a_later_run_needs_only_the_ends_of_those_before(root):
    with Reading(root, "joined.m3u8") as file:
        numbers, _ = captured(file, at(60))
        assert numbers == [[300]]
        assert len(file.segments) <= 12, file.segments
        assert len(read_table(file)) == 48


def test_modes_across_discontinuities(root):
    entries = (grid(11), Selection(Mode.KEYFRAME, start_s=Fraction(40)), Selection(Mode.AVERAGE, number=4))
    with Reading(root, "joined.m3u8") as file:
        (spaced, keys, average), _ = captured(file, *entries)
    assert spaced == [place % PART for place in range(0, PARTS * PART, 275)]
    assert keys == [place % PART for place in range(1000, PARTS * PART, 50)]
    assert average == [0, 0, 0, 0]  # each run's first, in two of them with the same pts


def test_keyframes_alone_across_discontinuities(root):
    with Reading(root, "joined.m3u8") as file:
        numbers, _ = captured(file, Selection(Mode.KEYFRAME, start_s=Fraction(40), number=20))
    assert numbers == [[place % PART for place in range(1000, 2000, 50)]]


def test_every_frame_across_a_discontinuity(root):
    with Reading(root, "joined.m3u8") as file:
        events = capture(file, plan(grid(0, 60, start=23)))
        images = [event for event in events if isinstance(event, Image)]
    assert [number_of(image) for image in images] == [place % PART for place in range(575, 635)]
    assert [image.time_s for image in images] == [Fraction(place, FPS) for place in range(575, 635)]


def test_the_same_frame_number_in_two_runs_is_not_a_repeat(root):
    with Reading(root, "joined.m3u8") as file:
        events = capture(file, plan(grid(24, 2)))
        images = [event for event in events if isinstance(event, Image)]
    assert [(image.time_s, image.repeated) for image in images] == [(0, False), (24, False)]


def with_dead_runs(root, name, parts, dead):
    """A playlist of runs in which the segments of `dead` ones are garbage; the others show their numbers."""
    for part in set(dead.values()):
        shutil.rmtree(root / "hls" / part, ignore_errors=True)
        shutil.copytree(root / "hls" / "ts", root / "hls" / part)
        for path in (root / "hls" / part).glob("x*.ts"):
            whole = path.read_bytes()
            kinds = {"text": b"<html>404</html>" * 100, "zeros": bytes(len(whole)), "blank": whole[: 188 * 3] * 20}
            path.write_bytes(kinds[part.removeprefix("dead-")])
    join(root, name, *(dead.get(number, part) for number, part in enumerate(parts)))
    return f"{name}.m3u8"


@pytest.mark.parametrize("kind", ["text", "zeros", "blank"])
@pytest.mark.parametrize("dead", [(0,), (1,), (0, 1), (1, 2), (3,), (0, 2)], ids=str)
def test_in_place_of_a_run_that_is_dead_the_nearest_good_frame_is_given(root, kind, dead):
    parts = ["ts", "ts", "fmp4", "hevc"]
    dead = dict.fromkeys(dead, f"dead-{kind}")
    key = with_dead_runs(root, f"joined-dead-{kind}-{'-'.join(map(str, dead))}", parts, dead)
    live = [number for number in range(PARTS) if number not in dead]

    def nearest(place):
        run = place // PART
        if run in live:
            return place % PART
        before = [number for number in live if number < run]
        return PART - 1 if before else 0

    places = [n * PART + at for n in range(live[-1] + 1) for at in (0, 130, PART - 1)]
    for wanted in (places, *([place] for place in places)):
        with Reading(root, key) as file:
            numbers, report = captured(file, *(at(Fraction(place, FPS)) for place in wanted))
        assert numbers == [[nearest(place)] for place in wanted]
        if any(place // PART in dead for place in wanted):
            assert "FrameDamaged" in {warning.code for warning in report.entries[0].warnings}
    entries = (grid(7), Selection(Mode.KEYFRAME), Selection(Mode.AVERAGE, number=5))
    with Reading(root, key) as file:
        (spaced, keys, average), _ = captured(file, *entries)
    end = (live[-1] + 1) * PART
    assert spaced == [nearest(place) for place in range(0, end, 7 * FPS)]
    assert keys == [place % PART for place in range(0, end, 50) if place // PART in live]
    shown = [nearest(k * end // 5) for k in range(5)]
    assert average == [number for k, number in enumerate(shown) if not k or shown[k - 1] != number]


def test_where_all_runs_are_dead_it_is_said(root):
    key = with_dead_runs(root, "all-dead", ["ts", "ts"], {0: "dead-blank", 1: "dead-text"})
    with Reading(root, key) as file, pytest.raises(TaskError) as caught:
        captured(file, at(0))
    assert caught.value.code == Code.CORRUPT_MEDIA
