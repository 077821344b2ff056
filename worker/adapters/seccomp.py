"""The system calls that a decoder may make, as a seccomp filter: all others fail.

A list of what is allowed, so that what a kernel brings anew is not. What libraries may try without harm fails with an
error, as if it were not permitted; what only a hijacked decoder does ends the process with SIGSYS. The filter is
classic BPF (linux/filter.h) on `struct seccomp_data`: https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from worker.adapters.kernel import syscall

ALLOW, KILL = 0x7FFF0000, 0x80000000  # SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS
REFUSE, UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS  # SECCOMP_RET_ERRNO with its error

_SET_MODE_FILTER: Final = 1
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF's instructions
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # where `struct seccomp_data` has them
_X32_BIT: Final = 0x40000000  # on x86-64, calls of another ABI with numbers of their own
_NEWEST: Final = 470  # calls with higher numbers came later: those who try them fall back on others, as of old
_INSTRUCTION: Final = struct.Struct("=HBBI")

_PROT_EXEC: Final = 4
_CLONE_THREAD: Final = 0x00010000
_CLONE_NAMESPACES: Final = 0x7E020000

# Memory, threads, clocks, signals to oneself, and bytes through what is open already.
_ALLOWED = (
    "read", "recvfrom", "write", "writev", "lseek", "close", "fstat", "futex", "munmap", "mremap", "madvise", "brk",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "setitimer", "restart_syscall", "sched_yield",
    "sched_getaffinity", "set_robust_list", "rseq", "membarrier", "getrandom", "clock_gettime", "clock_getres",
    "clock_nanosleep", "nanosleep", "gettimeofday", "getrusage", "times", "getpid", "getppid", "gettid", "getuid",
    "geteuid", "getgid", "getegid", "exit", "exit_group",
)  # fmt: skip
_HIJACKED = ("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev")
_EXECUTABLE = ("mmap", "mprotect")  # not allowed with memory that can be run


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of processor: its `AUDIT_ARCH_…`, the number of seccomp(2), and of the calls that the filter names."""

    audit: int
    seccomp: int
    numbers: dict[str, int]
    x32: bool = False


MACHINES: Final = {
    "x86_64": Machine(0xC000003E, 317, {
        "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
        "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "writev": 20, "sched_yield": 24, "mremap": 25,
        "madvise": 28, "nanosleep": 35, "setitimer": 38, "getpid": 39, "recvfrom": 45, "clone": 56, "execve": 59,
        "exit": 60, "gettimeofday": 96, "getrusage": 98, "times": 100, "ptrace": 101, "getuid": 102, "getgid": 104,
        "geteuid": 107, "getegid": 108, "getppid": 110, "sigaltstack": 131,
        "gettid": 186, "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228,
        "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "tgkill": 234, "set_robust_list": 273,
        "process_vm_readv": 310, "process_vm_writev": 311, "getrandom": 318, "execveat": 322, "membarrier": 324,
        "rseq": 334, "clone3": 435,
    }, x32=True),
    "aarch64": Machine(0xC00000B7, 277, {
        "close": 57, "lseek": 62, "read": 63, "write": 64, "writev": 66, "fstat": 80, "exit": 93, "exit_group": 94,
        "futex": 98, "set_robust_list": 99, "nanosleep": 101, "setitimer": 103, "clock_gettime": 113,
        "clock_getres": 114, "clock_nanosleep": 115, "ptrace": 117, "sched_getaffinity": 123, "sched_yield": 124,
        "restart_syscall": 128, "tgkill": 131, "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135,
        "rt_sigreturn": 139, "times": 153, "getrusage": 165, "gettimeofday": 169, "getpid": 172, "getppid": 173,
        "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "gettid": 178, "recvfrom": 207, "brk": 214,
        "munmap": 215, "mremap": 216, "clone": 220, "execve": 221, "mmap": 222, "mprotect": 226, "madvise": 233,
        "process_vm_readv": 270, "process_vm_writev": 271, "getrandom": 278, "execveat": 281, "membarrier": 283,
        "rseq": 293, "clone3": 435,
    }),
}  # fmt: skip


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def restrict(pid: int, otherwise: int = REFUSE) -> bool:
    """Shut this thread, and those it starts, in the filter for the process `pid`, which is its own.

    `otherwise` is what befalls a call that is not allowed. Returns False where there is no seccomp, or no list for
    this kind of processor. Raises `OSError`; `no_new_privs` has to be set.
    """
    machine = MACHINES.get(os.uname().machine)
    if machine is None:
        return False
    instructions = program(machine, pid, otherwise)
    wrapped = _Program(len(instructions) // _INSTRUCTION.size, instructions)
    try:
        syscall(machine.seccomp, ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(0), ctypes.byref(wrapped))
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EINVAL, errno.EPERM}:  # not built in, or not allowed
            return False
        raise
    return True


def program(machine: Machine, pid: int, otherwise: int = REFUSE) -> bytes:
    """Write the filter down."""
    number = machine.numbers
    lines = [
        _load(_ARCHITECTURE),
        *_unless(_EQUAL, machine.audit, [_give(KILL)]),
        _load(_NUMBER),
    ]
    if machine.x32:
        lines += _when(_AT_LEAST, _X32_BIT, [_give(KILL)])
    for name in _ALLOWED:
        lines += _when(_EQUAL, number[name], [_give(ALLOW)])
    for name in _EXECUTABLE:
        test = [_load_argument(2), *_when(_ANY_BIT, _PROT_EXEC, [_give(otherwise)]), _give(ALLOW)]
        lines += _when(_EQUAL, number[name], test)
    threads = [
        _load_argument(0),
        *_unless(_ANY_BIT, _CLONE_THREAD, [_give(otherwise)]),
        *_when(_ANY_BIT, _CLONE_NAMESPACES, [_give(otherwise)]),
        _give(ALLOW),
    ]
    lines += _when(_EQUAL, number["clone"], threads)
    lines += _when(_EQUAL, number["clone3"], [_give(UNKNOWN)])  # its flags are out of sight; glibc falls back on clone
    own = [_load_argument(0), *_unless(_EQUAL, pid, [_give(otherwise)]), _give(ALLOW)]
    lines += _when(_EQUAL, number["tgkill"], own)  # how abort() ends the process
    for name in _HIJACKED:
        lines += _when(_EQUAL, number[name], [_give(KILL)])
    lines += _when(_AT_LEAST, _NEWEST + 1, [_give(UNKNOWN)])
    return b"".join([*lines, _give(otherwise)])


def _load(offset: int) -> bytes:
    return _INSTRUCTION.pack(_LOAD, 0, 0, offset)


def _load_argument(index: int) -> bytes:
    """Load the lower half of an argument: those that are tested are 32 bits, and both machines little-endian."""
    return _load(_ARGUMENTS + 8 * index)


def _when(test: int, value: int, then: Iterable[bytes]) -> list[bytes]:
    lines = list(then)
    return [_INSTRUCTION.pack(test, 0, len(lines), value), *lines]


def _unless(test: int, value: int, then: Iterable[bytes]) -> list[bytes]:
    lines = list(then)
    return [_INSTRUCTION.pack(test, len(lines), 0, value), *lines]


def _give(verdict: int) -> bytes:
    return _INSTRUCTION.pack(_RETURN, 0, 0, verdict)
