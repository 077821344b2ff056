"""Playlists that lie, and segments that are damaged or missing: never a worse frame than of one file."""

import io
import random
import shutil
from fractions import Fraction

import pytest

from tests.playlists import FPS, Reading, at, captured, join, plan
from worker.errors import Code, TaskError
from worker.media.capture import capture
from worker.media.plan import Image
from worker.media.segments import LENGTH_BYTES, SLOT_BYTES, read_table


def rewritten(root, name, change):
    """A playlist beside the segments of `ts` whose lines are changed by `change`."""
    text = (root / "hls" / "ts" / "x.m3u8").read_text()
    (root / "hls" / "ts" / f"{name}.m3u8").write_text("\n".join(map(change, text.splitlines())))
    return f"ts/{name}.m3u8"


@pytest.mark.parametrize("duration", ["0", "1", "1.9", "2.1", "3", "4", "9", "600"])
def test_wrong_durations_cost_reading_not_exactness(root, duration):
    key = rewritten(root, f"lie-{duration}", lambda line: f"#EXTINF:{duration}," if "#EXTINF" in line else line)
    for wanted in ([3], [599], [70, 400], [120, 121, 555]):
        with Reading(root, key) as file:
            numbers, _ = captured(file, *(at(Fraction(number, FPS)) for number in wanted))
        assert numbers == [[number] for number in wanted]


def plain(root, key):
    """The segments of a playlist of one run as one MPEG-TS file, in which nothing is skipped."""
    with Reading(root, key) as file:
        data = b""
        for segment in read_table(file):
            file.seek(segment.slot * SLOT_BYTES)
            data += file.read(int.from_bytes(file.read(LENGTH_BYTES)))
    return io.BytesIO(data)


def outcome(file, wanted, *, segmented):
    """Where each captured frame starts, and its picture, or the error."""
    try:
        events = list(capture(file, plan(*(at(time) for time in wanted), segmented=segmented)))
    except TaskError as error:
        return error.code
    return [(event.entry, event.time_s, event.sha256) for event in events if isinstance(event, Image)]


def random_times(chance, end, count):
    return sorted(Fraction(chance.randint(0, end * 1000), 1000) for _ in range(count))


@pytest.mark.parametrize("parts", [("ts", "ts"), ("short", "ts"), ("ts", "short", "ts")], ids="-".join)
def test_a_discontinuity_that_is_not_declared_is_that_of_a_file(root, parts):
    name = f"undeclared-{'-'.join(parts)}"
    join(root, name, *parts)
    playlist = root / "hls" / f"{name}.m3u8"
    playlist.write_text(playlist.read_text().replace("#EXT-X-DISCONTINUITY\n", ""))
    whole = plain(root, f"{name}.m3u8")
    chance = random.Random(name)
    for count in (1, 1, 1, 2, 4, 8):
        wanted = random_times(chance, 25 * len(parts), count)
        with Reading(root, f"{name}.m3u8") as file:
            assert outcome(file, wanted, segmented=True) == outcome(whole, wanted, segmented=False), wanted


@pytest.mark.parametrize("seed", range(12))
def test_damaged_segments_give_no_worse_frames_than_a_damaged_file(root, seed):
    """Starting at a segment may even save a frame, since nothing of the segment before runs into it."""
    chance = random.Random(seed)
    folder = root / "hls" / f"damaged-{seed}"
    shutil.copytree(root / "hls" / "ts", folder)
    for _ in range(chance.choice((1, 3))):
        path = chance.choice(sorted(folder.glob("x*.ts")))
        data = bytearray(path.read_bytes())
        for _ in range(chance.choice((1, 20))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data[: chance.choice((len(data), len(data) // 2))])
    whole = plain(root, f"damaged-{seed}/x.m3u8")
    for wanted in random_times(chance, 23, 4):
        with Reading(root, f"damaged-{seed}/x.m3u8") as file:
            ((_, found, _),) = outcome(file, [wanted], segmented=True)
        ((_, expected, _),) = outcome(whole, [wanted], segmented=False)
        assert abs(found - wanted) <= abs(expected - wanted)


def test_a_place_where_nothing_is_good_gives_the_good_frame_before_it(root):
    folder = root / "hls" / "cut"
    shutil.copytree(root / "hls" / "ts", folder)
    for number in (10, 11):
        (folder / f"x{number}.ts").write_bytes((folder / f"x{number}.ts").read_bytes()[: 188 * 6])
    whole = plain(root, "cut/x.m3u8")
    with Reading(root, "cut/x.m3u8") as file:
        found = outcome(file, [21], segmented=True)
    assert found == outcome(whole, [21], segmented=False)
    assert found[0][1] < 20


def test_a_missing_segment_is_named_when_it_is_needed(root):
    key = rewritten(root, "missing", lambda line: line.replace("x11.ts", "gone.ts"))
    with Reading(root, key) as file:
        assert captured(file, at(5))[0] == [[125]]
    with Reading(root, key) as file, pytest.raises(TaskError, match=r"hls/ts/gone\.ts") as caught:
        captured(file, at("23.5"))
    assert caught.value.code == Code.RESOURCE_NOT_FOUND
