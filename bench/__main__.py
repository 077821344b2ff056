"""Measures, prints tables, and writes the same figures to `bench/last.json`. Exits 1 when the worker takes too much."""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from bench import report
from bench.compare import compare
from bench.jobs import real_jobs, sample_jobs
from bench.processes import run
from bench.serving import measure

LAST = Path(__file__).with_name("last.json")


def main() -> int:
    """Run the whole benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, of which the median is told (default: 5)")
    repeats = parser.parse_args().repeats
    if shutil.which("ffmpeg") is None:
        parser.error("the ffmpeg command is missing: scripts/setup ffmpeg installs it")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="frame-capture-bench-") as directory:
        home = Path(directory)
        jobs = sample_jobs(home)
        sample = compare(jobs, home, repeats, whole_runs=True)
        _say(report.comparison("The made sample: H.264, 1280x720, 25 fps, 60 s, a keyframe every 2 s", sample))
        real = compare(real_jobs(), home, repeats, whole_runs=False)
        if real:
            _say(report.comparison("A real film clip: H.264, 854x480, 24 fps, 30 s", real))
        else:
            _say("No real film clip: ../shared/media is not at hand.")
        ffmpeg_start_s = statistics.median(run(["ffmpeg", "-version"]).cpu_s for _ in range(repeats))
        _say(report.NOTES.format(ffmpeg_start_s))
        _say(report.whole_runs(sample))
        serving = measure(jobs, home)
        _say(report.serving(serving))
    figures = {"repeats": repeats, "cpus": len(os.sched_getaffinity(0)), "serving": asdict(serving)}
    figures |= {"sample": [asdict(row) for row in sample], "real": [asdict(row) for row in real]}
    LAST.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(f"{time.monotonic() - started:.0f} s in all; the same figures are in bench/last.json")
    return 1 if serving.too_large else 0


def _say(text: str) -> None:
    print(text, end="\n\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
