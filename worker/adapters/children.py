"""The worker's hold on its decoder processes: one fork server, and one socket per child.

Owns process ids, sockets and exit codes. Knows nothing of slots, limits and what the messages mean.
"""

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from collections import deque
from pathlib import Path
from signal import SIGKILL, SIGSYS, Signals

from worker.adapters import wire
from worker.adapters.forkserver import NOTICE, REQUEST, Notice
from worker.errors import Code, TaskError

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10
_Forked = tuple[int, asyncio.Future[int | None]]
TOGETHER_BYTES = 2**16  # up to here one more copy costs less than one more system call
RECEIVE_BYTES = 2**17
MESSAGES_IN_A_ROW = 64
RECEIPT_MESSAGES = 16  # that one receipt takes as long as
STATM_BYTES = 256
CLOSED = -1  # no descriptor has this number, so that reading it fails
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
INHERITED_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME")  # what the interpreter itself may need


class Child:
    """One decoder process. `exited` tells its exit code, as `subprocess` does, or None if nobody saw it end."""

    def __init__(self, pid: int, sock: socket.socket, server: "ForkServer", exited: asyncio.Future[int | None]) -> None:
        self.pid = pid
        self.exited = exited
        self.tasks = 0
        self._sock = sock
        self._server = server
        self._received = b""
        self._taken = 0  # bytes of those, that have been read
        self._in_a_row = 0
        self._statm: int | None = None

    async def send(self, message: wire.ToDecoder) -> bool:
        """Send a message; False when the child is gone."""
        loop = asyncio.get_running_loop()
        try:
            for buffer in _together(wire.pack(message)):
                await loop.sock_sendall(self._sock, buffer)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    async def receive(self, max_payload_bytes: int) -> wire.FromDecoder | None:
        """Wait for the next message; None when the child is gone. Raises `WireError` for garbage."""
        await self._take_turns(1)
        prefix = await self._read(wire.PREFIX.size)
        if prefix is None:
            return None
        header_bytes, payload_bytes = wire.unpack_sizes(prefix, max_payload_bytes)
        header, payload = await self._read(header_bytes), await self._read(payload_bytes)
        if header is None or payload is None:
            return None
        message: wire.FromDecoder = wire.unpack(header, payload, wire.FromDecoder)
        return message

    async def _read(self, size: int) -> bytes | None:
        """Give the next bytes. All that is there is received at once, since most messages are small."""
        start, self._taken = self._taken, min(self._taken + size, len(self._received))
        parts = [self._received[start : self._taken]]
        missing = size - len(parts[0])
        while missing > 0:
            try:
                self._received = await self._some()
            except ConnectionResetError:  # how a Unix socket tells that its peer died with bytes unread
                return None
            if not self._received:
                return None
            self._taken = min(missing, len(self._received))
            parts.append(self._received[: self._taken])
            missing -= self._taken
        return b"".join(parts) if len(parts) > 1 else parts[0]

    async def _some(self) -> bytes:
        await self._take_turns(RECEIPT_MESSAGES)
        return await asyncio.get_running_loop().sock_recv(self._sock, RECEIVE_BYTES)

    async def _take_turns(self, messages: int) -> None:
        """Let others have their turn now and then where nothing has to be waited for.

        A decoder that never stops talking would else stop this process: its heartbeats, and who keeps the time limits.
        """
        self._in_a_row += messages
        if self._in_a_row >= MESSAGES_IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)

    def resident_bytes(self) -> int:
        """Tell how much memory the process holds now; 0 when it is gone, or that cannot be read."""
        try:
            if self._statm is None:
                self._statm = os.open(f"/proc/{self.pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(self._statm, STATM_BYTES, 0).split()[1]) * PAGE_BYTES
        except OSError:  # also where this process may open no more files: the time limits are kept all the same
            return 0

    async def end(self) -> str:
        """Wait for the process to be gone, and say how it ended."""
        code = await asyncio.shield(self.exited)
        if code is None:
            return "was lost with its fork server"
        if code == -SIGKILL:
            return "was killed by SIGKILL: by the kernel if memory ran out, otherwise by hand"
        if code == -SIGSYS:
            return "was killed by SIGSYS: it made a system call that only a hijacked decoder makes"
        return f"was killed by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def kill(self) -> None:
        """Kill the process and all that it started; nothing happens when it is gone already."""
        self._server.kill(self.pid)

    def close(self) -> None:
        """Close what is open of it. No receive may be under way."""
        self._sock.close()
        if self._statm not in {None, CLOSED}:
            os.close(self._statm)
        self._statm = CLOSED


class ForkServer:
    """The worker's end of one fork server process."""

    def __init__(self, process: Process, control: socket.socket) -> None:
        self.lost = False
        self.pid = process.pid
        self._process = process
        self._control = control
        self._forking: deque[asyncio.Future[_Forked]] = deque()
        self._exits: dict[int, asyncio.Future[int | None]] = {}
        asyncio.get_running_loop().add_reader(control, self._take_notice)

    @classmethod
    async def start(cls, function: str, data_limit_bytes: int, *, sandbox: bool) -> "ForkServer":
        """Start the process. It imports `function`, a dotted `module:name`, once for all its children."""
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            mine.setblocking(False)  # noqa: FBT003  the argument has no name
            process = await create_subprocess_exec(
                *(sys.executable, "-P", "-m", "worker.adapters.forkserver"),
                *(str(its.fileno()), function, str(data_limit_bytes), "on" if sandbox else "off"),
                pass_fds=[its.fileno()],
                env=_environment(),
                stdin=DEVNULL,
                stdout=DEVNULL,
                start_new_session=True,
            )
        return cls(process, mine)

    async def fork(self) -> Child:
        """Start a child. Raises `InternalError` when the fork server cannot: no source has a part in that."""
        if self.lost:
            raise _lost()
        mine, its = socket.socketpair()
        with its:
            mine.setblocking(False)  # noqa: FBT003  the argument has no name
            forked: asyncio.Future[_Forked] = asyncio.get_running_loop().create_future()
            try:
                socket.send_fds(self._control, [REQUEST.pack(0)], [its.fileno()])
                self._forking.append(forked)  # in the order of the requests: the answers name none
                async with asyncio.timeout(START_TIMEOUT_S):
                    pid, exited = await forked
            except (BrokenPipeError, ConnectionResetError, TimeoutError) as error:
                mine.close()
                self._lose()
                raise _lost() from error
            except BaseException:
                mine.close()
                raise
        return Child(pid, mine, self, exited)

    def kill(self, pid: int) -> None:
        """Kill the process group of the child `pid`; nothing happens when it is gone already."""
        if pid in self._exits:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # then the kernel has killed it
                self._control.send(REQUEST.pack(pid))

    async def close(self) -> None:
        """End the fork server and its children, and wait until they are gone."""
        self._lose()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()  # the kernel then kills its children
            await self._process.wait()

    def _take_notice(self) -> None:
        try:
            data = self._control.recv(NOTICE.size)
        except ConnectionResetError:
            data = b""
        if not data:
            self._lose()
            return
        notice, pid, code = NOTICE.unpack(data)
        if notice == Notice.EXITED:
            self._exits.pop(pid).set_result(code)
            return
        forked = self._forking.popleft()
        if notice == Notice.REFUSED:
            _settle(forked, TaskError(Code.INTERNAL_ERROR, f"no decoder process: {os.strerror(code)}", retryable=True))
            return
        self._exits[pid] = asyncio.get_running_loop().create_future()
        _settle(
            forked, (pid, self._exits[pid])
        )  # if nobody waits any more, its socket is closed, and it ends by itself

    def _lose(self) -> None:
        """Let go of the process: it takes the closed socket as the order to end."""
        if self.lost:
            return
        self.lost = True
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        while self._forking:
            _settle(self._forking.popleft(), _lost())
        while self._exits:
            self._exits.popitem()[1].set_result(None)


def _together(buffers: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    return (b"".join(buffers),) if sum(map(len, buffers)) <= TOGETHER_BYTES else buffers


def _settle(future: asyncio.Future[_Forked], result: _Forked | TaskError) -> None:
    if future.done():
        return
    if isinstance(result, TaskError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _lost() -> TaskError:
    return TaskError(Code.INTERNAL_ERROR, "the fork server of the decoders has ended", retryable=True)


def _environment() -> dict[str, str]:
    """Make the decoders' environment from nothing, so that no credential can be in it."""
    kept = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return kept | {"PYTHONPATH": path, "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
