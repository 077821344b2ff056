"""The benchmark's pure parts: the commands it compares with, and how it reads what others tell."""

import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from bench import compare, processes, report
from bench.jobs import Job
from bench.peer import Builder, sizing, times
from bench.serving import LIMIT_BYTES, Serving, succeeded
from worker.media.plan import Mode, Rendition, ScaleType, Selection
from worker.messages.examples import EXAMPLE_TASKS


def job(name):
    file = "song.mp3" if name == "h-audio-cover" else "film.mp4"
    return Job(name, EXAMPLE_TASKS[name], Path("/media", file), 60)


def after(option, command):
    return [value for each, value in pairwise(command) if each == option]


def ways(name, threads=1):
    return Builder(job(name), Path("/out"), threads).ways()


@pytest.mark.parametrize("name", EXAMPLE_TASKS)
def test_each_command_reads_the_jobs_file_and_writes_into_the_folder(name):
    for way in ways(name):
        for command in way.commands:
            assert set(after("-i", command)) == {str(job(name).file)}
            assert command[-1].startswith("/out/")


@pytest.mark.parametrize("name", EXAMPLE_TASKS)
def test_one_thread_is_asked_for_at_every_input_and_by_default_nowhere(name):
    for way in ways(name, threads=1):
        assert all(command.count("-threads") >= command.count("-i") for command in way.commands)
    assert not [way for way in ways(name, threads=0) for command in way.commands if "-threads" in command]


def test_several_times_can_be_had_in_three_ways_which_ask_for_the_same_times():
    alone, together, filtered = ways("c-segment")
    expected = ["11.0", "15.0", "19.0", "23.0", "27.0"]
    assert [after("-ss", command) for command in alone.commands] == [[each] for each in expected]
    (command,) = together.commands
    assert after("-ss", command) == expected
    (command,) = filtered.commands
    assert after("-ss", command) == ["11.0"]
    assert after("-vf", command) == ["fps=1/4:round=up,scale=iw*1/2:ih*1/2"]
    assert after("-frames:v", command) == ["5"]


def test_a_threshold_becomes_a_scene_filter_and_a_number_a_group_for_each_frame():
    assert "select='gt(scene,0.15)'" in str(ways("d-events"))
    assert "thumbnail=n=12" in str(ways("e-representative"))


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(Mode.INTERVAL, interval_s=Fraction(10)), [0, 10, 20, 30, 40, 50]),
        (Selection(Mode.INTERVAL, Fraction(55), Fraction(4)), [55, 59]),
        (Selection(Mode.INTERVAL, Fraction(5), number=1), [5]),
        (Selection(Mode.AVERAGE, Fraction(20), number=3), [20, Fraction(100, 3), Fraction(140, 3)]),
    ],
)
def test_times_are_those_of_the_specification(selection, expected):
    assert times(selection, 60) == expected


def test_sizes_become_filters_and_unknown_ones_an_error():
    assert sizing(Rendition()) == []
    crop = Rendition(width=512, height=256, scale_type=ScaleType.CROP)
    assert sizing(crop) == ["scale=512:256:force_original_aspect_ratio=increase", "crop=512:256"]
    with pytest.raises(ValueError, match="filters for no size"):
        sizing(replace(crop, scale_type=ScaleType.FILL))


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


def test_a_stat_line_is_read_whatever_the_program_is_called(monkeypatch):
    monkeypatch.setattr(processes, "_TICKS_PER_S", 100)
    line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 100 0 0"
    assert processes.parse_stat(line) == processes.Stat(42, 7, 2.0, 0.5)


def test_a_commands_cpu_time_includes_that_of_its_children():
    burn = "while time.process_time() < 0.2: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time\\n{burn}'], check=True)"
    assert processes.run(["python3", "-c", child]).cpu_s >= 0.2


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


@pytest.mark.parametrize(
    ("ready_bytes", "after_bytes", "expected"),
    [(LIMIT_BYTES, LIMIT_BYTES, False), (LIMIT_BYTES + 1, 0, True), (0, LIMIT_BYTES + 1, True)],
)
def test_too_much_memory_at_either_time_is_too_much(ready_bytes, after_bytes, expected):
    assert Serving(2, ready_bytes, after_bytes, 1, 1.0, 0.1, 0.1).too_large is expected


def test_columns_line_up():
    assert report.table([("a", "b", "c"), ("long", "10", "right")]) == "a      b  c\nlong  10  right"
    assert report.ratio(1, 4) == "0.25"
    assert report.ratio(1, 0) == "n/a"
