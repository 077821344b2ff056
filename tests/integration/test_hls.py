"""HLS: the right frames of real and made playlists, from no more segments than they need.

The truth is made without our code: FFmpeg decodes all segments of a run from its start, through PyAV, or a frame says
its number.
"""

import hashlib
import io
import itertools
import json
import random
import shutil
from contextlib import closing
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import pytest
from PIL import Image as Picture

from devkit.counter import read_number
from tests.formats import tally
from tests.playlists import FPS, KINDS, OPEN_GOPS, Reading, at, captured, grid, join, make, number_of, plan
from worker.errors import Code, TaskError
from worker.lone import run_task
from worker.media.capture import capture
from worker.media.joined import JoinedReader
from worker.media.plan import Image, Limits, Mode, Selection
from worker.media.runs import runs_of
from worker.media.segments import LENGTH_BYTES, SLOT_BYTES, read_table
from worker.settings import Pool, Settings, Store

REAL = Path(__file__).parents[2].parent / "shared" / "media" / "hls"


def digest(frame):
    return hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()


def decoded(file):
    """All frames from the start, as (seconds, digest), each run's after the end of the run before; and the end."""
    frames, offset = [], Fraction(0)
    for _, run in itertools.groupby(read_table(file), lambda segment: segment.run):
        data, init_slot = b"", 0
        for segment in run:
            for slot in {segment.init_slot, segment.slot} - {init_slot, 0} if segment.init_slot else {segment.slot}:
                file.seek(slot * SLOT_BYTES)
                data += file.read(int.from_bytes(file.read(LENGTH_BYTES)))
            init_slot = segment.init_slot
        with av.open(io.BytesIO(data)) as container:
            found = [
                (frame.pts * frame.time_base, frame.duration, digest(frame)) for frame in container.decode(video=0)
            ]
            stream = container.streams.video[0]
            duration = found[-1][1] * stream.time_base or 1 / stream.guessed_rate
        frames += [(offset + time - found[0][0], sha) for time, _, sha in found]
        offset += found[-1][0] - found[0][0] + duration
    return frames, offset


def shown(frames, time):
    return [sha for start, sha in frames if start <= max(time + Fraction(1, 1000), 0)][-1]


FOLDERS = {
    "hls_plain_ts_bbb_trailer/hls.m3u8": 812,
    "hls_rollover_ts/playlist.m3u8": 480,
    "hls_fmp4/playlist.m3u8": 30,
    "hls_cmaf_audio_rendition/playlist.m3u8": 90,
    "hls_byterange_bipbop/master.m3u8": 1794,
    "hls_byterange_single/manifest.m3u8": 58,
    "hls_multivideo_red_green_blue/master.m3u8": 120,
    "hls_timestamp_jump/index.m3u8": 205,
}


@cache
def truth(key):
    with Reading(REAL.parent, key) as file:
        return decoded(file)


def real(key, what, found, wanted):
    """Assert that all frames are the wanted ones, and count them for `docs/formats.md`."""
    tally("hls", "h264", f"{what}, real files", found, wanted)
    assert found == wanted, key


@pytest.mark.parametrize("key", FOLDERS)
def test_real_playlists_give_the_frames_of_a_full_decode_at_random_times(key):
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there")
    frames, end = truth(key)
    assert len(frames) == FOLDERS[key]
    chance = random.Random(key)
    for _ in range(6):
        times = sorted(Fraction(chance.randint(0, int(end * 1000)), 1000) for _ in range(chance.choice((1, 2, 6))))
        with Reading(REAL.parent, key) as file:
            parts = runs_of(file, Limits(), segmented=file.segmented)
            with parts[0].open() as media, closing(JoinedReader(parts, media)) as reader:
                found = [digest(reader.at(time).frame) for time in times]
        real(key, "frames at random times", found, [shown(frames, time) for time in times])


@pytest.mark.parametrize("key", FOLDERS)
def test_real_playlists_give_every_frame_in_order(key):
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there")
    frames, end = truth(key)
    with Reading(REAL.parent, key) as file:
        parts = runs_of(file, Limits(), segmented=file.segmented)
        with parts[0].open() as media, closing(JoinedReader(parts, media)) as reader:
            shot = reader.at(Fraction(0))
            found = [(shot.time_s, digest(shot.frame))]
            while (shot := reader.following()) is not None:
                found.append((shot.time_s, digest(shot.frame)))
            assert reader.current().end_s == end
    real(key, "every frame in turn", found, frames)


# --- made playlists, whose frames say their number


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    for kind in KINDS:
        make(folder, kind, kind=kind)
    make(folder, "hevc", kind="fmp4", codec="libx265")
    make(folder, "short", seconds=4)
    make(folder, "long-gops", gop=150, seconds=30)
    for name, kind in (("open-gops", "ts"), ("open-gops-fmp4", "fmp4")):
        make(folder, name, kind=kind, options={"preset": "veryfast", "x264-params": OPEN_GOPS})
    join(folder, "joined", "ts", "ts", "fmp4", "hevc")
    return folder


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


# --- discontinuities

PARTS = 4
PART = 24 * FPS


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


# --- playlists that lie


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


def test_audio_without_a_picture_is_not_found():
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there")
    with Reading(REAL.parent, "hls_audio_only_aac/manifest.m3u8") as file, pytest.raises(TaskError) as caught:
        captured(file, at(0))
    assert caught.value.code == Code.RESOURCE_NOT_FOUND
    assert "no video stream and no embedded picture" in caught.value.message


# --- runs in which nothing decodes


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


# --- through the decoder process


async def test_a_task_captures_a_playlist(root):
    entries = [
        {"Format": "png", "URI": "file://out/at-{index}.png", "StartTime": 20, "Number": 1},
        {"Format": "png", "URI": "file://out/every-{index}.png", "Interval": 20},
    ]
    message = {
        "ProjectName": "demo",
        "Sources": [{"URI": "file://hls/joined.m3u8"}],
        "Targets": [{"Image": {"Snapshots": entries}}],
    }
    events = []
    settings = Settings(store=Store(kind="local", root=root), pool=Pool(slots=1))
    await run_task(settings, json.dumps(message).encode(), lambda _, body: events.append(json.loads(body)))
    assert events[-1]["data"]["Status"] == "Succeeded", events[-1]
    for name, places in (("at", [500]), ("every", range(0, PARTS * PART, 500))):
        pictures = [Picture.open(root / "out" / f"{name}-{index}.png") for index, _ in enumerate(places, 1)]
        assert [read_number(picture, size=(320, 180)) for picture in pictures] == [place % PART for place in places]


async def test_a_task_whose_playlist_names_another_host_fails_for_good(root):
    (root / "hls" / "evil.m3u8").write_text("#EXTM3U\n#EXTINF:2,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    message = {
        "ProjectName": "demo",
        "Sources": [{"URI": "file://hls/evil.m3u8"}],
        "Targets": [{"Image": {"Snapshots": [{"Format": "jpg", "URI": "file://out/evil-{index}.jpg"}]}}],
    }
    events = []
    settings = Settings(store=Store(kind="local", root=root), pool=Pool(slots=1))
    await run_task(settings, json.dumps(message).encode(), lambda _, body: events.append(json.loads(body)))
    assert (events[-1]["data"]["Status"], events[-1]["data"]["Code"]) == ("Failed", "AccessDenied")
    assert "'http://127.0.0.1:9/a.ts'" in events[-1]["data"]["Message"]
    assert not list((root / "out").glob("evil*"))
