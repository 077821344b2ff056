"""Our capture and ffmpeg's in the same run, job by job: first ours, in one warm process, then ffmpeg's processes."""

import json
import re
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import processes
from bench.jobs import Job
from bench.peer import Builder, Way
from bench.warm import Cost

SIDE_RUNS = 3  # of what is told beside the comparison itself, so that it all stays below three minutes


@dataclass(frozen=True, slots=True)
class Peer:
    """What ffmpeg needed in its best way with one thread: the median CPU seconds of all its processes, and facts."""

    way: str
    cpu_s: float
    frames_decoded: int | None
    bytes_read: int | None
    images: int
    image_bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """A job's figures. `run_cpu_s` is that of a whole `frame-capture run`, start-up and all, where it was measured."""

    job: str
    ours: Cost
    run_cpu_s: float | None
    peer: Peer
    peer_default_threads_cpu_s: float


def compare(jobs: Sequence[Job], home: Path, repeats: int, *, whole_runs: bool) -> list[Row]:
    """Measure the jobs, below an existing directory `home`."""
    costs = warm(jobs, home, repeats)
    return [_row(job, cost, home, repeats, whole_runs=whole_runs) for job, cost in zip(jobs, costs, strict=True)]


def warm(jobs: Sequence[Job], home: Path, repeats: int) -> list[Cost]:
    """Measure our captures in one warm process."""
    listed = home / "jobs.json"
    listed.write_text(json.dumps([[job.message, str(job.file)] for job in jobs]))
    done = processes.run([sys.executable, "-m", "bench.warm", str(listed), str(repeats)])
    return [Cost(**json.loads(line)) for line in done.output.splitlines()]


def _row(job: Job, ours: Cost, home: Path, repeats: int, *, whole_runs: bool) -> Row:
    folder = home / "ffmpeg"
    way, peer = _best(Builder(job, folder, threads=1).ways(), folder)
    (default,) = (each for each in Builder(job, folder, threads=0).ways() if each.name == way.name)
    spent: dict[str, list[float]] = {"run": [], "one": [], "default": []}
    for number in range(repeats):
        spent["one"].append(_cpu_s(way))
        if number < SIDE_RUNS:
            spent["default"].append(_cpu_s(default))
        if number < SIDE_RUNS and whole_runs:
            spent["run"].append(_whole_run(job, home))
    median = {name: statistics.median(costs) for name, costs in spent.items() if costs}
    return Row(job.name, ours, median.get("run"), replace(peer, cpu_s=median["one"]), median["default"])


def _cpu_s(way: Way) -> float:
    return sum(processes.run(command).cpu_s for command in way.commands)


def _whole_run(job: Job, home: Path) -> float:
    """Measure `frame-capture run` on a local store with the file in the message's place."""
    root = _emptied(home / "buckets")
    source = root / job.location.bucket / job.location.key
    source.parent.mkdir(parents=True)
    source.hardlink_to(job.file)
    message = home / "task.json"
    message.write_text(json.dumps(job.message))
    return processes.run([sys.executable, "-m", "worker", "run", str(message), "--root", str(root)]).cpu_s


def _best(ways: Sequence[Way], folder: Path) -> tuple[Way, Peer]:
    """Try all ways once; the least CPU time wins."""
    tried = [(way, _tried(way, _emptied(folder))) for way in ways]
    return min(tried, key=lambda each: each[1].cpu_s)


def _tried(way: Way, folder: Path) -> Peer:
    """Run a way once, talkatively: ffmpeg tells what it read and decoded."""
    done = [processes.run([part if part != "error" else "verbose" for part in command]) for command in way.commands]
    told = "\n".join(each.errors for each in done)
    images = [path.stat().st_size for path in folder.iterdir()]
    if not images:
        raise RuntimeError(f"ffmpeg wrote no image: {way.commands}")
    cpu_s = sum(each.cpu_s for each in done)
    return Peer(way.name, cpu_s, frames_decoded(told), bytes_read(told), len(images), sum(images))


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
