"""A worker to kill: opens a pool, keeps one decoder busy where no signal reaches it, tells the pids, and waits."""

import asyncio
from contextlib import aclosing

from tests.integration.pool_runs import MemorySource, make_plan
from worker.adapters.pool import DecoderPool
from worker.settings import Pool


async def main() -> None:
    async with (
        DecoderPool(Pool(slots=2), "tests.integration.captures:perform") as pool,
        aclosing(pool.capture(make_plan(), MemorySource.command(do="spin_in_c"))) as events,
    ):
        await anext(events)
        print(*pool.pids(), pool._spawner.server_pid, flush=True)  # noqa: T201  the test reads it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
