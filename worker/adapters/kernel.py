"""The calls of the Linux kernel that Python does not offer. Knows what they are called, not what they are for."""

import ctypes
import os
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, argument: int) -> None:
    """Change an attribute of this process (prctl(2)). Raises `OSError`."""
    if _LIBC.prctl(option, argument, 0, 0, 0) != 0:
        raise _error(f"prctl({option}, {argument})")


def syscall(number: int, *arguments: object) -> int:
    """Make a system call by its number; arguments are as for a C function. Raises `OSError`."""
    result = int(_LIBC.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise _error(f"system call {number}")
    return result


def _error(call: str) -> OSError:
    error = ctypes.get_errno()
    return OSError(error, f"{call}: {os.strerror(error)}")
