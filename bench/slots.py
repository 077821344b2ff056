"""One long task over two slots: its wall time with one and with two, and the least that two can take."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from bench import report
from bench.jobs import Job, read_task
from worker.adapters.files import LocalStore
from worker.adapters.hls import open_source
from worker.adapters.pool import DecoderPool
from worker.media.plan import CapturePlan, Image, Report
from worker.settings import Pool
from worker.task import Location

SPLIT_LIMIT = 0.58


@dataclass(frozen=True, slots=True)
class Slots:
    """Wall seconds of one task with one slot and with two; `halves_s`: of two tasks at once, half of it each.

    `same`: whether one slot and two gave the same images, bit by bit.
    """

    name: str
    one_s: float
    two_s: float
    halves_s: float
    same: bool

    @property
    def ratio(self) -> float:
        return self.two_s / self.one_s

    @property
    def limit(self) -> float:
        return self.halves_s / self.one_s


async def measure(job: Job, seconds: int) -> Slots:
    """Measure a job on a video of so many seconds, without storing its images."""
    whole = CapturePlan(tuple(entry.plan for entry in read_task(job.message).entries))
    half_s = Fraction(seconds, 2)
    halves = [CapturePlan(whole.entries, start_s, half_s) for start_s in (Fraction(0), half_s)]
    one_s, images = await _run(job.file, [whole], slots=1)
    two_s, again = await _run(job.file, [whole], slots=2)
    halves_s, _ = await _run(job.file, halves, slots=2, split=False)
    return Slots(f"{job.file.name}: {job.name}", one_s, two_s, halves_s, images == again)


def table(found: Slots) -> str:
    """Write wall seconds, and what they are to those of one slot."""
    if not found.same:
        raise RuntimeError(f"{found.name}: two slots gave other images than one")
    lines = [
        ["one slot", f"{found.one_s:.2f}", "1.00"],
        ["two slots, the same images", f"{found.two_s:.2f}", f"{found.ratio:.2f}"],
        ["two independent captures of half of it at once", f"{found.halves_s:.2f}", f"{found.limit:.2f}"],
    ]
    return f"**One task over two slots, {found.name}**\n\n{report.table(['', 'wall s', 'to one slot'], lines)}"


def verdict(found: Slots) -> report.Verdict:
    """Judge the gain."""
    return report.Verdict("one long task: wall with two slots to one", SPLIT_LIMIT, found.ratio)


async def _run(path: Path, plans: Sequence[CapturePlan], **settings: int) -> tuple[float, list[list[str]]]:
    """Capture side by side in a pool that is warm; gives the wall seconds and what each found, as digests."""
    async with DecoderPool(Pool(**settings)) as pool:
        first = CapturePlan(plans[0].entries, Fraction(0), Fraction(1))
        await asyncio.gather(*(_capture(pool, path, first) for _ in range(settings["slots"])))
        started = time.perf_counter()
        found = await asyncio.gather(*(_capture(pool, path, plan) for plan in plans))
        return time.perf_counter() - started, list(found)


async def _capture(pool: DecoderPool, path: Path, plan: CapturePlan) -> list[str]:
    store, place = LocalStore(path.parent.parent), Location("file", path.parent.name, path.name)
    info = await store.stat(place)
    digests: list[str] = []
    async with (
        open_source(store, place, info, cache_bytes=Pool().cache_bytes, max_bytes=info.size) as source,
        aclosing(pool.capture(plan, source.content)) as events,
    ):
        async for event in events:
            if isinstance(event, Image):
                digests.append(event.sha256)
            elif isinstance(event, Report) and (
                failed := [each.error_message for each in event.entries if each.error_code]
            ):
                raise RuntimeError(f"{path.name}: {failed}")
    return digests
