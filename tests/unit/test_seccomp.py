"""The filter of system calls, read by an interpreter of its own, for both kinds of processor."""

import errno
import re
import struct
from pathlib import Path

import pytest

from worker.adapters.seccomp import ALLOW, KILL, MACHINES, REFUSE, UNKNOWN, program

PID = 4711
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
THREAD, FORK = 0x3D0F00, 0x1200011  # the flags of glibc's pthread_create and fork
MACHINE = pytest.mark.parametrize("name", MACHINES)


def verdict(name, number, *arguments, audit=None):
    """Interpret the filter as the kernel does (linux/filter.h) and give its word on a call."""
    machine = MACHINES[name]
    number = machine.numbers.get(number, number)
    data = struct.pack("<iIQ6Q", number, audit or machine.audit, 0, *arguments, *[0] * (6 - len(arguments)))
    lines = list(struct.iter_unpack("<HBBI", program(machine, PID)))
    at, value = 0, 0
    while True:
        code, yes, no, constant = lines[at]
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("<I", data, constant)
            case 0x15:
                at += yes if value == constant else no
            case 0x35:
                at += yes if value >= constant else no
            case 0x45:
                at += yes if value & constant else no
            case 0x06:
                return constant


@MACHINE
def test_numbers_are_the_kernels(name):
    if not HEADERS[name].exists():
        pytest.skip(f"{HEADERS[name]} is not there: install linux-libc-dev")
    told = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[name].read_text()))
    assert {call: int(told[call]) for call in MACHINES[name].numbers} == MACHINES[name].numbers


@MACHINE
def test_what_decoding_needs_is_allowed(name):
    calls = ["read", "recvfrom", "write", "futex", "munmap", "exit_group", "setitimer", "rseq", "getrandom"]
    assert {call: verdict(name, call) for call in calls} == dict.fromkeys(calls, ALLOW)
    assert verdict(name, "mmap", 0, 4096, 3) == ALLOW
    assert verdict(name, "mprotect", 0, 4096, 3) == ALLOW
    assert verdict(name, "clone", THREAD) == ALLOW
    assert verdict(name, "tgkill", PID, PID, 6) == ALLOW


@MACHINE
def test_what_only_a_hijacked_decoder_does_ends_it(name):
    calls = ["execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev"]
    assert {call: verdict(name, call) for call in calls} == dict.fromkeys(calls, KILL)
    assert verdict(name, "read", audit=0x40000003) == KILL  # i386: its numbers mean other calls
    assert verdict(name, "read", audit=0x40000028) == KILL  # and 32-bit ARM's
    if name == "x86_64":
        assert verdict(name, 0x40000000) == KILL


@MACHINE
def test_the_rest_is_refused(name):
    others = [number for number in range(471) if number not in MACHINES[name].numbers.values()]
    assert {verdict(name, number) for number in others} == {REFUSE}
    assert REFUSE & 0xFFFF == errno.EPERM


@MACHINE
def test_arguments_are_looked_at(name):
    assert verdict(name, "clone", FORK) == REFUSE
    assert verdict(name, "clone", 0x4111) == REFUSE, "vfork"
    assert verdict(name, "clone", THREAD | 0x10000000) == REFUSE, "a thread in a new user namespace"
    assert verdict(name, "mmap", 0, 4096, 5) == REFUSE
    assert verdict(name, "mprotect", 0, 4096, 7) == REFUSE
    assert verdict(name, "tgkill", PID + 1, PID + 1, 9) == REFUSE
    assert verdict(name, "tgkill", 2**32 - 1, PID, 9) == REFUSE


@MACHINE
def test_what_a_library_may_try_and_do_without_is_as_if_unknown(name):
    assert verdict(name, "clone3") == UNKNOWN
    assert verdict(name, 471) == UNKNOWN
    assert verdict(name, 999) == UNKNOWN
    assert UNKNOWN & 0xFFFF == errno.ENOSYS
