"""Faults of the machine that a worker runs on, and of its processes, under load; the books are balanced after each."""

import asyncio
import os
import shutil
import struct
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import pytest

from devkit.media import counter_video
from tests.e2e.media import BUCKET, task
from tests.e2e.worker_process import gone
from tests.faults.kept import OnDisk
from tests.faults.test_faults import load, longer, quick

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HOUR_S = 3600


def only(account, *others):
    """The statuses of all tasks but the named ones."""
    return {each[0] for name, each in account.ends.items() if name not in others}


def endless(name):
    """Far more than can be done in the time of a test."""
    return task({"URI": f"oss://{BUCKET}/{name}/{{index}}.avif", "Format": "avif", "Quality": 100})


async def test_f17_a_decoder_that_stands_still_is_killed_and_its_task_tried_again(local, ledger, namespace):
    limits = {"pool__soft_time_limit_s": 6, "pool__hard_time_limit_s": 6}
    with local(namespace, pool__split=False, retry__crash_attempts=5, **limits) as worker:
        await ledger.submit_all({"stuck": endless("stuck")})
        await ledger.until_told(lambda told: any(each.get("Progress") for each in told))
        decoder = worker.only_busy_decoder() or worker.family()[1]
        os.kill(decoder, SIGSTOP)  # as in an endless wait in the kernel: no signal but SIGKILL reaches it
        await ledger.submit_all(load(15))
        assert await asyncio.to_thread(gone, [decoder])
        await ledger.until_ended(15)
        await ledger.cancel("stuck")
        account = await ledger.balance()
    assert (account.ends["stuck"], only(account, "stuck")) == (["Canceled"], {"Succeeded"})


async def test_f18_a_task_that_takes_too_much_memory_fails_alone(local, ledger, namespace, buckets):
    counter_video(buckets / BUCKET / "videos" / "huge.mp4", width=8000, height=6000, fps=1, seconds=2)
    with local(namespace, pool__memory_bytes=300 * 2**20) as worker:
        hog = task({"URI": f"oss://{BUCKET}/hog/{{index}}.png", "Format": "png"}, source="videos/huge.mp4")
        await ledger.submit_all(load(6, longer, "long"))
        before = worker.metrics()["process_resident_memory_bytes"]
        await ledger.submit("hog", hog)
        await ledger.submit_all(load(10))
        account = await ledger.balance()
        assert worker.metrics()["process_resident_memory_bytes"] < 1.5 * before
    assert (account.ends["hog"], only(account, "hog")) == (["Failed"], {"Succeeded"})
    assert account.told["hog"][0]["data"]["Code"] == "LimitExceeded"


async def test_f19_a_killed_fork_server_is_replaced(local, ledger, namespace):
    with local(namespace, retry__crash_attempts=5) as worker:
        await ledger.submit_all(load(6, longer, "long") | load(10))
        await ledger.until_ended(2)
        fork_server = worker.family()[0]
        os.kill(fork_server, SIGKILL)
        await ledger.submit_all(load(5, prefix="later"))
        account = await ledger.balance()
        assert fork_server not in worker.family()
    assert only(account) == {"Succeeded"}


async def test_f26_a_worker_that_stood_still_goes_on_as_if_nothing_had_been(local, ledger, namespace):
    """It is stopped for less than three heartbeats (of 15 s), while another one does twenty tasks."""
    with local(namespace) as worker, local(namespace):
        await ledger.submit_all(load(6, longer, "long"))
        await ledger.until_told(lambda told: len({each["TaskId"] for each in told}) >= 4)  # both have begun
        worker.signal(SIGSTOP)
        try:
            await ledger.submit_all(load(20))
            await ledger.until_ended(20)
        finally:
            worker.signal(SIGCONT)
        account = await ledger.balance()
        metrics = worker.metrics()
    assert only(account) == {"Succeeded"}
    assert (account.duplicates, metrics["amqp_reconnects"]) == (0, 0)


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """Set how many seconds the clock of workers is off."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler, with which the library is made that shifts a worker's clock")
    library, shift = tmp_path / "clock_shift.so", tmp_path / "shift"
    source = Path(__file__).with_name("clock_shift.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    shift.write_bytes(struct.pack("l", 0))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_SHIFT_FILE", str(shift))

    def put(seconds):
        with shift.open("r+b") as file:  # in place, since it is mapped
            file.write(struct.pack("l", seconds))

    return put


async def test_f27_a_clock_that_jumps_changes_nothing_but_the_times_told(local, ledger, namespace, clock):
    with local(namespace, retry__crash_attempts=5, amqp__heartbeat_s=2) as worker:
        await ledger.submit_all(load(12, longer, "long") | load(10))
        for ended, shift_s in ((2, HOUR_S), (8, -HOUR_S), (14, 0)):
            await ledger.until_ended(ended)
            clock(shift_s)
            os.kill(worker.family()[1], SIGKILL)  # so that a task waits across the jump
        account = await ledger.balance()
        assert worker.metrics()["amqp_reconnects"] == 0
    assert only(account) == {"Succeeded"}
    times = [datetime.fromisoformat(events[0]["data"]["EndTime"]) for events in account.told.values()]
    now = datetime.now(UTC)
    assert max(times) > now + timedelta(minutes=30)
    assert min(times) < now - timedelta(minutes=30)


@pytest.fixture
def small_disk(tmp_path, sources):
    """A disk of few megabytes with the sources on it."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=False).returncode:
        pytest.skip("a disk that can be full has to be mounted, which takes root")
    try:
        shutil.copytree(sources.root, place, dirs_exist_ok=True)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


async def test_f28_a_full_disk_pauses_work_and_leaves_nothing_unfinished(start, ledger, namespace, small_disk):
    ledger.kept = OnDisk(small_disk, namespace)
    settings = {"store__root": small_disk, "records__uri": ledger.kept.records_uri, "retry__max_attempts": 1}
    ballast = small_disk / "ballast"
    with start(namespace, **settings) as worker:
        await ledger.submit_all(load(5))
        await ledger.until_ended(5)
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        await ledger.submit_all(load(6, longer, "long"))
        await asyncio.to_thread(worker.until, lambda: worker.metrics()["store_outage"] == 1, "the worker to pause")
        assert "the store is out of reach" in worker.not_ready()
        ballast.unlink()
        account = await ledger.balance()
    assert only(account) == {"Succeeded"}
    assert ledger.kept.unfinished() == []


async def test_f29_tasks_canceled_before_during_and_after_their_run_end_once(local, ledger, namespace):
    with local(namespace) as worker:
        await ledger.submit("during", endless("during"))
        await ledger.until_told(lambda told: any(each.get("Progress") for each in told))
        decoder = worker.only_busy_decoder() or worker.family()[1]
        await ledger.submit_all(load(8) | load(6, longer, "long") | {"before": quick("before")})
        await ledger.cancel("before")
        await ledger.until_told(lambda told: any(each["Status"] == "Succeeded" for each in told))
        after = next(name for name in ledger.ended if name.startswith("task-"))
        await ledger.cancel(after)
        await ledger.cancel("during")
        account = await ledger.balance()
        assert await asyncio.to_thread(gone, [decoder])
    assert account.ends["before"] == account.ends["during"] == ["Canceled"]
    assert only(account, "before", "during") == {"Succeeded"}
