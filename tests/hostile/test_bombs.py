"""Files that are small and want to cost much cost little: counted in decoded frames, bytes read, and memory.

The seconds of CPU time are printed (`pytest -s`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from tests.hostile import bombs
from tests.hostile.measured import MARK
from tests.integration.pool_runs import MemorySource
from worker.adapters.pool import DecoderPool
from worker.errors import TaskError
from worker.media.plan import CapturePlan, EntryPlan, Image, Limits, Mode, Rendition, Report, Selection
from worker.settings import MIB, Pool

PEAK_BYTES = 600 * MIB
ONE, ALL = Selection(number=1), Selection()
YEARLY = Selection(Mode.DHASH, interval_s=Fraction(1), number=1)


@dataclass(frozen=True)
class Bomb:
    """A file, what is wanted of it, and the most that this may take: frames decoded, bytes read, memory held."""

    make: Callable[[], bytes]
    wanted: Selection
    code: str = ""
    says: str = ""
    decoded: int = 0
    read_times: float = 2  # the file's size
    peak_bytes: int = 100 * MIB
    limits: Limits = field(default_factory=Limits)


BOMBS = {
    "compressed index": Bomb(
        lambda: bombs.compressed_index(40_000_000), ONE, "LimitExceeded", "LIMITS__OPENING_BYTES is 134217728"
    ),
    "compressed index just small enough": Bomb(
        lambda: bombs.compressed_index(5_000_000), ONE, decoded=1, peak_bytes=PEAK_BYTES
    ),
    "10^9 claimed frames": Bomb(lambda: bombs.claimed_frames(10**9), ONE, "CorruptMedia", "no frame of the video"),
    "as many claimed frames as memory allows": Bomb(
        lambda: bombs.claimed_frames(5_500_000), ALL, decoded=1, peak_bytes=PEAK_BYTES
    ),
    "GIF of a huge canvas": Bomb(
        lambda: bombs.gif(8000, 8000, 2000), ALL, "LimitExceeded", "more pixels: the limit LIMITS__PIXELS is 50000000"
    ),
    "huge attached picture": Bomb(
        lambda: bombs.with_cover(bombs.huge_png(16_000)), ONE, "LimitExceeded", "LIMITS__PIXELS is 50000000"
    ),
    "attached picture just small enough": Bomb(
        lambda: bombs.with_cover(bombs.huge_png(7000)), ONE, decoded=1, peak_bytes=PEAK_BYTES
    ),
    "years of timestamps": Bomb(bombs.years_long, YEARLY, decoded=3),
    "scattered index": Bomb(
        lambda: bombs.scattered(500, 35_000), ALL, decoded=500, read_times=10
    ),
    "endless decode": Bomb(
        lambda: bombs.repeated_sample(20_000), Selection(Mode.DHASH), "LimitExceeded", "LIMITS__DECODED_FRAMES is 3000",
        limits=Limits(max_decoded_frames=3000),
    ),
    "endless images": Bomb(
        lambda: bombs.gif(1, 1, 20_000), ALL, "LimitExceeded", "LIMITS__FRAMES_PER_ENTRY is 1000", decoded=1010,
        limits=Limits(max_frames_per_entry=1000),
    ),
}  # fmt: skip


async def set_off(bomb: Bomb) -> tuple[str, str, int, float, dict[str, float]]:
    """Capture in a fresh decoder; gives code and message, frames decoded, bytes read, and what it cost."""
    data = bomb.make()
    source = MemorySource(data)
    plan = CapturePlan((EntryPlan(bomb.wanted, Rendition(width=16, height=16)),), limits=bomb.limits)
    decoded, code, text, cost = 0, "", "", {}
    async with DecoderPool(Pool(slots=1, memory_bytes=4096 * MIB), "tests.hostile.measured:measured") as pool:
        try:
            async for event in pool.capture(plan, source):
                assert not isinstance(event, Image) or len(event.data) < 10_000
                if isinstance(event, Report):
                    (entry,), decoded = event.entries, event.frames_decoded
                    cost = json.loads(entry.warnings[-1].message)
                    code, text = entry.error_code, entry.error_message
        except TaskError as error:
            text, _, told = error.message.partition(MARK)
            code, cost = error.code, json.loads(told)
    read_times = sum(size for _, size in source.reads) / len(data)
    return code, text, decoded, read_times, cost


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_costs_little(name):
    bomb = BOMBS[name]
    code, text, decoded, read_times, cost = await set_off(bomb)
    figures = f"{cost['cpu_s']:.2f} s of CPU time, {cost['peak_bytes'] / MIB:.0f} MiB at most"
    print(f"\n{name}: {figures}")  # noqa: T201  for people: a test of time would depend on the machine
    assert code == bomb.code
    assert bomb.says in text
    assert decoded <= bomb.decoded
    assert read_times <= bomb.read_times
    assert cost["peak_bytes"] <= bomb.peak_bytes
