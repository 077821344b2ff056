"""A way to a server on which what a client says can be held up, answered by silence, or cut off, from a given word on.

It runs in threads of its own: tests wait for workers without an event loop.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

REACHED_S = 30


@dataclass(eq=False)
class Trap:
    """Waits for a client to say `word`. `how`: `hold` it back, be `silent` after passing it on, or `cut` the line."""

    word: bytes
    how: str
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
        self._lines: list[socket.socket] = [self._listener]
        self._traps: list[Trap] = []

    def set(self, word: bytes, how: str = "hold") -> Trap:
        trap = Trap(word, how)
        self._traps.append(trap)
        return trap

    def open(self, trap: Trap, *, drop: bool = False) -> None:
        """Let everything go on, what is held too unless it is to be dropped, with its connection."""
        self._traps.remove(trap)
        trap.dropped = drop
        trap.opened.set()

    def serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._lines += [client, server]
                silence = threading.Event()
                silence.set()
                for pump in (self._up, self._down):
                    threading.Thread(target=pump, args=(client, server, silence), daemon=True).start()

    def close(self) -> None:
        for trap in list(self._traps):
            self.open(trap, drop=True)
        for line in self._lines:
            _shut(line)

    def _up(self, client: socket.socket, server: socket.socket, speaking: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 20):
                for trap in [each for each in self._traps if each.word in data]:
                    if trap.how == "cut":
                        trap.reached.release()
                        raise OSError
                    if trap.how == "silent":
                        speaking.clear()
                    trap.reached.release()
                    if trap.how == "hold":
                        trap.opened.wait()
                        if trap.dropped:
                            raise OSError
                server.sendall(data)
        _shut(client)
        _shut(server)

    def _down(self, client: socket.socket, server: socket.socket, speaking: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 20):
                while not speaking.wait(0.1):
                    if client.fileno() < 0:
                        return
                client.sendall(data)
        _shut(client)
        _shut(server)


def _shut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """Run a proxy before a port of this machine."""
    one = Proxy(port)
    thread = threading.Thread(target=one.serve, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.close()
        thread.join()
