"""A proxy before an S3 server, which answers errors, breaks off, stalls."""

import asyncio
import contextlib
import re
import socket
import struct
from collections import deque
from contextlib import asynccontextmanager


class FaultProxy:
    """Passes requests on to a server, but for those that `faults` names: pairs of method and what befalls it.

    A status code is answered in place of the server; `cut` breaks off within the body, `reset` before any answer,
    `stall` never answers, `whole` answers 200 with more than was asked for.
    """

    def __init__(self, upstream):
        self.upstream_port = int(upstream.rpartition(":")[2])
        self.faults = deque()
        self.requests = []
        self.arrived = asyncio.Condition()
        self.open = self.most_open = 0
        self.hold = asyncio.Event()
        self.hold.set()

    @asynccontextmanager
    async def running(self):
        connections = set()

        async def serve(reader, writer):
            connections.add(asyncio.current_task())
            try:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await self._serve(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
                connections.discard(asyncio.current_task())

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**17)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            under_way = tuple(connections)
            for connection in under_way:
                connection.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def wait_for(self, method, count=1):
        async with self.arrived:
            await self.arrived.wait_for(lambda: self.requests.count(method) >= count)

    async def _serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if b"100-continue" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = re.sub(rb"\r\nExpect: [^\r]*", b"", head, flags=re.IGNORECASE)
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1]) if length else 0)
        method = head.split()[0].decode()
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        async with self.arrived:
            self.requests.append(method)
            self.arrived.notify_all()
        await self.hold.wait()
        try:
            await self._answer(method, head, body, writer)
        finally:
            self.open -= 1

    async def _answer(self, method, head, body, writer):
        fault = self.faults.popleft()[1] if self.faults and self.faults[0][0] == method else None
        if fault == "stall":
            await asyncio.Event().wait()
        elif fault == "reset":
            reset(writer)
        elif fault == "whole":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n" + bytes(100))
        elif isinstance(fault, tuple):
            writer.write(error_answer(*fault, method))
        else:
            answer = await self._upstream(head, body)
            if fault == "cut":
                cut = answer.index(b"\r\n\r\n") + 4
                writer.write(answer[: (cut + len(answer)) // 2])
                await writer.drain()
                reset(writer)
            else:
                writer.write(answer)
        await writer.drain()

    async def _upstream(self, head, body):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        head = re.sub(rb"\r\nConnection: [^\r]*", b"", head, flags=re.IGNORECASE)
        writer.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
        try:
            return await reader.read()
        finally:
            writer.close()


def reset(writer):
    """Send RST, not FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def error_answer(status, code, method):
    body = f"<Error><Code>{code}</Code><Message>told by the test</Message></Error>" if method != "HEAD" else ""
    head = f"HTTP/1.1 {status} Told\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


SLOW_DOWN = (503, "SlowDown")
INTERNAL = (500, "InternalError")
