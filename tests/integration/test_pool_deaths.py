"""Decoders that die, send garbage or cannot be started: what it means to their task, and to the others."""

import asyncio
import errno
import os
import signal
import socket
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.integration.pool_runs import MIB, MemorySource, fails, gone, make_plan, make_pool, run
from worker.adapters import forkserver as forkserver_module
from worker.adapters.children import ForkServer
from worker.adapters.decoder_slot import FIRST_PAUSE_S, LONGEST_PAUSE_S, Slot
from worker.errors import Code, TaskError


async def test_a_killed_decoder_fails_its_own_task_and_not_its_neighbours():
    async with make_pool(slots=2) as pool:
        before = pool.pids()
        plan = make_plan()
        async with (
            aclosing(pool.capture(plan, MemorySource.command(do="stream", count=50, size=MIB))) as victim,
            aclosing(pool.capture(plan, MemorySource.command(do="stream", count=50, size=MIB))) as neighbour,
        ):
            await anext(victim)
            await anext(neighbour)
            os.kill(before[0], signal.SIGKILL)
            with pytest.raises(TaskError, match="killed by SIGKILL") as caught:
                [event async for event in victim]
            assert len([event async for event in neighbour]) == 50
        assert (caught.value.code, caught.value.retryable) == (Code.WORKER_CRASHED, True)
        await run(pool, do="echo")
        await run(pool, do="echo")
        after = pool.pids()
        assert before[1] in after
        assert before[0] not in after
        assert (pool.restarts, pool.workers, pool.busy) == ({"crashed": 1}, 2, 0)


@pytest.mark.parametrize("wait", [False, True])
async def test_an_idle_decoder_killed_costs_no_task(wait):
    async with make_pool() as pool:
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGKILL)
        if wait:
            await gone(pid)
        await run(pool, do="echo")
        assert pool.pids() != [pid]
        assert pool.restarts == {"crashed": 1}


class Forked:
    """Lets a test wait until the pool has started a decoder once more, whatever happens to it then."""

    def __init__(self, pool, *, stillborn=False):
        self.pids = asyncio.Queue()
        self._fork, self._stillborn = pool._fork, stillborn
        pool._fork = self.fork

    async def fork(self):
        child = await self._fork()
        if self._stillborn:
            child.kill()
        self.pids.put_nowait(child.pid)
        return child

    async def next(self):
        async with asyncio.timeout(10):
            return await self.pids.get()


@pytest.mark.parametrize(("signal_number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")])
async def test_an_idle_decoder_that_dies_is_replaced_before_a_task_comes(caplog, signal_number, name):
    async with make_pool() as pool:
        (pid,) = pool.pids()
        forked = Forked(pool)
        os.kill(pid, signal_number)
        fresh = await forked.next()
        assert fresh != pid
        await pool._slots[0].starting
        assert pool.pids() == [fresh]
        assert pool.restarts == {"crashed": 1}
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert f"an idle decoder process was killed by {name}" in record.message


async def test_decoders_lost_with_the_fork_server_are_replaced_before_a_task_comes():
    async with make_pool(slots=2) as pool:
        forked = Forked(pool)
        os.kill(pool._spawner.server_pid, signal.SIGKILL)
        fresh = {await forked.next(), await forked.next()}
        await asyncio.gather(*(slot.starting for slot in pool._slots))
        assert set(pool.pids()) == fresh
        assert pool.restarts == {"crashed": 2}


async def test_a_decoder_that_could_not_be_started_is_started_later(caplog):
    async with make_pool() as pool:
        forked = Forked(pool)

        async def refuse():
            pool._fork = forked.fork
            raise TaskError(Code.INTERNAL_ERROR, "no decoder process: none left", retryable=True)

        pool._fork = refuse
        os.kill(pool.pids()[0], signal.SIGKILL)
        fresh = await forked.next()
        await pool._slots[0].starting
        assert (pool.pids(), pool.restarts) == ([fresh], {"crashed": 1})
        assert "failed, trying again: InternalError: no decoder process: none left" in caplog.text


async def test_idle_decoders_that_die_at_once_are_replaced_ever_less_often():
    async with make_pool() as pool:
        clock = asyncio.get_running_loop().time
        forked = Forked(pool, stillborn=True)
        os.kill(pool.pids()[0], signal.SIGKILL)
        began = clock()
        times = []
        for _ in range(3):
            await forked.next()
            times.append(clock() - began)
        assert times[0] < FIRST_PAUSE_S
        assert times[1] - times[0] >= FIRST_PAUSE_S * 0.9
        assert times[2] - times[1] >= 2 * FIRST_PAUSE_S * 0.9


async def test_a_long_calm_makes_the_pause_short_again():
    slot = Slot(asyncio.create_task(asyncio.sleep(0)))
    pauses = []
    for now in (0, 1, 3, 100, 129, 1000):
        slot.pause_revivals(now)
        pauses.append(slot.pause_s)
    assert pauses == [0.5, 1, 2, 0.5, 1, 0.5]
    for now in range(2000, 2300, 10):
        slot.pause_revivals(now)
    assert slot.pause_s == LONGEST_PAUSE_S
    await slot.starting


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ({"do": "segfault"}, "the decoder process was killed by SIGSEGV"),
        ({"do": "leave", "code": 3}, "the decoder process ended with exit code 3"),
        ({"do": "babble", "text": "\xff" * 64}, "sent garbage: a message of 4294967295"),
        ({"do": "babble", "text": "\5\0\0\0\0\0\0\0xxxxx"}, "sent garbage: an unreadable header"),
        ({"do": "stream", "count": 1, "size": 4, "entry": 1}, "sent garbage: an image of entry 1 of 1"),
        ({"do": "claim", "index": 10**9}, "sent garbage: an image 1000000000 after 0, where at most 10000 are asked"),
        ({"do": "claim", "sha256": "x"}, "sent garbage: an image of 1 bytes with the checksum 'x'"),
        ({"do": "mislead", "ranges": [[0, 0]]}, "sent garbage: 1 ranges to read of"),
        ({"do": "mislead", "ranges": [[0, 1], [10**9, 1]]}, "sent garbage: 2 ranges to read of"),
        ({"do": "mislead", "ranges": [[-1, 1]]}, "sent garbage: 1 ranges to read of"),
        ({"do": "mislead", "ranges": [[0, 1]], "times": 1025}, "sent garbage: 1025 ranges to read of"),
    ],
)
async def test_a_crash_or_garbage_is_a_crash_and_the_next_task_works(command, text):
    async with make_pool() as pool:
        error = await fails(pool, **command)
        assert (error.code, error.retryable) == (Code.WORKER_CRASHED, True)
        assert text in error.message
        await run(pool, do="echo")
        assert pool.restarts == {"crashed": 1}


async def test_a_killed_fork_server_takes_its_decoders_along_and_is_restarted():
    async with make_pool(slots=2) as pool:
        before = pool.pids()
        async with aclosing(pool.capture(make_plan(), MemorySource.command(do="spin_in_c"))) as events:
            await anext(events)
            os.kill(pool._spawner.server_pid, signal.SIGKILL)
            with pytest.raises(TaskError, match="lost with its fork server") as caught:
                await anext(events)
            assert (caught.value.code, caught.value.retryable) == (Code.INTERNAL_ERROR, True), "the task did nothing"
        for pid in before:
            await gone(pid)
        await asyncio.gather(run(pool, do="echo"), run(pool, do="echo"))
        assert pool.workers == 2


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_decoder_that_cannot_be_started_is_no_crash_of_the_task(monkeypatch):
    """What the fork server does when the machine has no process left, in this process instead of its own."""
    worker_end, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker_end.setblocking(False)
    forkserver = forkserver_module.ForkServer(server_end, capture=None, data_limit_bytes=0, sandbox=False)

    def refuse():
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", refuse)
    with server_end:
        server = ForkServer(SimpleNamespace(pid=0), worker_end)
        forking = asyncio.create_task(server.fork())
        await asyncio.sleep(0)
        before = open_files()
        assert forkserver._take_request()
        assert open_files() == before, "the child's socket is closed"
        with pytest.raises(TaskError, match="no decoder process: Resource temporarily unavailable") as caught:
            await forking
        assert (caught.value.code, caught.value.retryable) == (Code.INTERNAL_ERROR, True)
        server._lose()


async def test_a_decoder_that_dies_before_it_starts_is_no_crash_of_the_task():
    async with make_pool() as pool:
        start = pool._fork

        async def stillborn():
            child = await start()
            child.kill()
            await child.end()
            return child

        pool._fork = stillborn
        os.kill(pool.pids()[0], signal.SIGKILL)
        error = await fails(pool, do="echo")
        assert (error.code, error.retryable) == (Code.INTERNAL_ERROR, True)
        pool._fork = start
        await run(pool, do="echo")
