"""Whose turn it is: idle slots go to the capture that holds the fewest, then first come, first served.

So a capture that has none goes before one that wants another. Must not know what a slot is good for.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from worker.adapters.decoder_slot import Slot


@dataclass(slots=True, eq=False)
class Claim:
    """One capture's standing: how many slots it holds."""

    held: int = 0


@dataclass(slots=True, eq=False)
class _Waiting:
    claim: Claim
    slot: asyncio.Future[Slot]


class Turns:
    """The idle slots, and who waits for one."""

    def __init__(self) -> None:
        self._idle: deque[Slot] = deque()
        self._waiting: list[_Waiting] = []

    async def take(self, claim: Claim) -> Slot:
        """Wait for a slot. Whoever takes one gives it back."""
        waiting = _Waiting(claim, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._match()
        slot = None
        try:
            slot = await waiting.slot
            return slot
        finally:
            if slot is None:  # cancelled, perhaps in the moment after the slot was given
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
                else:
                    self.give_back(waiting.slot.result(), claim)

    def give_back(self, slot: Slot, claim: Claim | None = None) -> None:
        """Give a slot to the next in turn; `claim` is that of who held it."""
        if claim is not None:
            claim.held -= 1
        slot.idle = True
        self._idle.append(slot)
        self._match()

    def _match(self) -> None:
        while self._idle and self._waiting:
            waiting = min(self._waiting, key=lambda each: each.claim.held)  # the first of several
            self._waiting.remove(waiting)
            if waiting.slot.cancelled():
                continue
            slot = self._idle.popleft()
            slot.idle = False
            waiting.claim.held += 1
            waiting.slot.set_result(slot)
