"""Landlock: from now on this process opens no file, listens on and connects to no TCP port, signals none outside.

Needs no privilege but `no_new_privs`, and Linux 5.13. What is open already stays usable. The bits are those of
linux/landlock.h; what each version of the ABI knows: https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import errno
import os
from typing import Final

from worker.adapters.kernel import syscall

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same number on all architectures
_VERSION_FLAG: Final = 1
_FS_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}  # the number of rights on files from a version on
_NET_VERSION, _NET_RIGHTS = 4, 0b11  # bind and connect by TCP
_SCOPE_VERSION, _SCOPES = 6, 0b11  # abstract Unix sockets, and signals
_ABSENT: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})  # not there, not enabled, or not allowed


class _Ruleset(ctypes.Structure):
    """`struct landlock_ruleset_attr`: the rights that are taken away where no rule gives them back."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def version() -> int:
    """Tell which version of Landlock's ABI this kernel offers; 0: none."""
    try:
        return syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    except OSError as error:
        if error.errno in _ABSENT:
            return 0
        raise


def rights(abi: int) -> tuple[int, int, int]:
    """List what a version can take away, as bits: rights on files, on the network, and scopes."""
    files = max(number for since, number in _FS_RIGHTS.items() if since <= abi)
    return (1 << files) - 1, _NET_RIGHTS if abi >= _NET_VERSION else 0, _SCOPES if abi >= _SCOPE_VERSION else 0


def restrict() -> int:
    """Take from this thread, and those it starts, every right that the kernel can take.

    Returns the version of the ABI, 0 where there is no Landlock. Raises `OSError`; `no_new_privs` has to be set.
    """
    abi = version()
    if abi == 0:
        return 0
    ruleset = _Ruleset(*rights(abi))
    descriptor = syscall(
        _CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(ctypes.sizeof(ruleset)), ctypes.c_uint32(0)
    )
    try:
        syscall(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)
    return abi
