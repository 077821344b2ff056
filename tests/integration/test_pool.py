"""The decoder pool with real processes: what arrives, and what one decoder's misfortune means to the others."""

import asyncio
import errno
import hashlib
import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest

from worker.adapters import forkserver as forkserver_module
from worker.adapters.children import ForkServer
from worker.adapters.decoder_slot import FIRST_PAUSE_S, IDLE, LONGEST_PAUSE_S, Slot
from worker.adapters.pool import DecoderPool, DecoderTraceback
from worker.errors import Code, TaskError
from worker.media.plan import CapturePlan, EntryPlan, Format, Image, Progress, Rendition, Report, Selection
from worker.settings import Pool

MIB = 2**20


@dataclass
class MemorySource:
    data: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)
    error: TaskError | None = None
    announced: list[tuple[tuple[int, int], ...]] = field(default_factory=list)

    @classmethod
    def command(cls, body=b"", **command):
        return cls(json.dumps(command).encode() + b"\n" + body)

    @property
    def size(self):
        return len(self.data)

    async def read(self, offset, size):
        self.reads.append((offset, size))
        if self.error is not None and len(self.reads) > 1:
            raise self.error
        return self.data[offset : offset + size]

    def expect(self, ranges):
        self.announced.append(ranges)

    def reader(self):
        return nullcontext(self)


def make_plan():
    return CapturePlan((EntryPlan(Selection(number=1), Rendition(width=7)),))


def make_pool(**settings):
    return DecoderPool(Pool(**{"slots": 1} | settings), "tests.integration.captures:perform")


async def run(pool, source=None, **command):
    source = source or MemorySource.command(**command)
    return [event async for event in pool.capture(make_plan(), source)]


async def fails(pool, source=None, **command):
    with pytest.raises(TaskError) as caught:
        await run(pool, source, **command)
    return caught.value


async def gone(pid):
    """Wait until the process has ended; return at once if it is no more."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = await asyncio.to_thread(select.select, [pidfd], [], [], 10)
        assert ready, f"process {pid} still lives"
    finally:
        os.close(pidfd)


async def test_events_arrive_as_they_were_sent():
    async with make_pool() as pool:
        source = MemorySource.command(do="echo", body=b"abc")
        progress, image, report = await run(pool, source)
    assert progress == Progress(0.5)
    assert isinstance(image, Image)
    assert image.data == source.data
    assert (image.dhash, str(image.score), str(image.time_s), image.key_frame) == (2**64 - 1, "100/3", "1/3", True)
    assert isinstance(report, Report)
    assert report.stage_s == {"decode": 0.5}


async def test_a_real_video_gives_what_it_gives_without_a_process_between():
    from worker.media.capture import capture

    video = Path(__file__).parents[2].parent / "shared" / "media" / "footage" / "bbb_480p_30s.mp4"
    if not video.exists():
        pytest.skip(f"the shared media are not here: no {video.name}")
    plan = CapturePlan(
        tuple(EntryPlan(Selection(number=4, interval_s=Fraction(5)), Rendition(kind)) for kind in Format)
    )
    with video.open("rb") as file:
        direct = [event for event in capture(io.BytesIO(file.read()), plan) if isinstance(event, Image)]
    async with DecoderPool(Pool(slots=1)) as pool:
        events = [event async for event in pool.capture(plan, MemorySource(video.read_bytes()))]
        assert pool.restarts == {}
    assert [event for event in events if isinstance(event, Image)] == direct
    assert len(direct) == 16


async def test_50_mb_stream_through_intact_while_two_captures_share_nothing():
    async with make_pool(slots=2) as pool:
        big, small = await asyncio.gather(
            run(pool, do="stream", count=25, size=2 * MIB), run(pool, do="stream", count=1000, size=400)
        )
        assert [event.data for event in big[:-1]] == [i.to_bytes(4, "big") * (MIB // 2) for i in range(1, 26)]
        assert [event.data for event in small[:-1]] == [i.to_bytes(4, "big") * 100 for i in range(1, 1001)]
        assert pool.restarts == {}


@pytest.mark.parametrize(("chunk", "requests"), [(32 * 1024, 13), (1_000_003, 5), (-1, 4)])
async def test_a_source_reads_intact_in_few_requests(chunk, requests):
    body = os.urandom(3 * MIB + 17)
    source = MemorySource.command(do="read_all", chunk=chunk if chunk > 0 else 10 * MIB, body=body)
    async with make_pool() as pool:
        image, _ = await run(pool, source)
    assert image.data == hashlib.sha256(source.data).digest()
    assert len(source.reads) == len(set(source.reads)) == requests


async def test_what_a_capture_announces_is_told_and_read_exactly():
    ranges = [[700_000, 50_001], [300_000, 3], [2 * MIB, 2 * MIB - 5], [4 * MIB, 10**9]]
    source = MemorySource.command(do="announce", ranges=ranges, body=os.urandom(5 * MIB))
    async with make_pool() as pool:
        image, _ = await run(pool, source)
    inside = [*map(tuple, ranges[:3]), (4 * MIB, source.size - 4 * MIB)]
    assert source.announced == [tuple(inside)]
    wanted = b"".join(source.data[offset : offset + size] for offset, size in inside)
    assert image.data == hashlib.sha256(wanted).digest()
    read = source.reads[1:]
    assert [place for place in read if place[0] == 700_000] == [(700_000, 50_001)]
    assert sum(size for _, size in read) == sum(size for _, size in inside)


async def test_many_announced_ranges_are_told_in_several_messages():
    source = MemorySource.command(do="announce", ranges=[[MIB, 10]], times=2500, body=bytes(2 * MIB))
    async with make_pool() as pool:
        await run(pool, source)
    assert [len(told) for told in source.announced] == [1024, 1024, 452]


async def test_the_head_comes_with_the_plan_and_is_neither_announced_nor_asked_for():
    """Each message less is a wake of the parent less: a small source costs one read."""
    source = MemorySource.command(do="announce", ranges=[[300, 700], [5, 10]], body=os.urandom(1000))
    async with make_pool() as pool:
        image, _ = await run(pool, source)
    assert image.data == hashlib.sha256(source.data[300:1000] + source.data[5:15]).digest()
    assert (source.announced, source.reads) == ([], [(0, source.size)])


async def test_seeking_costs_no_request_and_the_reader_has_no_name():
    source = MemorySource.command(do="jump", body=b"-" * 3 * MIB + b"tail.")
    async with make_pool() as pool:
        image, _ = await run(pool, source)
    assert json.loads(image.data) == [0, "tail.", source.size, False]
    assert len(source.reads) == 2


async def test_a_slow_consumer_stops_the_decoder():
    """Of 100 MB, no more than the socket's buffer leaves the decoder before the consumer comes back."""
    async with (
        make_pool() as pool,
        aclosing(pool.capture(make_plan(), MemorySource.command(do="stream", count=100, size=MIB))) as events,
    ):
        await anext(events)
        io, status = (Path(f"/proc/{pool.pids()[0]}/{name}") for name in ("io", "status"))
        await asyncio.to_thread(wait_until, lambda: "State:\tS" in status.read_text())
        written = next(int(line.split()[1]) for line in io.read_text().splitlines() if line.startswith("wchar"))
        assert written < 3 * MIB
        assert len([event async for event in events]) == 100


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "never happened"


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


async def test_an_error_of_the_capture_crosses_as_it_was_raised():
    async with make_pool() as pool:
        error = await fails(pool, do="refuse")
        assert (error.code, error.message, error.retryable) == ("CorruptMedia", "the sample is broken", False)
        assert pool.restarts == {"recycled": 1}


async def test_no_report_is_an_error_of_ours_and_a_second_start_garbage():
    async with make_pool() as pool:
        error = await fails(pool, do="echo", report=False)
        assert (error.code, error.message) == (Code.INTERNAL_ERROR, "the capture ended without a report")
        error = await fails(pool, do="restart")
        assert (error.code, error.message) == (
            Code.WORKER_CRASHED,
            "the decoder process sent garbage: a second start",
        )


async def test_leaving_after_the_report_keeps_the_decoder():
    async with make_pool() as pool:
        async with aclosing(pool.capture(make_plan(), MemorySource.command(do="echo"))) as events:
            async for event in events:
                if isinstance(event, Report):
                    break
        assert pool.restarts == {}
        await run(pool, do="echo")
        assert pool.restarts == {}


async def test_an_unforeseen_error_brings_its_traceback():
    async with make_pool() as pool:
        error = await fails(pool, do="blunder")
    assert (error.code, error.retryable) == (Code.INTERNAL_ERROR, True)
    assert "unexpected RuntimeError while capturing: boom" in error.message
    assert isinstance(error.__cause__, DecoderTraceback)
    assert "in blunder" in str(error.__cause__)


async def test_a_failed_read_ends_the_capture_with_its_own_error():
    source = MemorySource.command(do="read_all", chunk=1000, body=bytes(MIB))
    source.error = TaskError(Code.STORAGE_UNAVAILABLE, "the store is down", retryable=True)
    async with make_pool() as pool:
        assert await fails(pool, source) is source.error
        await run(pool, do="echo")


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


async def test_closing_early_kills_the_decoder():
    async with make_pool() as pool:
        (pid,) = pool.pids()
        async with aclosing(pool.capture(make_plan(), MemorySource.command(do="spin_in_c"))) as events:
            await anext(events)
            assert pool.busy == 1
        await gone(pid)
        await run(pool, do="echo")
        assert (pool.restarts, pool.busy) == ({"canceled": 1}, 0)


async def test_cancelling_while_waiting_for_a_frame_kills_the_decoder():
    async with make_pool() as pool:
        (pid,) = pool.pids()
        first = asyncio.Event()

        async def consume():
            async for _ in pool.capture(make_plan(), MemorySource.command(do="spin_in_c")):
                first.set()

        task = asyncio.create_task(consume())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone(pid)
        await run(pool, do="echo")
        assert pool.restarts == {"canceled": 1}


async def test_slots_are_given_in_the_order_of_asking():
    async with make_pool() as pool:
        order = []

        async def consume(number):
            await run(pool, do="echo")
            order.append(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(consume(number))
        assert order == [0, 1, 2, 3, 4]


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


async def test_limits_are_kept_while_no_file_can_be_opened(monkeypatch):
    def refuse(self, encoding):
        raise OSError(errno.EMFILE, "Too many open files")

    async with make_pool(soft_time_limit_s=0.5, hard_time_limit_s=0.5) as pool:
        monkeypatch.setattr(Path, "read_text", refuse)
        error = await fails(pool, do="spin_in_c")
    assert error.code == Code.TIMEOUT


async def test_what_a_crashed_decoder_had_started_dies_with_it():
    pool = make_pool(sandbox="off")  # inside, nothing can be started
    async with pool, aclosing(pool.capture(make_plan(), MemorySource.command(do="spawn"))) as events:
        image = await anext(events)
        with pytest.raises(TaskError, match="SIGABRT"):
            await anext(events)
        await gone(int(image.data))


async def test_closing_the_pool_leaves_no_process():
    async with make_pool(slots=2) as pool:
        pids = [*pool.pids(), pool._spawner.server_pid]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_closing_the_pool_ends_running_and_waiting_captures():
    async with make_pool() as pool:
        running = pool.capture(make_plan(), MemorySource.command(do="spin_in_c"))
        await anext(running)
        tasks = [asyncio.create_task(anext(running)), asyncio.create_task(fails(pool, do="echo"))]
        await asyncio.sleep(0)
    with pytest.raises(TaskError, match="fork server"):
        await tasks[0]
    assert (await tasks[1]).code == Code.INTERNAL_ERROR


async def test_a_capture_that_cannot_be_imported_fails_the_start():
    with pytest.raises(TaskError, match="fork server"):
        async with DecoderPool(Pool(slots=1), "tests.integration.captures:missing"):
            pass


def test_no_decoder_outlives_a_killed_worker():
    command = [sys.executable, "-m", "tests.integration.pool_parent"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert len(pids) == 3
        pidfds = [os.pidfd_open(pid) for pid in pids]
        worker.kill()
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)


async def test_the_decoder_has_no_credentials_no_descriptors_and_little_rights(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("FRAME_CAPTURE_AMQP__URL", "amqp://user:hunter2@broker")
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        async with make_pool(slots=2, sandbox="off") as pool:  # inside, it could not be told
            image, _ = await run(pool, do="tell")
    finally:
        os.close(reader)
        os.close(writer)
    facts = json.loads(image.data)
    assert "hunter2" not in facts["environ"]
    assert not [name for name in facts["variables"] if name.startswith(("AWS_", "FRAME_CAPTURE_"))]
    assert facts["descriptors"] == [0, 1, 2, 3]
    assert "NoNewPrivs:\t1" in facts["status"]
    assert facts["oom_score_adj"] == "1000"
    assert facts["group"]
    assert facts["limits"] == {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0}
    assert facts["files"] <= 32
