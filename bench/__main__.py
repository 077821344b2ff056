"""Measures us and others in turn, and prints tables. Exits 1 when a bar is not cleared."""

import argparse
import asyncio
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av

from bench import latency, limits, memory, processes, reading, report, serving, slots, tasks
from bench.compare import compare
from bench.jobs import BUCKET, dense_jobs, long_jobs, middle, other_jobs
from bench.media import BIG_S, LONG_S, SCENES_S, prepare
from bench.minimum import read
from bench.report import Verdict
from devkit.broker import broker
from worker.adapters.pool import DecoderPool
from worker.media.plan import Selection
from worker.settings import Pool

MEDIA = Path(__file__).parents[1] / "bench-media"
MARK = "\n## Results\n"
QUICK_TASKS = 200


def main() -> int:
    """Run the whole benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median is told (default: 3)")
    parser.add_argument(
        "--quick", action="store_true", help="one minute of video instead of ten, once each, H.264 only"
    )
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="put the results below its `## Results`")
    asked = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        parser.error("the ffmpeg command is missing: scripts/setup bench installs it")
    media = prepare(MEDIA / BUCKET)
    started = time.monotonic()
    texts = [_machine()]
    cleared = True
    with tempfile.TemporaryDirectory(prefix="frame-capture-bench-", dir=MEDIA) as directory:
        for text, passed in _sections(media, Path(directory), 1 if asked.quick else asked.repeats, quick=asked.quick):
            print(text, end="\n\n", flush=True)
            texts.append(text)
            cleared &= passed
    print(f"{time.monotonic() - started:.0f} s in all")
    if asked.write:
        before, mark, _ = asked.write.read_text("utf-8").partition(MARK)
        asked.write.write_text("\n\n".join([f"{before}{mark or MARK}".rstrip(), *texts]) + "\n", "utf-8")
    return 0 if cleared else 1


def _sections(media: dict[str, Path], home: Path, repeats: int, *, quick: bool) -> Iterator[tuple[str, bool]]:
    """Yield each text, and whether its bars are cleared."""
    scenes = media["scenes"]
    all_cores = os.sched_getaffinity(0)
    long, seconds = (scenes, SCENES_S) if quick else (media["long"], LONG_S)
    jobs = long_jobs(long, seconds) + ([] if quick else dense_jobs(scenes) + other_jobs(media))
    verdicts = []
    os.sched_setaffinity(0, {max(all_cores)})  # one core for everybody, which children inherit
    for job in jobs:
        found = compare(job, home, scenes, repeats)
        verdicts += report.verdicts_of(found)
        yield report.comparison(found), True
    one = middle(long, seconds)
    walls = latency.measure(one, home, max(repeats, 5))
    os.sched_setaffinity(0, all_cores)
    with broker() as node:
        served = serving.measure(one, node.url, home, max(repeats, 5))
        walls[latency.SERVED] = statistics.median(served.latencies_s)
        walls[latency.FFMPEG_FREE] = statistics.median(latency.ffmpeg(one, home) for _ in served.latencies_s)
        verdicts += latency.verdicts(walls)
        yield report.latencies(walls), True
        yield report.serving(served), True
        costs = tasks.measure(node.url, home, tasks=QUICK_TASKS if quick else tasks.TASKS, repeats=1)
        verdicts.append(tasks.verdict(costs))
        yield tasks.table(costs), True
        growths = memory.measure(node.url, home, quick=quick)
        verdicts.append(memory.verdict(growths))
        yield memory.table(growths), True
    split = asyncio.run(slots.measure(jobs[1], seconds))
    verdicts.append(slots.verdict(split))
    yield slots.table(split), True
    yield report.readings(asyncio.run(_readings(media["big"]))), True
    cells = limits.table(home)
    yield report.limits(cells), True
    at_rest = max(served.ready_bytes, served.after_bytes) / serving.LIMIT_BYTES
    decoded = max(cell.ratio for cell in cells.values())
    verdicts.append(Verdict("memory of the worker at rest to its limit", 1.0, at_rest))
    verdicts.append(Verdict("frames decoded to the fewest possible, the worst", limits.SLACK, decoded))
    yield report.verdicts(verdicts), all(each.passed for each in verdicts)


async def _readings(big: Path) -> dict[str, reading.Reading]:
    """Capture from a file of 1 GB."""
    coded, length_s = read(big), Fraction(BIG_S)
    requests = {
        "one frame in the middle": Selection(start_s=length_s / 2, number=1),
        "the last frame": Selection(start_s=length_s - Fraction(1, 25), number=1),
        "every 60 s": Selection(interval_s=Fraction(60)),
    }
    async with DecoderPool(Pool(slots=1)) as pool:
        return {
            f"{name} of 1 GB": await reading.measure(pool, big, coded, [selection])
            for name, selection in requests.items()
        }


def _machine() -> str:
    """Describe what all of it ran on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    ffmpeg = processes.run(["ffmpeg", "-version"]).output.split()[2]
    return (
        f"{datetime.now(UTC):%-d %B %Y}; {os.cpu_count()} CPUs ({cpu[1] if cpu else platform.machine()}), "
        f"{memory_bytes / 2**30:.0f} GiB, Linux {platform.release()}; Python {platform.python_version()}, "
        f"PyAV {av.__version__} with FFmpeg {av.ffmpeg_version_info}; ffmpeg {ffmpeg}."
    )


if __name__ == "__main__":
    sys.exit(main())
