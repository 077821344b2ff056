"""Ctrl-C at any moment of the private servers' lives leaves no process and no file behind."""

import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from devkit.interrupt import held

MARK = "FRAME_CAPTURE_TEST_MARK"
SCRIPT = """
import faulthandler
faulthandler.enable()  # so that `ended` can ask where it hangs
from {module} import {server}
with {server}():
    print("ready", flush=True)
    input()
"""


def marked(mark):
    """List the processes that have the mark in their environment, with their command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # of another user, or gone
            continue
    return found


def wait_until(condition):
    """Look again and again, with pauses: one that only yields the processor can starve whom it waits for."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.001)


@contextmanager
def begun(server, tmp_path):
    """Start the server in a process of its own; if that outlives the test, have it tell where it hangs."""
    module, mark = ("devkit.broker", "devkit.s3")[server != "broker"], secrets.token_hex(8)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(module=module, server=server)],
        env=os.environ | {MARK: mark, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process, mark
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGABRT)
                pytest.fail("it hung:\n" + process.communicate()[1].decode())


def assert_nothing_left(process, mark, tmp_path):
    wait_until(lambda: process.poll() is not None)
    error = process.stderr.read().decode()
    assert process.returncode == -signal.SIGINT, error
    assert "KeyboardInterrupt" in error  # not always at the end: one more can come while Python tells of the first
    try:
        wait_until(lambda: not marked(mark))  # the helpers were killed with their leader, but nobody waited for them
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("server", "moment"),
    [("broker", "epmd"), ("broker", "rabbitmq"), ("broker", "beam"), ("seaweed", "weed"), ("moto_server", "moto")],
)
def test_ctrl_c_again_and_again_while_a_server_starts_leaves_nothing(server, moment, tmp_path):
    with begun(server, tmp_path) as (process, mark):
        wait_until(lambda: any(moment in line for pid, line in marked(mark).items() if pid != process.pid))
        wait_until(lambda: pressed(process))
        assert_nothing_left(process, mark, tmp_path)


def pressed(process):
    """Press Ctrl-C once more, unless the process is gone; tell whether it is."""
    process.send_signal(signal.SIGINT)
    return process.poll() is not None


@pytest.mark.parametrize("server", ["broker", "seaweed"])
def test_ctrl_c_twice_while_a_server_runs_leaves_nothing(server, tmp_path):
    with begun(server, tmp_path) as (process, mark):
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert_nothing_left(process, mark, tmp_path)


def test_ctrl_c_waits_for_the_end_of_the_block():
    done = []

    def work():
        with held():
            with held():
                signal.raise_signal(signal.SIGINT)
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_held_back_comes_when_the_block_asks_or_lets_go():
    done = []
    with held() as hold:
        hold.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            hold.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), hold.released():
            done.append("never")
        hold.check()
    assert done == []


def test_ctrl_c_in_the_released_part_is_told_once():
    done = []

    def work():
        with held() as hold:
            try:
                with hold.released():
                    signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                done.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["cleaned up"]


def test_ctrl_c_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held() as hold:
            signal.raise_signal(signal.SIGINT)
            hold.check()
            with hold.released():
                signal.raise_signal(signal.SIGINT)
    finally:
        assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN
