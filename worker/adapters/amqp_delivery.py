"""One task message from RabbitMQ, and the ways to be done with it. Must not know what the message says."""

import logging
import random
from collections.abc import Awaitable, Collection, Mapping
from contextlib import suppress
from datetime import datetime
from typing import cast

from aio_pika import Message
from aiormq.abc import DeliveredMessage

from worker.adapters.amqp_copy import copy_of
from worker.adapters.amqp_publish import Publisher, broker_call
from worker.adapters.amqp_refusal import EXPIRATION, refusal
from worker.adapters.topology import Topology
from worker.errors import TaskError
from worker.messages.headers import RUN, task_id
from worker.ports import BrokerLostError

SETTLE_S = 10
CLOSE_S = 5
PARK_CODE, PARK_REASON = "x-park-code", "x-park-reason"

log = logging.getLogger(__name__)


class AmqpDelivery:
    """One task message. It belongs to the channel that it came on: when that is gone, the broker sends it again."""

    def __init__(self, message: DeliveredMessage, publisher: Publisher, names: Topology, jitter: float) -> None:
        self._message = message
        self._properties = message.header.properties
        self._publisher = publisher
        self._names = names
        self._jitter = jitter
        self._refusal = refusal(message, names)

    @property
    def body(self) -> bytes:
        """The message body, unparsed."""
        return self._message.body

    @property
    def message_id(self) -> str | None:
        """The AMQP property, where the publisher set it."""
        return self._properties.message_id

    @property
    def timestamp(self) -> datetime | None:
        """When the publisher says the message was made (UTC)."""
        return self._properties.timestamp

    @property
    def headers(self) -> Mapping[str, object]:
        """The AMQP headers, untrusted."""
        return self._properties.headers or {}

    @property
    def refusal(self) -> TaskError | None:
        """Why no attempt may be made; None where one may."""
        return self._refusal

    @property
    def stale(self) -> bool:
        """Whether its channel is gone, so that the broker delivers the message again."""
        return self._message.channel.is_closed

    async def ack(self) -> None:
        """Settle: the broker may forget the message. A lost connection makes this a no-op: it comes again."""
        try:
            await self._settle(self._message.channel.basic_ack(self._tag))
        except BrokerLostError as error:
            self._publisher.counts.acks_lost += 1
            log.warning("task %s: acknowledgement lost, it will be delivered again: %s", self._task_id, error)

    async def retry(self, delay_s: int, headers: Mapping[str, str | int]) -> None:
        """Publish a copy, with `headers` added, to the delay queue for `delay_s`, confirmed. Does not ack.

        Raises `BrokerLostError`.
        """
        # Never above the queue's own limit: a message at the head that lives longer would hold up all behind it.
        share = random.uniform(1 - self._jitter, 1)  # noqa: S311 - nothing secret
        allowed = {EXPIRATION: self._properties.expiration} if self._properties.expiration else {}
        copy = self._copy({**headers, **allowed}, expiration_s=delay_s * share)
        await self._publisher.publish_alone(self._names.retry, self._names.retry_key(delay_s), copy)

    async def park(self, code: str, reason: str, run: str = "") -> None:
        """Publish a copy to the dead-letter exchange, with the reason, confirmed. Does not ack.

        `run` is of which run it is told to be, where that is another than its own. Raises `BrokerLostError`.
        """
        copy = self._copy({PARK_CODE: code, PARK_REASON: reason} | ({RUN: run} if run else {}))
        await self._publisher.publish_alone(self._names.dead, self._names.lane, copy)

    async def give_back(self) -> None:
        """Return the message to the queue untouched, for another worker."""
        with suppress(BrokerLostError):  # then the broker does so by itself
            await self._settle(self._message.channel.basic_nack(self._tag, requeue=True))

    async def _settle(self, answer: Awaitable[None]) -> None:
        """Send an answer. Raises `BrokerLostError`; then the channel is closed, so that the message comes again.

        A message without an answer on a live channel would hold its slot until the broker's delivery timeout.
        """
        channel = self._message.channel
        try:
            async with broker_call(SETTLE_S):
                await answer
        except BrokerLostError:
            if not channel.is_closed:
                with suppress(BrokerLostError):
                    async with broker_call(CLOSE_S):
                        await channel.close()
            raise

    @property
    def _tag(self) -> int:
        return cast("int", self._message.delivery_tag)  # every delivery has one

    @property
    def _task_id(self) -> str:
        return task_id(self.body, self.message_id)

    def _copy(
        self, headers: Mapping[str, str | int], expiration_s: float | None = None, without: Collection[str] = ()
    ) -> Message:
        return copy_of(self._message, self._task_id, headers, expiration_s=expiration_s, without=without)
