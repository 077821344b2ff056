"""Made playlists of every kind: the right frames in every mode, from no more segments than they need."""

import random
from fractions import Fraction

import pytest

from tests.formats import tally
from tests.playlists import FPS, KINDS, Reading, at, captured, grid, make
from worker.media.plan import Mode, Selection


def made(name, what, found, wanted):
    """Assert that all entries gave the frames of the wanted numbers, and count them for `docs/formats.md`."""
    tally("hls", "libx265" if name == "hevc" else "libx264", f"{what}, made streams", found, wanted)
    assert found == wanted


@pytest.mark.parametrize("name", [*KINDS, "hevc", "long-gops", "open-gops", "open-gops-fmp4"])
def test_frames_at_random_times(root, name):
    chance = random.Random(name)
    frames = 24 * FPS
    for _ in range(4):
        wanted = sorted(chance.sample(range(frames), chance.choice((1, 2, 5))))
        with Reading(root, f"{name}/x.m3u8") as file:
            selections = [at(Fraction(number, FPS) + Fraction(chance.randint(0, 38), 1000)) for number in wanted]
            numbers, report = captured(file, *selections)
        made(name, "interval", numbers, [[number] for number in wanted])
        assert not any(entry.warnings for entry in report.entries)


@pytest.mark.parametrize("name", [*KINDS, "hevc"])
def test_modes(root, name):
    entries = (
        grid("3.7"),
        Selection(Mode.KEYFRAME),
        Selection(Mode.AVERAGE, number=5),
        Selection(Mode.DHASH, interval_s=Fraction(1)),
    )
    with Reading(root, f"{name}/x.m3u8") as file:
        (spaced, keys, average, changes), report = captured(file, *entries)
    made(name, "interval", spaced, [int(k * Fraction("3.7") * FPS) for k in range(7)])
    made(name, "keyframe", keys, list(range(0, 600, 50)))
    made(name, "average", average, [0, 120, 240, 360, 480])
    made(name, "dhash", changes, [75 * k for k in range(8)])
    assert not any(entry.warnings for entry in report.entries)


@pytest.mark.parametrize("name", ["ts", "fmp4", "aes"])
def test_only_the_segments_that_are_needed_are_read(root, name):
    with Reading(root, f"{name}/x.m3u8") as file:
        numbers, _ = captured(file, at("21.5"))
        assert numbers == [[537]]
        assert len(file.segments) <= 4, file.segments  # the start, which the times count from, and the place
        assert file.segments[-1].endswith(("x10.ts", "x10.m4s", "x9.ts", "x9.m4s"))
    with Reading(root, f"{name}/x.m3u8") as file:
        numbers, report = captured(file, at(5), at(20))
        assert numbers == [[125], [500]]
        assert len(file.segments) <= 6, file.segments
        assert report.seeks <= 2


def test_all_keyframes_alone_read_the_playlist_once(root):
    with Reading(root, "ts/x.m3u8") as file:
        numbers, report = captured(file, Selection(Mode.KEYFRAME, start_s=Fraction(19)))
        assert numbers == [[500, 550]]
        assert len(file.segments) <= 6
        assert report.seeks == 1


def test_segments_without_a_keyframe_are_no_place_to_start(root):
    with Reading(root, "long-gops/x.m3u8") as file:
        numbers, _ = captured(file, at("29.9"), at("17.5"))
    assert numbers == [[747], [437]]


def test_a_clock_that_overflows_is_one_timeline_wherever_it_is_entered(tmp_path):
    """The 33 bits of MPEG-TS are full 68.7 s after the start: further than FFmpeg looks ahead of its own accord."""
    make(tmp_path, "overflow", seconds=90, fps=5, gop=10, start_s=95_375)
    for wanted in ([80], [10, 60, 75, 88], [67, 68, 69, 70]):
        with Reading(tmp_path, "overflow/x.m3u8") as file:
            numbers, _ = captured(file, *map(at, wanted))
            assert len(file.segments) <= 3 * (1 + len(wanted))
        assert numbers == [[time * 5] for time in wanted]
