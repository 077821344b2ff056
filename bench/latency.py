"""How soon one frame from the middle of a long video is there: wall time, ours and ffmpeg's in turn."""

import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import processes
from bench.compare import warm
from bench.jobs import BUCKET, Job
from bench.report import Verdict

FFMPEG, WARM, RUN = "ffmpeg -ss", "the capture in a warm process", "frame-capture run, all of it"
PYTHON, IMPORTS = "the interpreter's start alone", "the start and the imports of the worker"
SERVED, FFMPEG_FREE = "a running worker, from publishing to its event, all cores", "ffmpeg -ss, all cores"


def measure(job: Job, home: Path, repeats: int) -> dict[str, float]:
    """Give median wall seconds by name, all on the cores that this process may use."""
    ways: dict[str, Callable[[], float]] = {
        FFMPEG: lambda: ffmpeg(job, home),
        WARM: lambda: warm(job, home)[0].wall_s,
        RUN: lambda: _run(job, home),
        PYTHON: lambda: processes.run([sys.executable, "-c", "pass"], _environment()).wall_s,
        IMPORTS: lambda: (
            processes.run([sys.executable, "-c", "import worker.cli.app, worker.lone"], _environment()).wall_s
        ),
    }
    done: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, once in ways.items():
            done[name].append(once())
    return {name: statistics.median(walls) for name, walls in done.items()}


def ffmpeg(job: Job, home: Path) -> float:
    """Run ffmpeg once; gives its wall seconds."""
    ((command,),) = (way.commands for way in job.ways)
    return processes.run([part.format(folder=home) for part in command]).wall_s


def _run(job: Job, home: Path) -> float:
    """Run `frame-capture run` on a local store."""
    place = home / "store" / BUCKET / job.file.name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(job.file)
    task = home / "task.json"
    task.write_text(json.dumps(job.message))
    command = [sys.executable, "-m", "worker", "run", str(task), "--root", str(home / "store")]
    return processes.run(command, _environment()).wall_s


def _environment() -> dict[str, str]:
    """Give ours without settings of the worker, and with bytecode kept, as it is wherever a program is in use."""
    dropped = ("FRAME_CAPTURE_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def verdicts(walls: Mapping[str, float]) -> list[Verdict]:
    """Judge: at most the time of ffmpeg."""
    run_s = walls[RUN] - walls[PYTHON]
    return [
        Verdict("one frame in the middle, warm: wall to ffmpeg -ss", 1.0, walls[WARM] / walls[FFMPEG]),
        Verdict("the same through `run`, without the interpreter's start", 1.0, run_s / walls[FFMPEG]),
        Verdict("the same through a running worker, broker and events", 1.0, walls[SERVED] / walls[FFMPEG_FREE]),
    ]
