"""What a decoder that a file has taken over would try, run inside a real decoder process: see `test_cage.py`."""

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryReport, Image, PartEvent, Report

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, MEMFD, PTRACE_ATTACH = 0x10000000, b"x", 16


def call(name, *arguments):
    """Call a C function; a failure raises its error."""
    result = getattr(LIBC, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result


def mapped(name, size=4096):
    """Call mmap(2) or the like, whose failure is a pointer of -1."""
    function = LIBC.mmap
    function.restype = ctypes.c_void_p
    result = function(None, size, *name)
    if result == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return result


def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as sock:
        sock.connect(address)


def udp(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"stolen", ("127.0.0.1", port))


def fork():
    if os.fork() == 0:
        os._exit(0)


def read_own_memory():
    with Path("/proc/self/mem").open("rb") as memory:
        memory.seek(id(memory))
        memory.read(1)


def executable_memory():
    page = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    call("mprotect", ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_EXEC)


def attempts(secret, folder, tcp_port, udp_port, unix_path, abstract):
    """Every forbidden thing by its name."""
    parent = os.getppid()
    return {
        "read a file": lambda: Path(secret).read_bytes(),
        "open a path only": lambda: os.open(secret, os.O_PATH),
        "write a file": lambda: Path(folder, "written").write_bytes(b"x"),
        "make a folder": lambda: Path(folder, "made").mkdir(),
        "delete a file": lambda: Path(secret).unlink(),
        "rename a file": lambda: Path(secret).rename(secret + "2"),
        "link a file": lambda: os.link(secret, secret + "3"),
        "make a symlink": lambda: Path(folder, "link").symlink_to(secret),
        "change a mode": lambda: Path(secret).chmod(0o777),
        "list a folder": lambda: list(Path(folder).iterdir()),
        "tell whether a file exists": lambda: Path(secret).stat(),
        "change directory": lambda: os.chdir("/"),
        "read a symlink": lambda: Path("/proc/self/exe").readlink(),
        "read its environment": lambda: Path("/proc/self/environ").read_bytes(),
        "read its parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "read its memory as a file": read_own_memory,
        "connect by TCP": lambda: connect(socket.AF_INET, ("127.0.0.1", tcp_port)),
        "connect by TCP, version 6": lambda: connect(socket.AF_INET6, ("::1", tcp_port)),
        "send by UDP": lambda: udp(udp_port),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "connect to a Unix socket": lambda: connect(socket.AF_UNIX, unix_path),
        "connect to an abstract socket": lambda: connect(socket.AF_UNIX, "\0" + abstract),
        "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "make a socket pair": socket.socketpair,
        "pass descriptors": lambda: socket.send_fds(socket.socket(fileno=3), [b"x"], [0]),
        "start a process": fork,
        "start a process with vfork": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "kill its parent": lambda: os.kill(parent, signal.SIGKILL),
        "kill its group": lambda: os.killpg(0, signal.SIGKILL),
        "signal a thread of its parent": lambda: LIBC.tgkill(parent, parent, 9) and call("tgkill", parent, parent, 9),
        "get hold of its parent": lambda: os.pidfd_open(parent),
        "change its parent's limits": lambda: call("prlimit", parent, 7, b"\1" * 16, None),
        "change its limits": lambda: call("setrlimit", 7, b"\0" * 16),
        "change its user": lambda: os.setuid(os.getuid()),
        "be dumpable again": lambda: call("prctl", 4, 1, 0, 0, 0),
        "get a namespace": lambda: call("unshare", CLONE_NEWUSER),
        "mount": lambda: call("mount", b"none", folder.encode(), b"tmpfs", 0, None),
        "change root": lambda: os.chroot("/"),
        "make a file in memory": lambda: os.memfd_create("x"),
        "map executable memory": lambda: mapped((mmap.PROT_READ | mmap.PROT_EXEC, 0x22, -1, 0)),
        "make memory executable": executable_memory,
        "use io_uring": lambda: call("syscall", 425, 1, None),
        "open a tree": lambda: call("syscall", 428, -100, b"/", 0),
        "open by openat2": lambda: call("syscall", 437, -100, b"/", None, 0),
        "take a descriptor": lambda: call("syscall", 438, 3, 0, 0),
        "make a pipe": os.pipe,
        "duplicate a descriptor": lambda: os.dup(3),
        "control a device": lambda: call("ioctl", 0, 0x5412, b"x"),
        "use a call of the future": lambda: call("syscall", 999, 0),
    }


def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def threads_work():
    """Tell whether a thread can be started, which FFmpeg and the encoders need."""
    said = []
    thread = threading.Thread(target=said.append, args=(1,))
    thread.start()
    thread.join()
    return said == [1]


def perform(source: BinaryIO, plan: CapturePlan) -> Iterator[PartEvent]:
    """Do what the source says; an attempt that is not survived ends the process."""
    command = json.loads(source.read(10_000))
    if "die" in command:
        yield image(b"alive")
        LIBC.execve(b"/bin/true", None, None) if command["die"] == "exec" else LIBC.ptrace(PTRACE_ATTACH, 1, None, None)
        yield image(b"survived", 2)
    elif "try" in command:
        tries = attempts(**command["try"])
        said = {name: outcome(tries[name]) for name in command.get("only", tries)}
        yield image(json.dumps(said | {"threads": threads_work(), "uid": os.getuid()}).encode())
    yield Report(tuple(EntryReport(1, 1) for _ in plan.entries), "test", "none", 1, 1, 1, 1, 0, {})


def image(data, index=1):
    return Image(0, index, Fraction(0), Fraction(0), 1, True, 7, 1, data, sha256(data).hexdigest())


def frugal(source: BinaryIO, plan: CapturePlan) -> Iterator[PartEvent]:
    """Capture as always, then fail if anything was imported meanwhile: inside, that may fail without a word."""
    before = set(sys.modules)
    for event in capture(source, plan):
        if isinstance(event, Report) and (late := set(sys.modules) - before):
            raise AssertionError(f"imported late: {sorted(late)}")
        yield event
