"""What a decoder process gives up before it sees an untrusted byte.

Some of it always, as limits on what a mistake can cost; the rest is the sandbox, in which even a decoder that a file
has taken over reads no file, reaches no network, starts no process and signals none. Must not know media. What it
needs of the file system has to be open or imported before.
"""

import os
import resource
import signal
from pathlib import Path
from typing import Final

from worker.adapters import landlock, seccomp
from worker.adapters.kernel import prctl
from worker.adapters.wire import Ready

SOCKET_FD: Final = 3
MAX_OPEN_FILES: Final = 32  # for what libraries import late, where there is no sandbox
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


def confine(descriptor: int, parent_pid: int, data_limit_bytes: int) -> None:
    """Die with the parent, keep no descriptor but `descriptor`, as `SOCKET_FD`, and the standard ones; bound the rest.

    The limit on data is the net under the sampling of memory: unlike the one on address space, it does not count what
    allocators and threads reserve without using it.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
    os.dup2(descriptor, SOCKET_FD, inheritable=False)
    os.closerange(SOCKET_FD + 1, 1 + max(int(path.name) for path in Path("/proc/self/fd").iterdir()))
    Path("/proc/self/oom_score_adj").write_text("1000", "ascii")  # the kernel shall take a child, never the worker
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_DATA, data_limit_bytes),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # noqa: PLW2901
        resource.setrlimit(limit, (value, value))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def shut() -> Ready:
    """Shut this process, which has one thread, in the sandbox; tells what of it this kernel has. Raises `OSError`."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 2)  # the worker's standard error is its log
    os.close(null)
    prctl(_PR_SET_DUMPABLE, 0)  # no other process of the same user reads its memory, or gets hold of its descriptors
    abi = landlock.restrict()
    return Ready(abi, seccomp.restrict(os.getpid()))
