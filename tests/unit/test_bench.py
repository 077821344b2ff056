"""The benchmark's pure parts: the commands it compares with, how it reads what others tell, and how it judges."""

import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from bench import compare, latency, peers, processes, report, sameness
from bench.jobs import dense_jobs, long_jobs, middle, other_jobs
from bench.limits import Recipe, make
from bench.loops import LOOPS
from bench.minimum import Coded, Picture, minimum, needed, read, wanted
from bench.reading import index_bytes, inflate
from bench.serving import succeeded
from worker.media.plan import Mode, Selection

FILE = Path("/media/film.mp4")
MEDIA = dict.fromkeys(("hevc", "4k", "short"), FILE)
JOBS = [*long_jobs(FILE, 600), middle(FILE, 600), *dense_jobs(FILE), *other_jobs(MEDIA)]


def after(option, command):
    return [value for each, value in pairwise(command) if each == option]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_each_command_reads_the_jobs_file_and_writes_into_the_folder(job):
    for way in job.ways:
        for command in way.commands:
            assert str(FILE) in command
            assert any(part.startswith("{folder}") for part in command)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_bar_is_about_one_of_the_jobs_ways(job):
    assert {bar.peer for bar in job.bars} <= {way.name for way in job.ways}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_python_loops_are_those_that_there_are(job):
    scripts = [command for way in job.ways for command in way.commands if "loops.py" in command[1]]
    assert {command[2] for command in scripts} <= LOOPS.keys()


def test_frames_are_sought_at_the_times_that_the_request_names():
    job = next(job for job in JOBS if job.selection.mode is Mode.AVERAGE)
    (way,) = job.ways
    assert [after("-ss", command) for command in way.commands] == [[str(60.0 * number)] for number in range(10)]
    assert after("-ss", peers.seeks(FILE, [300]).commands[0]) == ["300"]


# --- the fewest frames


def video(kinds, *, leading=()):
    """A video of one letter a picture, in the order of both times and decoding: a key, a reference, a B-frame."""
    pictures = tuple(Picture(pts, kind == "K", kind != "b", 0, 10) for pts, kind in enumerate(kinds))
    for place, pts in leading:
        pictures = (*pictures[:place], replace(pictures[place], pts=pts), *pictures[place + 1 :])
    return Coded(pictures, Fraction(1), Fraction(len(pictures)), frozenset())


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({0}, {0}),
        ({3}, {0, 1, 3}),
        ({4}, {0, 1, 4}),
        ({3, 4}, {0, 1, 3, 4}),
        ({6}, {5, 6}),
        ({4, 8}, {0, 1, 4, 5, 6, 8}),
    ],
)
def test_needed_are_the_references_from_the_governing_keyframe_on(places, expected):
    assert needed(video("KPbbPKPbP"), places) == expected


def test_a_picture_shown_before_the_keyframe_that_it_follows_needs_the_one_before():
    open_gop = video("KPPKbP", leading=[(3, 4), (4, 3)])
    assert needed(open_gop, {4}) == {0, 1, 2, 3, 4}
    assert needed(open_gop, {5}) == {3, 5}


def test_pictures_of_higher_layers_are_not_needed():
    layered = video("KPPP")
    pictures = tuple(replace(picture, layer=place % 2) for place, picture in enumerate(layered.pictures))
    assert needed(replace(layered, pictures=pictures), {2}) == {0, 2}
    assert needed(replace(layered, pictures=pictures), {3}) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), {0, 1, 2, 3, 4, 5, 6, 7, 8}),
        (Selection(interval_s=Fraction(4)), {0, 4, 8}),
        (Selection(Mode.DHASH, interval_s=Fraction(4), number=1), {0, 4, 8}),
        (Selection(start_s=Fraction(5, 2), interval_s=Fraction(2), number=2), {2, 4}),
        (Selection(Mode.AVERAGE, number=3), {0, 3, 6}),
        (Selection(Mode.KEYFRAME, start_s=Fraction(1)), {5}),
    ],
)
def test_wanted_are_the_frames_of_the_specification(selection, expected):
    assert wanted(video("KPbbPKPbP"), selection) == expected


def test_what_several_entries_want_is_counted_once():
    assert minimum(video("KPbbPKPbP"), [Selection(), Selection(Mode.KEYFRAME)]) == 9


def test_pictures_are_read_as_the_encoder_tells_them(tmp_path):
    path = make(tmp_path / "video.mp4", Recipe("libx264", 12), frames=30)
    coded = read(path)
    with av.open(path) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert [picture.start for picture in coded.pictures] == keys
    assert coded.end_s == Fraction(30, 25)
    assert 0 < sum(not picture.referenced for picture in coded.pictures) < 24


# --- what was read


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_the_index_is_all_but_the_pictures(tmp_path, suffix):
    path = inflate(make(tmp_path / "small.mp4", Recipe("libx264", 12), frames=30), tmp_path / f"large.{suffix}")
    samples = sum(picture.size for picture in read(path).pictures)
    rest = path.stat().st_size - samples
    assert rest - 1000 < index_bytes(path) <= rest  # blocks have headers of a few bytes


# --- what others tell

TOLD = """\
[AVIOContext @ 0x1] Statistics: 137953 bytes read, 3 seeks
  Input stream #0:0 (video): 26 packets read (32863 bytes); 25 frames decoded; 0 decode errors;
  Input stream #0:1 (audio): 9 packets read (900 bytes); 7 frames decoded (7168 samples);
[AVIOContext @ 0x2] Statistics: 1000 bytes read, 0 seeks
  Input stream #1:0 (video): 2 packets read (63 bytes); 1 frames decoded;
"""


def test_what_ffmpeg_tells_of_its_inputs_is_added_up_and_silence_is_no_zero():
    assert compare.frames_decoded(TOLD) == 26
    assert compare.bytes_read(TOLD) == 138_953
    assert compare.frames_decoded("") is None
    assert compare.bytes_read("") is None


def test_images_are_recognised_among_all_frames(tmp_path):
    random = np.random.default_rng(1)
    pictures = (
        random.integers(0, 256, (5, 540, 960, 3), np.uint8) // np.arange(1, 6, dtype=np.uint8)[:, None, None, None]
    )
    minute = tmp_path / "minute.mkv"
    with av.open(minute, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 960, 540, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    folder = tmp_path / "images"
    folder.mkdir()
    for name, number in enumerate((0, 3, 4)):
        sameness.Image.fromarray(pictures[number]).save(folder / f"{name}.jpg", quality=90)
    assert sameness.shown(folder, minute, [0, 3, 4]) == 3
    assert sameness.shown(folder, minute, [0, 2, 4]) == 2
    assert sameness.shown(folder, minute, [3, 1]) == 1


def test_a_stat_line_is_read_whatever_the_program_is_called(monkeypatch):
    monkeypatch.setattr(processes, "_TICKS_PER_S", 100)
    line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 100 0 0"
    assert processes.parse_stat(line) == processes.Stat(42, 7, 2.0, 0.5)


def test_a_commands_cpu_time_includes_that_of_its_children():
    burn = "while time.process_time() < 0.2: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time\\n{burn}'], check=True)"
    done = processes.run(["python3", "-c", child])
    assert done.wall_s >= 0.2
    assert done.cpu_s >= 0.2


def test_a_commands_memory_is_its_own_not_that_of_who_started_it():
    large = bytearray(200_000_000)
    assert 0 < processes.run(["true"]).peak_bytes < len(large) / 4


def test_a_command_that_fails_is_an_error_with_its_words():
    with pytest.raises(RuntimeError, match=r"exit status 3\nwoe"):
        processes.run(["sh", "-c", "echo woe >&2; exit 3"])


def event(status):
    return json.dumps({"data": {"Status": status, "Code": "CorruptMedia", "Message": "no frame"}}).encode()


def test_only_success_counts_and_another_end_is_an_error():
    assert succeeded(event("Succeeded"))
    assert not succeeded(event("Running"))
    with pytest.raises(RuntimeError, match="Failed: CorruptMedia no frame"):
        succeeded(event("Failed"))


# --- judging


def test_bars_compare_cpu_seconds_with_the_peer_that_they_name():
    job = next(job for job in JOBS if len(job.bars) == 2)
    run = compare.Run(1.0, 9.0, 1, 1, 1, 1, 1, None)
    rows = [compare.Row(compare.OURS, 1, run)]
    rows += [
        compare.Row(bar.peer, 1, replace(run, cpu_s=cpu_s)) for bar, cpu_s in zip(job.bars, (2.0, 4.0), strict=True)
    ]
    first, second = report.verdicts_of(compare.Comparison(job, tuple(rows), 1, 1))
    assert (first.limit, first.ratio, first.passed) == (0.55, 0.5, True)
    assert (second.limit, second.ratio, second.passed) == (0.10, 0.25, False)


def test_one_frame_is_judged_by_wall_time_without_the_interpreters_start():
    walls = {latency.FFMPEG: 2.0, latency.WARM: 1.0, latency.RUN: 3.5, latency.PYTHON: 0.5, latency.FFMPEG_FREE: 1.0}
    walls[latency.SERVED] = 3.0
    assert [verdict.ratio for verdict in latency.verdicts(walls)] == [0.5, 1.5, 3.0]


def test_tables_are_markdown():
    assert report.table(["a", "b"], [["c", "1"]]) == "| a | b |\n| --- | ---: |\n| c | 1 |"
