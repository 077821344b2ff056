"""The queue of parked messages, as a person looks through it: nothing leaves it but what is replayed or dropped.

What was looked at goes back to its place when the channel closes. Must not know what the messages say.
"""

import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from aiormq.abc import AbstractChannel, AbstractConnection
from pamqp.commands import Basic

from worker.adapters.amqp_delivery import CLOSE_S, PARK_CODE, PARK_REASON, AmqpDelivery
from worker.adapters.amqp_publish import Publisher, broker_call
from worker.adapters.amqp_refusal import EXPIRATION
from worker.adapters.topology import Topology
from worker.messages.headers import ATTEMPT, CRASHES, ENDING, NAMESPACE, OUTAGES, REPLAYED, RUN, count, trace
from worker.ports import BrokerLostError

CALL_S = 10
OF_ITS_RUN = (ATTEMPT, CRASHES, OUTAGES, ENDING, PARK_CODE, PARK_REASON, EXPIRATION)


class ParkedMessage(AmqpDelivery):
    """One message that is not tried again, unless it is replayed."""

    @property
    def task_id(self) -> str:
        """The task that it was."""
        return self._task_id

    @property
    def code(self) -> str:
        """The error code; of what no worker has announced, the broker's own word."""
        return str(self.headers.get(PARK_CODE) or self.headers.get("x-first-death-reason") or "")

    @property
    def reason(self) -> str:
        """What was wrong, for a person."""
        return str(self.headers.get(PARK_REASON) or "parked by the broker, and announced by no worker")

    @property
    def attempts(self) -> int:
        """How many attempts were made, counting the last; an invalid message had none that came to anything."""
        return count(self.headers, ATTEMPT, 1)

    @property
    def traceparent(self) -> str:
        """The W3C trace that it belongs to; empty without one."""
        return trace(self.headers)[0]

    async def replay(self) -> None:
        """Put the task back into its queue as a new run, confirmed, and take it off this one.

        Safe to repeat after a failure between the two: the same parked message is always the same run.
        Raises `BrokerLostError`.
        """
        digest = hashlib.sha256(self.body).hexdigest()
        run = str(uuid.uuid5(NAMESPACE, f"{self.task_id}/{self.headers.get(RUN)}/{digest}"))
        now = datetime.now(UTC).isoformat()
        copy = self._copy({RUN: run, REPLAYED: now}, without=OF_ITS_RUN)
        await self._publisher.publish_alone("", self._names.task_queue, copy)
        await self.drop()

    async def drop(self) -> None:
        """Delete the message. Raises `BrokerLostError` where nobody knows whether it is."""
        await self._settle(self._taken())

    async def _taken(self) -> None:
        """Acknowledge, and ask something, since an acknowledgement gets no answer of its own."""
        channel = self._message.channel
        await channel.basic_ack(self._tag)
        await channel.queue_declare(self._names.parked_queue, passive=True)


@asynccontextmanager
async def open_parked(
    connection: AbstractConnection, publisher: Publisher, names: Topology
) -> AsyncIterator[AsyncIterator[ParkedMessage]]:
    """Give the parked messages, oldest first, each once; those not settled go back to their places at the end.

    Raises `BrokerLostError`. While one person looks, others do not see the messages looked at.
    """
    async with broker_call(CALL_S):
        channel = await connection.channel(publisher_confirms=False)
    try:
        yield _messages(channel, publisher, names)
    finally:
        with suppress(BrokerLostError):
            async with broker_call(CLOSE_S):
                await channel.close()


async def _messages(channel: AbstractChannel, publisher: Publisher, names: Topology) -> AsyncIterator[ParkedMessage]:
    async with broker_call(CALL_S):
        declared = await channel.queue_declare(names.parked_queue, passive=True)
    for _ in range(declared.message_count or 0):
        async with broker_call(CALL_S):
            message = await channel.basic_get(names.parked_queue)
        if isinstance(message.delivery, Basic.GetEmpty):
            return
        yield ParkedMessage(message, publisher, names, jitter=0)
