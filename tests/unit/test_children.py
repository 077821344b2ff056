"""The worker's end of a decoder's socket."""

import asyncio
import contextlib
import socket

from worker.adapters import children, wire
from worker.adapters.children import RECEIPTS_IN_A_ROW, Child

RECEIVE_BYTES = 4096  # so that what a socket holds takes many receipts


async def test_a_decoder_that_never_stops_talking_lets_others_have_their_turn(monkeypatch):
    """Otherwise it would stop those who keep its time limits, and the worker's heartbeats."""
    monkeypatch.setattr(children, "RECEIVE_BYTES", RECEIVE_BYTES)
    mine, its = socket.socketpair()
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    with mine, its:
        for end in (mine, its):
            end.setblocking(False)
        said = b"".join(wire.pack(wire.Alive()))
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += its.send(said * (RECEIVE_BYTES // len(said)))
        child = Child(0, mine, None, asyncio.get_running_loop().create_future())
        task = asyncio.create_task(others())
        for _ in range(sent // len(said)):  # all that is there without waiting
            assert await child.receive(0) == wire.Alive()
        task.cancel()
    assert turns >= sent // (RECEIVE_BYTES * RECEIPTS_IN_A_ROW) > 0
