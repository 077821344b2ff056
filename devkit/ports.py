"""Free loopback ports for the private servers that the demo, the tests and the benchmark start."""

import random
import socket
from contextlib import ExitStack

# Below the kernel's ephemeral range (32768 and up), also with the offset of 10,000 that SeaweedFS adds for gRPC: no
# outgoing connection can take a port between the choice here and the server's start.
_CANDIDATES = range(15_000, 22_000)


def free_ports(count: int, *, offsets: tuple[int, ...] = (0,)) -> tuple[int, ...]:
    """Choose `count` different ports of 127.0.0.1 which nothing uses, nor uses any of `port + offset`."""
    chosen: list[int] = []
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        if _all_free([port + offset for offset in offsets]):
            chosen.append(port)
        if len(chosen) == count:
            return tuple(chosen)
    raise RuntimeError(f"of the ports {_CANDIDATES} of 127.0.0.1 fewer than {count} are free")


def _all_free(ports: list[int]) -> bool:
    with ExitStack() as sockets:
        for port in ports:
            candidate = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
