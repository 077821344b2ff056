"""The limits that a decoder has: on time, on silence, on its CPU and memory, and on its tasks."""

import asyncio
import errno
import re
import signal
import time
from pathlib import Path

import pytest

from tests.integration.pool_runs import MIB, MemorySource, fails, gone, make_pool, run
from worker.adapters.decoder_slot import IDLE
from worker.adapters.watchdog import Watchdog
from worker.errors import Code


async def test_the_soft_limit_ends_python_code():
    async with make_pool(soft_time_limit_s=0.3) as pool:
        error = await fails(pool, do="spin_in_python")
        assert (error.code, error.retryable) == (Code.TIMEOUT, True)
        assert "0.3 s" in error.message
        assert pool.restarts == {"timeout": 1}


async def test_the_hard_limit_kills_what_no_signal_reaches():
    async with make_pool(soft_time_limit_s=0.1, hard_time_limit_s=0.5) as pool:
        (pid,) = pool.pids()
        began = time.monotonic()
        error = await fails(pool, do="spin_in_c")
        assert time.monotonic() - began < 1.5
        await gone(pid)
        assert (error.code, error.retryable) == (Code.TIMEOUT, True)
        assert "hard time limit of 0.5 s" in error.message
        await run(pool, do="echo")
        assert pool.restarts == {"timeout": 1}


async def test_a_decoder_that_hangs_in_a_library_is_killed_after_a_silence():
    async with make_pool(silence_limit_s=0.5) as pool:
        (pid,) = pool.pids()
        error = await fails(pool, do="spin_in_c")
        await gone(pid)
        assert (error.code, error.retryable) == (Code.TIMEOUT, True)
        assert re.search(r"no sign of life for 0.5 s .* raise POOL__SILENCE_LIMIT_S$", error.message)
        await run(pool, do="echo")
        assert pool.restarts == {"timeout": 1}


async def test_a_decoder_at_work_tells_that_it_is_alive():
    """It says nothing else for three times as long as a silence may be, and asks for nothing."""
    async with make_pool(silence_limit_s=1) as pool:
        await run(pool, do="work_silently", seconds=3)
        assert pool.restarts == {}


async def test_a_store_that_keeps_a_decoder_waiting_is_no_silence():
    class SlowSource(MemorySource):
        async def read(self, offset, size):
            pool = pools[0]
            assert pool._slots[0].silent_since == IDLE
            return await super().read(offset, size)

    pools = []
    async with make_pool() as pool:
        pools.append(pool)
        source = SlowSource.command(do="read_all", chunk=1000, body=bytes(MIB))
        await run(pool, source)
        assert len(source.reads) >= 4


async def test_the_kernel_keeps_the_limit_on_cpu_time_also_where_no_python_runs():
    async with make_pool(cpu_time_limit_s=0.3) as pool:
        error = await fails(pool, do="loop_in_c")
        assert (error.code, error.retryable) == (Code.LIMIT_EXCEEDED, False)
        assert error.message.endswith("the limit POOL__CPU_TIME_LIMIT_S is 0.3")
        await run(pool, do="echo")
        assert pool.restarts == {"timeout": 1}


async def test_the_limit_on_cpu_time_holds_for_each_capture_alone():
    async with make_pool(cpu_time_limit_s=0.5) as pool:
        for _ in range(4):
            await run(pool, do="work_silently", seconds=0.3)
        assert pool.restarts == {}


async def test_a_memory_hog_is_killed_and_told_the_limit():
    async with make_pool(memory_bytes=96 * MIB) as pool:
        error = await fails(pool, do="hog", step=MIB)
        assert (error.code, error.retryable) == (Code.LIMIT_EXCEEDED, False)
        assert error.message.endswith(f"the limit POOL__MEMORY_BYTES is {96 * MIB}")
        assert pool.max_rss_bytes > 96 * MIB
        assert pool.restarts == {"memory": 1}


async def test_one_huge_allocation_is_refused_by_the_kernel():
    async with make_pool(memory_bytes=96 * MIB) as pool:
        error = await fails(pool, do="allocate", size=8 * 2**30)
        assert (error.code, error.retryable) == (Code.LIMIT_EXCEEDED, False)
        assert "memory" in error.message


async def test_a_decoder_is_replaced_after_its_tasks_or_when_it_has_grown():
    async with make_pool(max_tasks=2, memory_bytes=100 * MIB) as pool:
        first = pool.pids()
        await run(pool, do="echo")
        assert pool.pids() == first
        await run(pool, do="echo")
        await run(pool, do="hold", size=70 * MIB)
        assert pool.restarts == {"recycled": 2}
        await run(pool, do="echo")
        assert pool.pids() != first


async def test_limits_are_kept_while_no_file_can_be_opened(monkeypatch):
    def refuse(self, encoding):
        raise OSError(errno.EMFILE, "Too many open files")

    async with make_pool(soft_time_limit_s=0.5, hard_time_limit_s=0.5) as pool:
        monkeypatch.setattr(Path, "read_text", refuse)
        error = await fails(pool, do="spin_in_c")
    assert error.code == Code.TIMEOUT


@pytest.mark.parametrize("name", ["_keep_limits", "_revive"])
async def test_a_watchdog_that_ends_by_a_bug_ends_the_worker_and_says_why(monkeypatch, caplog, name):
    """Otherwise no limit would be kept any more, and nobody would know."""

    async def blunder(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Watchdog, name, blunder)
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    pool = make_pool()
    try:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            async with pool, asyncio.timeout(10):
                await terminated.wait()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    (record,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert "nobody watches the decoders any more" in record.message
    assert record.exc_info[0] is ZeroDivisionError
    assert pool.pids() == []
