"""A way to a server on which what a client says can be held up, answered by silence or otherwise, or cut off.

That begins with a given word, or for all that is said. It runs in threads of its own: tests wait for workers without an
event loop.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

REACHED_S = 30
BROKEN_BYTES = 1000  # more than the head of an answer


@dataclass(eq=False)
class Trap:
    """Waits for a client to say `word`. `how`: `hold` it back, be `silent` after passing it on, `freeze` both ways,
    `cut` the line, `break` off after the first bytes of the answer, or `answer` in the server's place and hang up.
    """

    word: bytes
    how: str
    answer: bytes = b""
    reached: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    opened: threading.Event = field(default_factory=threading.Event)
    dropped: bool = False

    def wait(self, times: int = 1) -> None:
        """Wait until the word was said so often."""
        for _ in range(times):
            assert self.reached.acquire(timeout=REACHED_S), f"nobody said {self.word!r} within {REACHED_S} s"


class Proxy:
    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lines: list[socket.socket] = []
        self._traps: list[Trap] = []
        self._thread: threading.Thread

    def set(self, word: bytes, how: str = "hold", answer: bytes = b"") -> Trap:
        trap = Trap(word, how, answer)
        self._traps.append(trap)
        return trap

    def open(self, trap: Trap, *, drop: bool = False) -> None:
        """Let everything go on, what is held too unless it is to be dropped, with its connection."""
        self._traps.remove(trap)
        trap.dropped = drop
        trap.opened.set()

    @contextmanager
    def trapping(self, word: bytes, how: str, answer: bytes = b"") -> Iterator[Trap]:
        """Have a trap as long as the block lasts. What was frozen is dropped then, with its connection."""
        trap = self.set(word, how, answer)
        try:
            yield trap
        finally:
            self.open(trap, drop=how == "freeze")

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:  # as it would be without us
                _shut(client)
                continue
            self._lines += [client, server]
            line = _Line(client, server)
            for pump in (self._up, self._down):
                threading.Thread(target=pump, args=(line,), daemon=True).start()

    @contextmanager
    def refusing(self, *, only_new: bool = False) -> Iterator[None]:
        """Have new connections refused as long as the block lasts, and end those there are, unless `only_new`."""
        self._refuse()
        if not only_new:
            self._end()
        try:
            yield
        finally:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.start()

    def start(self) -> None:
        self._thread = threading.Thread(target=self.serve, daemon=True)
        self._thread.start()

    def _refuse(self) -> None:
        _shut(self._listener)
        self._thread.join()

    def _end(self) -> None:
        for line in self._lines:
            _shut(line)
        self._lines.clear()

    def close(self) -> None:
        for trap in list(self._traps):
            self.open(trap, drop=True)
        self._refuse()
        self._end()

    def _up(self, line: "_Line") -> None:
        with suppress(OSError):
            while data := line.client.recv(1 << 20):
                for trap in [each for each in self._traps if each.word in data]:
                    if trap.how == "freeze":
                        line.speaking.clear()
                    trap.reached.release()
                    match trap.how:
                        case "cut":
                            raise OSError
                        case "answer":
                            line.client.sendall(trap.answer)
                            raise OSError
                        case "silent":
                            line.speaking.clear()
                        case "break":
                            line.breaking = True
                        case "hold" | "freeze":
                            trap.opened.wait()
                            if trap.dropped:
                                raise OSError
                line.server.sendall(data)
        line.close()

    def _down(self, line: "_Line") -> None:
        with suppress(OSError):
            while data := line.server.recv(1 << 20):
                while not line.speaking.wait(0.1):
                    if line.client.fileno() < 0:
                        return
                line.client.sendall(data[:BROKEN_BYTES] if line.breaking else data)
                if line.breaking:
                    raise OSError
        line.close()


@dataclass(eq=False)
class _Line:
    """A client's connection, and ours to the server for it."""

    client: socket.socket
    server: socket.socket
    speaking: threading.Event = field(default_factory=threading.Event)
    breaking: bool = False

    def __post_init__(self) -> None:
        self.speaking.set()

    def close(self) -> None:
        _shut(self.client)
        _shut(self.server)


def _shut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """Run a proxy before a port of this machine."""
    one = Proxy(port)
    one.start()
    try:
        yield one
    finally:
        one.close()
