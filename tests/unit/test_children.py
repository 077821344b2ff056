"""The worker's end of a decoder's socket."""

import asyncio
import contextlib
import socket

import pytest

from worker.adapters import children, wire
from worker.adapters.children import MESSAGES_IN_A_ROW, RECEIPT_MESSAGES, RECEIVE_BYTES, Child
from worker.media.plan import Progress


@pytest.mark.parametrize("receive_bytes", [RECEIVE_BYTES, 4096, 7])
async def test_a_decoder_that_never_stops_talking_lets_others_have_their_turn(monkeypatch, receive_bytes):
    """Otherwise it would stop those who keep its time limits, and the worker's heartbeats."""
    monkeypatch.setattr(children, "RECEIVE_BYTES", receive_bytes)
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
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                said = b"".join(wire.pack(Progress(sent)))
                assert its.send(said) == len(said)
                sent += 1
        child = Child(0, mine, None, asyncio.get_running_loop().create_future())
        task = asyncio.create_task(others())
        for number in range(sent):  # all that is there without waiting
            assert await child.receive(0) == Progress(number)
        task.cancel()
    assert turns >= sent // MESSAGES_IN_A_ROW > 1
    assert turns <= 2 * (sent + sent * len(said) * RECEIPT_MESSAGES // receive_bytes) // MESSAGES_IN_A_ROW + 2
