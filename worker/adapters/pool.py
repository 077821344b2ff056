"""The decoder pool: slots with one child process each, what they may cost, and what it means when one dies.

Owns slots and replacement. Must not know media, stores or queues: it passes a plan in and events out, as far as they
can be believed, and hands the decoder the bytes that it asks for.

A capture in one slot is strictly sequential: a decoder that waits for bytes sends nothing, so reads and events need no
tasks of their own, and a consumer that does not come back for the next event stops the decoder through the socket's
buffer. A long capture tells where it can be cut: then its parts go to the slots that nobody else waits for.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from signal import SIGPROF
from typing import Self

from worker import settings
from worker.adapters import wire
from worker.adapters.children import Child
from worker.adapters.claims import Claims, Said
from worker.adapters.decoder_slot import IDLE, Slot
from worker.adapters.parts import Begun, run_parts
from worker.adapters.spawner import Spawner
from worker.adapters.turns import Claim, Turns
from worker.adapters.watchdog import Watchdog
from worker.errors import Code, TaskError, over_limit
from worker.media.plan import CaptureEvent, CapturePlan, Cuts, Part, PartEvent, Report
from worker.ports import ByteSource
from worker.source import read_exactly

ALIVE_SHARE = 0.25  # of the silence that is allowed: how often a decoder tells that it is alive
RECYCLE_SHARE = 0.6  # of the memory limit, held by an idle decoder

log = logging.getLogger(__name__)


class DecoderTraceback(Exception):  # noqa: N818  the cause of an error, never raised by itself
    """The traceback of an error in a decoder process, as text for the log."""


class DecoderPool:
    """Decoder processes, one per slot; implements `worker.ports.DecoderPool`.

    `busy` counts slots at work, `restarts` replaced processes by reason (`recycled`, `crashed`, `timeout`, `memory`,
    `canceled`).
    """

    def __init__(self, limits: settings.Pool, function: str = "worker.media.capture:capture") -> None:
        self.busy = 0
        self.restarts: Counter[str] = Counter()
        self._limits = limits
        self._slots: list[Slot] = []
        self._turns = Turns()
        self._spawner = Spawner(limits, function)
        self._watchdog = Watchdog(limits, self._slots, self._replace)
        self._closing = False

    async def __aenter__(self) -> Self:
        try:
            self._slots += [Slot(asyncio.create_task(self._fork())) for _ in range(self._limits.slots)]
            for slot in self._slots:
                await slot.starting
                self._turns.give_back(slot)
            self._watchdog.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def workers(self) -> int:
        """The number of live decoder processes."""
        return len(self.pids())

    @property
    def max_rss_bytes(self) -> int:
        """The largest resident size of a decoder when last sampled."""
        return self._watchdog.max_rss_bytes

    def pids(self) -> list[int]:
        """List the process ids of the live decoders, in the order of their slots."""
        return [slot.child.pid for slot in self._slots if slot.child is not None and not slot.child.exited.done()]

    async def close(self) -> None:
        """Kill all decoders and wait until they are gone. Raises the bug that the watchdog ended by, if any."""
        self._closing = True
        starting = [slot.starting for slot in self._slots]
        for task in starting:
            task.cancel()
        outcomes = await asyncio.gather(*starting, return_exceptions=True)
        try:
            await self._watchdog.stop()
        finally:
            await self._spawner.close()  # captures that still run see their decoders die
            for child in outcomes:
                if isinstance(child, Child):
                    child.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, TaskError):
                raise outcome

    async def capture(
        self, plan: CapturePlan, source: ByteSource, begun: Begun | None = None
    ) -> AsyncGenerator[CaptureEvent, None]:
        """Run one capture in a free slot, or a long one in several; waits for one first. See `worker.ports`."""
        claim = Claim()

        def start(part: Part, begun: Begun) -> AsyncGenerator[PartEvent, None]:
            return self._run(claim, replace(plan, part=part), source, begun)

        may_split = self._limits.split and self._limits.slots > 1
        async with aclosing(self._run(claim, replace(plan, may_split=may_split), source, begun)) as events:
            async for event in events:
                if not isinstance(event, Cuts):
                    yield event
                    continue
                async with aclosing(run_parts(plan, event, events, start, self._limits.inflight_bytes)) as joined:
                    async for each in joined:
                        yield each
                return

    async def _run(
        self, claim: Claim, plan: CapturePlan, source: ByteSource, begun: Begun | None = None
    ) -> AsyncGenerator[PartEvent, None]:
        """Run a capture, or a part of one, in the slot that `claim` gets next; tells by `begun` that it has it."""
        slot = await self._turns.take(claim)
        self.busy += 1
        try:
            if begun is not None:
                begun()
            with source.reader() as reader:
                child = await self._begin(slot, plan, reader)
                claims = Claims(plan, reader.size, 2 * self._limits.hard_time_limit_s)  # killing takes a moment
                while not isinstance(message := await self._receive(slot, child, claims), Report):
                    if isinstance(message, wire.Read):
                        await self._answer(slot, child, message, reader)
                    elif isinstance(message, wire.Expect):
                        reader.expect(tuple(zip(message.offsets, message.sizes, strict=True)))
                    else:
                        yield message
            slot.deadline = IDLE
            child.tasks += 1
            worn = child.tasks >= self._limits.max_tasks
            fat = child.resident_bytes() > RECYCLE_SHARE * self._limits.memory_bytes
            if slot.verdict is None:  # otherwise it was killed the moment after it had finished
                slot.leaving = "recycled" if worn or fat else ""
            yield message
        finally:
            self.busy -= 1
            self._give_back(slot, claim)

    async def _begin(self, slot: Slot, plan: CapturePlan, source: ByteSource) -> Child:
        """Hand the plan to the slot's child. One that dies before it has started is replaced, once."""
        head = await read_exactly(source, 0, min(wire.HEAD_BYTES, source.size))
        bounds = (self._limits.soft_time_limit_s, self._limits.cpu_time_limit_s)
        request = wire.Begin(plan, source.size, *bounds, self._limits.silence_limit_s * ALIVE_SHARE, head)
        for last_try in (False, True):
            slot.leaving = "canceled"
            child = await self._child(slot)
            slot.deadline = asyncio.get_running_loop().time() + self._limits.hard_time_limit_s
            if await child.send(request) and (first := await self._hear(slot, child, 0)) is not None:
                if isinstance(first, wire.Started):
                    return child
                raise self._garbage(slot, f"{first!r:.80} before it had started")
            death = await self._death(slot, child, Code.INTERNAL_ERROR)
            if last_try or slot.verdict is not None:
                raise death
            log.warning("%s before its capture began, another takes its place", death.message)
            self._replace(slot, "crashed")
        raise AssertionError("unreachable")

    async def _child(self, slot: Slot) -> Child:
        """Wait for the slot's child; a start that failed is tried again, once for each capture."""
        if self._closing:
            raise TaskError(Code.INTERNAL_ERROR, "the decoder pool is closed", retryable=True)
        if slot.starting.done() and slot.starting.exception() is not None:
            slot.starting = asyncio.create_task(self._fork())
        return await asyncio.shield(slot.starting)

    async def _receive(self, slot: Slot, child: Child, claims: Claims) -> PartEvent | wire.Read | wire.Expect:
        """Wait for the decoder's next word on its capture. Raises what the capture raised, or what befell it."""
        message = await self._hear(slot, child, claims.max_image_bytes)
        if message is None:
            raise await self._death(slot, child)
        said = self._believed(slot, claims, message)
        if isinstance(said, wire.Failure):
            slot.leaving = "timeout" if said.code == Code.TIMEOUT else "recycled"
            cause = DecoderTraceback(said.traceback) if said.traceback else None
            raise TaskError(said.code, said.message, retryable=said.retryable) from cause
        return said

    def _believed(self, slot: Slot, claims: Claims, message: wire.FromDecoder) -> Said:
        try:
            return claims.check(message)
        except wire.WireError as error:
            raise self._garbage(slot, str(error)) from error

    async def _hear(self, slot: Slot, child: Child, max_payload_bytes: int) -> wire.FromDecoder | None:
        now = asyncio.get_running_loop().time
        slot.silent_since = now()
        try:
            while isinstance(message := await child.receive(max_payload_bytes), wire.Alive):
                slot.silent_since = now()
            return message
        except wire.WireError as error:
            raise self._garbage(slot, str(error)) from error
        finally:
            slot.silent_since = IDLE

    async def _answer(self, slot: Slot, child: Child, wanted: wire.Read, source: ByteSource) -> None:
        """Give the decoder the bytes it waits for. What reading raises is what the capture ends with."""
        if not await child.send(wire.Block(await read_exactly(source, wanted.offset, wanted.size))):
            raise await self._death(slot, child)

    async def _death(self, slot: Slot, child: Child, code: Code = Code.WORKER_CRASHED) -> TaskError:
        """Find out why the child closed its socket, and make sure that it is dead.

        `code` is what it means if the child died by itself. `WorkerCrashed` counts against the task.
        """
        child.kill()
        end = await child.end()
        if slot.verdict is not None:
            return slot.verdict
        if child.exited.result() == -SIGPROF:
            slot.leaving = "timeout"
            return over_limit("decoding took more CPU time", "POOL__CPU_TIME_LIMIT_S", self._limits.cpu_time_limit_s)
        slot.leaving = "crashed"
        lost = child.exited.result() is None  # with its fork server, and so with all other decoders
        return TaskError(Code.INTERNAL_ERROR if lost else code, f"the decoder process {end}", retryable=True)

    def _garbage(self, slot: Slot, what: str) -> TaskError:
        slot.leaving = "crashed"
        return TaskError(Code.WORKER_CRASHED, f"the decoder process sent garbage: {what}", retryable=True)

    def _give_back(self, slot: Slot, claim: Claim) -> None:
        """Free the slot, with the same child or a fresh one."""
        slot.deadline = IDLE
        if slot.leaving and not self._closing:
            self._replace(slot, slot.leaving)
        slot.leaving, slot.verdict = "", None
        self._turns.give_back(slot, claim)

    def _replace(self, slot: Slot, reason: str) -> None:
        if slot.child is not None:
            self.restarts[reason] += 1
            slot.child.kill()
            slot.child.close()
        if slot.starting.done():
            slot.starting = asyncio.create_task(self._fork())

    async def _fork(self) -> Child:
        child = await self._spawner.spawn()
        child.exited.add_done_callback(lambda _: self._watchdog.died.set())
        return child
