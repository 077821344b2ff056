"""The decoder's sandbox, tried from inside a real decoder process, and what is told and refused where it is missing."""

import contextlib
import ctypes
import errno
import json
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.pool_runs import fails, run
from worker.adapters import landlock, seccomp
from worker.adapters.kernel import prctl
from worker.adapters.pool import DecoderPool
from worker.errors import Code, TaskError
from worker.settings import Pool

HERE = Path(__file__).parents[2]
NOBODY = 65534
SECRET = "hunter2-marked-secret"
UNKNOWN = {"use a call of the future"}
SURVIVABLE = {"EPERM", "EACCES"}

full = pytest.mark.skipif(
    not landlock.version() or os.uname().machine not in seccomp.MACHINES,
    reason="this kernel has no Landlock, or no seccomp filter is written for this processor: nothing to try",
)


def cage(function="tests.integration.escapes:perform", **settings):
    return DecoderPool(Pool(**{"slots": 1, "sandbox": "required"} | settings), function)


@pytest.fixture
def world(tmp_path):
    """A secret file, and sockets of all kinds that would notice whoever came."""
    tmp_path.chmod(0o777)
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o666)
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix, abstract = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        path, name = str(tmp_path / "socket"), f"cage-{os.getpid()}-{tcp.getsockname()[1]}"
        unix.bind(path)
        Path(path).chmod(0o777)
        abstract.bind("\0" + name)
        for each in (unix, abstract):
            each.listen()
        for each in (tcp, udp, unix, abstract):
            each.setblocking(False)
        yield {
            "secret": str(secret), "folder": str(tmp_path), "tcp_port": tcp.getsockname()[1],
            "udp_port": udp.getsockname()[1], "unix_path": path, "abstract": name,
        }  # fmt: skip
        for each in (tcp, unix, abstract):
            with pytest.raises(BlockingIOError):
                each.accept()
        with pytest.raises(BlockingIOError):
            udp.recv(1)
    assert secret.read_text() == SECRET
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "socket"}


def assert_nothing_done(said):
    assert said.pop("threads") is True
    assert {name: how for name, how in said.items() if how not in SURVIVABLE} == dict.fromkeys(UNKNOWN, "ENOSYS")
    assert len(said) > 45


@full
async def test_a_hijacked_decoder_can_do_nothing(world):
    async with cage() as pool:
        image, _ = await run(pool, **{"try": world})
        assert pool.restarts == {}, "the decoder has survived all of it, and so did its parent"
    said = json.loads(image.data)
    assert said.pop("uid") == os.getuid()
    assert_nothing_done(said)


async def test_without_a_sandbox_the_same_succeeds(world):
    """So that it fails because of the sandbox, and not because it is tried in a wrong way."""
    harmless = [
        "read a file", "open a path only", "list a folder", "tell whether a file exists", "read its environment",
        "read its parent's environment", "make a socket pair", "start a process", "get hold of its parent",
        "make a file in memory", "make a pipe", "make memory executable", "map executable memory",
        "duplicate a descriptor", "start a process with vfork", "read its memory as a file", "change its user",
        "be dumpable again", "read a symlink", "listen", "open a netlink socket",
    ]  # fmt: skip
    async with cage(sandbox="off") as pool:
        image, _ = await run(pool, **{"try": world, "only": harmless})
    said = json.loads(image.data)
    assert {name: said[name] for name in harmless if said[name] != "done"} == {}


def worker(sandbox, command, python=sys.executable, **options):
    """Run a worker's pool in a process of its own."""
    return subprocess.run(
        [python, "-m", "tests.integration.caged_worker", sandbox, json.dumps(command)],
        check=False, cwd=HERE, capture_output=True, text=True, timeout=100, **options,
    )  # fmt: skip


def open_to_all(path):
    """Tell whether any user may run a program, wherever its links lead."""
    real = Path(path).resolve()
    return real.exists() and all(each.stat().st_mode & 0o001 for each in (real, *real.parents))


def as_nobody():
    """What it takes to run Python as a user with no rights."""
    python = next((each for each in (sys.executable, "/usr/bin/python3.11") if open_to_all(each)), None)
    if python is None:
        pytest.skip("no Python 3.11 that other users may run, such as Debian's python3.11")
    path = {"python": python, "env": {"PYTHONPATH": os.pathsep.join(sys.path[1:])}}
    return path | {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@full
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user; without root all runs unprivileged")
def test_it_needs_no_privilege(world):
    done = worker("required", {"try": world}, **as_nobody())
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("uid") == NOBODY
    assert not said.pop("memory_opened"), "not even by another process of the same user"
    assert_nothing_done(said)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_without_a_sandbox_its_user_reads_its_memory():
    done = worker("off", {}, **as_nobody())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["memory_opened"]


@full
@pytest.mark.parametrize("how", ["exec", "ptrace"])
async def test_what_only_a_hijacked_decoder_does_is_a_crash_with_its_cause(how):
    async with cage() as pool:
        error = await fails(pool, die=how)
        assert (error.code, error.retryable) == (Code.WORKER_CRASHED, True)
        assert "killed by SIGSYS: it made a system call that only a hijacked decoder makes" in error.message
        await run(pool, nothing=True)
        assert pool.restarts == {"crashed": 1}


def status(pid):
    return dict(re.findall(r"^(\w+):\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))


def descriptors(pid):
    return [str(path.readlink()) for path in sorted(Path(f"/proc/{pid}/fd").iterdir())]


@full
async def test_what_is_active_is_told_and_true(caplog):
    caplog.set_level("INFO")
    async with cage(slots=2) as pool:
        for pid in pool.pids():
            assert status(pid)["Seccomp"] == "2"
            assert status(pid)["NoNewPrivs"] == "1"
            standard, (socket_,) = descriptors(pid)[:3], descriptors(pid)[3:]
            assert standard == ["/dev/null"] * 3
            assert socket_.startswith("socket:")
    told = [record.getMessage() for record in caplog.records if "sandbox" in record.getMessage()]
    abi = landlock.version()
    assert told == [f"decoders run in a sandbox: sandbox=required landlock_abi={abi} seccomp=True"], "once"


async def test_off_is_told_and_true(caplog):
    async with cage(sandbox="off") as pool:
        (pid,) = pool.pids()
        assert (status(pid)["Seccomp"], status(pid)["NoNewPrivs"]) == (status(os.getpid())["Seccomp"], "1")
        await run(pool, nothing=True)
    assert "decoders run without a sandbox: sandbox=off" in caplog.text


@pytest.mark.skipif(os.getuid() != 0, reason="only root may read the memory of a process that is not dumpable")
async def test_no_credential_is_in_a_decoders_memory(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("FRAME_CAPTURE_STORE__SECRET_ACCESS_KEY", SECRET)
    async with cage(sandbox="best_effort") as pool:
        await run(pool, nothing=True)
        assert not [pid for pid in (*pool.pids(), pool._spawner.server_pid) if SECRET.encode() in memory(pid)]
        assert SECRET.encode() in memory(os.getpid()), "the search finds what is there"


def memory(pid):
    """Read all of a process's private memory."""
    parts = []
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as data:
        for line in maps:
            start, end, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
            if rights.startswith("rw"):
                data.seek(int(start, 16))
                with contextlib.suppress(OSError):
                    parts.append(data.read(int(end, 16) - int(start, 16)))
    return b"".join(parts)


def without(*numbers):
    """Make what hides system calls from a process and its children, as an old kernel or container runtime does."""

    def hide():
        lines = [struct.pack("<HBBI", 0x20, 0, 0, 0)]
        for number in numbers:
            lines += [struct.pack("<HBBI", 0x15, 0, 1, number), struct.pack("<HBBI", 0x06, 0, 0, seccomp.UNKNOWN)]
        lines.append(struct.pack("<HBBI", 0x06, 0, 0, seccomp.ALLOW))
        program = seccomp._Program(len(lines), b"".join(lines))
        prctl(38, 1)
        machine = seccomp.MACHINES[os.uname().machine]
        seccomp.syscall(machine.seccomp, ctypes.c_uint(1), ctypes.c_uint(0), ctypes.byref(program))

    return hide


LANDLOCK_ALONE = [
    "read a file", "write a file", "make a folder", "delete a file", "list a folder", "read its environment",
    "connect by TCP", "listen", "make a symlink", "connect to an abstract socket", "kill its parent",
]  # fmt: skip
SECCOMP = seccomp.MACHINES[os.uname().machine].seccomp if os.uname().machine in seccomp.MACHINES else 0


@full
@pytest.mark.parametrize(("hidden", "missing"), [(444, "Landlock"), (SECCOMP, "seccomp filter")])
def test_required_refuses_to_start_where_something_is_missing(hidden, missing):
    done = worker("required", {}, preexec_fn=without(hidden))
    assert done.returncode == 1
    expected = (
        f"FRAME_CAPTURE_POOL__SANDBOX is required, but this machine has no {missing} (kernel {os.uname().release}"
    )
    assert f"{Code.INTERNAL_ERROR} {expected}" in done.stderr
    assert "set it to best_effort" in done.stderr


@full
@pytest.mark.parametrize(("hidden", "missing"), [(444, "Landlock"), (SECCOMP, "seccomp filter")])
def test_best_effort_does_with_what_there_is(world, hidden, missing):
    only = {"only": LANDLOCK_ALONE} if hidden == SECCOMP else {}
    done = worker("best_effort", {"try": world} | only, preexec_fn=without(hidden))
    assert done.returncode == 0, done.stderr
    assert f"WARNING decoders run in a sandbox without {missing}" in done.stderr
    said = json.loads(done.stdout)
    del said["uid"], said["memory_opened"]
    if hidden == SECCOMP:
        refused = dict.fromkeys(LANDLOCK_ALONE[:-2], "EACCES") | dict.fromkeys(LANDLOCK_ALONE[-2:], "EPERM")
        assert said == refused | {"threads": True}
    else:
        assert_nothing_done(said)  # seccomp alone holds all of it


async def test_a_decoder_that_is_not_ready_is_no_decoder(monkeypatch):
    monkeypatch.setattr("worker.adapters.spawner.START_TIMEOUT_S", 0)
    with pytest.raises(TaskError, match="was not ready after 0 s"):
        async with cage(sandbox="off"):
            pass


async def test_a_decoder_that_dies_before_it_is_ready_is_told(monkeypatch):
    async with cage(sandbox="off") as pool:
        child = await pool._spawner._server.fork()
        child.kill()
        await child.end()
        await child.receive(0)  # it may have come so far
        with pytest.raises(TaskError, match=r"a decoder process was killed by SIGKILL.* before it was ready"):
            await pool._spawner._ready(child)
        child.close()


def test_rights_are_those_of_each_version():
    assert landlock.rights(1) == (0x1FFF, 0, 0)
    assert landlock.rights(2) == (0x3FFF, 0, 0)
    assert landlock.rights(4) == (0x7FFF, 3, 0)
    assert landlock.rights(5) == (0xFFFF, 3, 0)
    assert landlock.rights(6) == landlock.rights(99) == (0xFFFF, 3, 3)


def test_an_error_of_the_kernel_names_the_call():
    with pytest.raises(OSError, match=r"prctl\(-1, 0\): Invalid argument") as caught:
        prctl(-1, 0)
    assert caught.value.errno == errno.EINVAL
