"""The fork server: a small process that has imported the decoder and forks one child per request.

Run as `python -m worker.adapters.forkserver CONTROL_FD MODULE:FUNCTION DATA_LIMIT_BYTES on|off`, the last for the
sandbox, with a clean environment, so that no child ever holds a credential. Single-threaded, since only then forking
is safe. It is the only one to kill and reap children, so that a signal never meets a process id that was given to
someone else. When the worker goes away, so do the children; when the fork server does, the kernel kills them.
"""

import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
from enum import IntEnum
from typing import NoReturn

from worker.adapters import cage, decoder
from worker.adapters.wire import Ready

REQUEST = struct.Struct("<i")  # a process id to kill, or 0, with a socket attached: fork a child that serves it
NOTICE = struct.Struct("<iii")  # what happened, process id, and exit code or errno


class Notice(IntEnum):
    """What the fork server tells. An exit code below 0 is a signal's number, negated."""

    FORKED = 0
    EXITED = 1
    REFUSED = 2


class ForkServer:
    """Forks, kills and reaps children as the worker at the other end of `control` asks."""

    def __init__(
        self, control: socket.socket, capture: decoder.Capture, data_limit_bytes: int, *, sandbox: bool
    ) -> None:
        self._control = control
        self._sandbox = sandbox
        self._capture = capture
        self._data_limit_bytes = data_limit_bytes
        self._pidfds: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Work until the worker closes its end or dies; then kill all children and wait for them."""
        self._selector.register(self._control, selectors.EVENT_READ, 0)
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.data:
                        self._reap(key.data)
                    elif not self._take_request():
                        return
        except (BrokenPipeError, ConnectionResetError):
            return  # the worker has died
        finally:
            for pid in self._pidfds:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _take_request(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, REQUEST.size, 1)
        if not data:
            return False
        (pid,) = REQUEST.unpack(data)
        if pid == 0:
            self._fork(descriptors[0])
        elif pid in self._pidfds:
            os.killpg(pid, signal.SIGKILL)
        return True

    def _fork(self, descriptor: int) -> None:
        server_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(descriptor)
            self._control.send(NOTICE.pack(Notice.REFUSED, 0, error.errno or 0))
            return
        if pid == 0:
            self._become_child(descriptor, server_pid)
        os.close(descriptor)
        os.setpgid(pid, pid)  # here and not in the child: from now on it can be killed with all it started
        self._pidfds[pid] = os.pidfd_open(pid)
        self._selector.register(self._pidfds[pid], selectors.EVENT_READ, pid)
        self._control.send(NOTICE.pack(Notice.FORKED, pid, 0))

    def _reap(self, pid: int) -> None:
        os.killpg(pid, signal.SIGKILL)  # what it may have started; as long as it is not reaped its id is its own
        _, status = os.waitpid(pid, 0)
        pidfd = self._pidfds.pop(pid)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        self._control.send(NOTICE.pack(Notice.EXITED, pid, os.waitstatus_to_exitcode(status)))

    def _become_child(self, descriptor: int, server_pid: int) -> NoReturn:
        """Serve the socket as a decoder process; never returns into the fork server's code."""
        try:
            cage.confine(descriptor, server_pid, self._data_limit_bytes)
            channel = decoder.Channel(socket.socket(fileno=cage.SOCKET_FD))
            channel.send(cage.shut() if self._sandbox else Ready(0, seccomp=False))
            decoder.serve(channel, self._capture)
        except BaseException:  # noqa: BLE001  whatever it was, this process must not go on as a second fork server
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(1)


def main() -> None:
    """Import what the children need, then serve."""
    control_fd, function, data_limit_bytes, sandbox = sys.argv[1:]
    # Signals to the service's process group or cgroup are the parent's to act on: it drains with its decoders alive.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module, _, name = function.partition(":")
    gc.disable()  # what imports make stays, and searching it takes a tenth of their time
    capture = getattr(importlib.import_module(module), name)
    gc.enable()
    gc.freeze()  # keeps the collector from writing to, and so copying, the pages that children share
    control = socket.socket(fileno=int(control_fd))
    ForkServer(control, capture, int(data_limit_bytes), sandbox=sandbox == "on").serve()


if __name__ == "__main__":
    main()
