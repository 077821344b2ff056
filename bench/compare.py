"""Our capture and others' ways to do the same, in turn, several times: medians, and what each of them gave."""

import json
import re
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench import processes, sameness
from bench.jobs import Job
from bench.minimum import Coded, minimum, read, wanted
from bench.peers import Way
from bench.warm import Captured
from worker.media.plan import Mode

OURS = "frame-capture"
LONG_CPU_S = 8  # what takes more is run once


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one way. `frames_decoded` and `bytes_read` are None where a peer does not tell them.

    `same` counts the images that show the very frames that were asked for, None where that is not known.
    """

    cpu_s: float
    wall_s: float
    peak_bytes: int
    frames_decoded: int | None
    bytes_read: int | None
    images: int
    image_bytes: int
    same: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """A way's medians over `runs`, and the other facts of its last run."""

    way: str
    runs: int
    run: Run


@dataclass(frozen=True, slots=True)
class Comparison:
    """A job's rows, ours first; `fewest`: frames that it forces one to decode; `asked`: images, None where chosen."""

    job: Job
    rows: tuple[Row, ...]
    fewest: int
    asked: int | None


def compare(job: Job, home: Path, scenes: Path, repeats: int) -> Comparison:
    """Measure a job, below an existing directory `home`."""
    coded = _coded(job.file)
    ways: dict[str, Callable[[], Run]] = {OURS: lambda: _ours(job, home)}
    ways |= {way.name: lambda way=way: _theirs(job, way, home, scenes) for way in job.ways}
    done: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, once in ways.items():
            if not done[name] or done[name][0].cpu_s < LONG_CPU_S:
                done[name].append(once())
    rows = tuple(Row(name, len(runs), _median(runs)) for name, runs in done.items())
    chosen = job.selection.mode is Mode.DHASH
    asked = None if chosen else len(wanted(coded, job.selection))
    return Comparison(job, rows, minimum(coded, [job.selection]), asked)


@cache
def _coded(file: Path) -> Coded:
    return read(file)


def _median(runs: list[Run]) -> Run:
    last = runs[-1]
    cpu_s, wall_s = (statistics.median(getattr(run, name) for run in runs) for name in ("cpu_s", "wall_s"))
    peak_bytes = int(statistics.median(run.peak_bytes for run in runs))
    facts = (last.frames_decoded, last.bytes_read, last.images, last.image_bytes, last.same)
    return Run(cpu_s, wall_s, peak_bytes, *facts)


def _ours(job: Job, home: Path) -> Run:
    done, folder = warm(job, home)
    _check(job, done.pts)
    images = len(list(folder.iterdir()))
    same = None if job.selection.mode is Mode.DHASH else images
    return Run(
        done.cpu_s, done.wall_s, done.peak_bytes, done.frames_decoded, done.bytes_read, images, done.image_bytes, same
    )


def warm(job: Job, home: Path) -> tuple[Captured, Path]:
    """Capture in a process that has captured before; gives also the folder of the images."""
    folder, listed = _emptied(home / "images"), home / "task.json"
    listed.write_text(json.dumps(job.message))
    command = [sys.executable, "-m", "bench.warm", str(listed), str(job.file), str(folder)]
    return Captured(**json.loads(processes.run(command).output)), folder


def _check(job: Job, pts: list[int]) -> None:
    """Raise `RuntimeError` unless our frames are those of the specification."""
    coded = _coded(job.file)
    expected = {coded.pictures[place].pts for place in wanted(coded, job.selection)}
    if not set(pts) <= expected or (job.selection.mode is not Mode.DHASH and set(pts) != expected):
        raise RuntimeError(f"{job.name}: {len(pts)} frames that are not the {len(expected)} wanted")


def _theirs(job: Job, way: Way, home: Path, scenes: Path) -> Run:
    folder = _emptied(home / "images")
    done = [processes.run([part.format(folder=folder) for part in command]) for command in way.commands]
    told = "\n".join(each.errors for each in done)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    if not sizes:
        raise RuntimeError(f"{way.name} wrote no image: {way.commands}")
    cpu_s, wall_s = sum(each.cpu_s for each in done), sum(each.wall_s for each in done)
    peak_bytes = max(each.peak_bytes for each in done)
    same = _same(job, folder, scenes)
    return Run(cpu_s, wall_s, peak_bytes, frames_decoded(told), bytes_read(told), len(sizes), sum(sizes), same)


def _same(job: Job, folder: Path, scenes: Path) -> int | None:
    if not job.scenes or job.selection.mode is Mode.DHASH:
        return None
    coded = _coded(job.file)
    places = wanted(coded, job.selection)
    first = coded.pictures[coded.shown[0]].pts
    times_s = sorted((coded.pictures[place].pts - first) * coded.time_base for place in places)
    frames = len(sameness.thumbnails(scenes))
    return sameness.shown(folder, scenes, [round(time_s * sameness.FPS) % frames for time_s in times_s])


def frames_decoded(told: str) -> int | None:
    """Add up what ffmpeg says it decoded; None where it says nothing of that."""
    counts = re.findall(r"\(video\): \d+ packets read \(\d+ bytes\); (\d+) frames decoded", told)
    return sum(map(int, counts)) if counts else None


def bytes_read(told: str) -> int | None:
    """Add up what ffmpeg says it read from files; None where it says nothing of that."""
    counts = re.findall(r"Statistics: (\d+) bytes read", told)
    return sum(map(int, counts)) if counts else None


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
