"""The pool's processes: what they inherit, and that none is left of a pool that is closed, or killed."""

import asyncio
import json
import os
import select
import subprocess
import sys
from contextlib import aclosing

import pytest

from tests.integration.pool_runs import MemorySource, fails, gone, make_plan, make_pool, run
from worker.adapters.pool import DecoderPool
from worker.errors import Code, TaskError
from worker.settings import Pool


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
