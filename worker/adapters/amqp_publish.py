"""Publishing to RabbitMQ so that nothing is believed to be there which is not.

Owns the publishing connection's channels, confirmations, time limits and tries. Must not know what is published.

Why it is more than a call: while aio-pika reconnects, a publish fails at once; on a connection that the broker has
blocked it hangs, and may be delivered later; on a stuck one it raises `CancelledError` without anyone having
cancelled. A message that no queue takes is confirmed like any other, unless returns are made to raise.
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import cast

from aio_pika import DeliveryMode, Message, RobustConnection
from aio_pika.abc import AbstractRobustChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, PublishError
from aiormq import Channel
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import (
    ChannelPreconditionFailed,
    ConnectionCommandInvalid,
    ConnectionFrameError,
    ConnectionInternalError,
    ConnectionNotImplemented,
    ConnectionSyntaxError,
    ConnectionUnexpectedFrame,
)
from pamqp.commands import Basic

from worker.ports import BrokerLostError
from worker.settings import Amqp

BEST_EFFORT_S = 0.25
CLOSE_S = 2
REPAIR_S = 10
LATE_SHARE = 0.25  # of the time that a publication has; then the broker counts as taking none
REFUSALS = 3  # of one publication, and it is none that the broker will ever take
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0

# A channel or connection that ends like this does so over what was sent on it, for example too large a message, and not
# over an exchange that is not there, a right that is missing, or an operator who closes it.
OVER_WHAT_WAS_SENT = (
    ChannelPreconditionFailed,
    ConnectionCommandInvalid,
    ConnectionFrameError,
    ConnectionInternalError,
    ConnectionNotImplemented,
    ConnectionSyntaxError,
    ConnectionUnexpectedFrame,
)

log = logging.getLogger(__name__)


class UnacceptableError(BrokerLostError):
    """The broker does not take this message, however often it is sent; it takes others."""


@dataclass(slots=True)
class Counts:
    """What befell the connection to the broker since start, for metrics."""

    reconnects: int = 0
    acks_lost: int = 0
    tries_failed: int = 0
    returned: int = 0
    unconfirmed: int = 0
    on_confirmed: Callable[[float], object] = float  # told the seconds that each confirmation took


@dataclass(frozen=True, slots=True)
class Notice:
    """A persistent message of which only the type is told: aio-pika's takes a good part of what sending it takes."""

    body: bytes
    content_type: str

    @property
    def properties(self) -> Basic.Properties:
        """The AMQP properties, new ones each time: aiormq gives each try an id in them."""
        return Basic.Properties(self.content_type, headers={}, delivery_mode=DeliveryMode.PERSISTENT, priority=0)


async def persist(
    attempt: Callable[[float], Awaitable[None]], deadline_s: float, final: tuple[type[BrokerLostError], ...] = ()
) -> None:
    """Call `attempt` with the seconds left until it succeeds, with growing random pauses between.

    Raises `BrokerLostError` when `deadline_s` seconds are over: that of the last attempt which had its time. One that
    is an instance of `final` is raised at once.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + deadline_s
    bound_s = FIRST_PAUSE_S
    failure: BrokerLostError | None = None
    while True:
        pause_s = random.uniform(bound_s / 2, bound_s)  # noqa: S311 - nothing secret
        try:
            await attempt(deadline - clock())
            return
        except final:
            raise
        except BrokerLostError as error:
            # An attempt cut short by the deadline only knows that time was up, not what is wrong.
            failure = failure if failure and clock() >= deadline else error
            if clock() + pause_s >= deadline:
                raise failure from failure.__cause__
            log.warning("trying again in %.1f s: %s", pause_s, error)
        await asyncio.sleep(pause_s)
        bound_s = min(bound_s * 2, LONGEST_PAUSE_S)


@asynccontextmanager
async def broker_call(limit_s: float) -> AsyncIterator[None]:
    """Give what happens inside `limit_s` seconds, and raise `BrokerLostError` for every way the broker can fail it."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BrokerLostError("the connection to the broker broke down") from error
    except TimeoutError as error:
        raise BrokerLostError(f"the broker did not answer within {limit_s:.3g} s") from error
    except CONNECTION_EXCEPTIONS as error:
        raise BrokerLostError(f"the broker refused or was lost: {error or type(error).__name__}") from error


def below(connection: RobustConnection) -> AbstractConnection:
    """Give a connection as it is now, without aio-pika's restoring of what is made on it. Raises `BrokerLostError`."""
    if connection.transport is None:
        raise BrokerLostError("the connection to the broker is lost")
    return connection.transport.connection


class Publisher:
    """Persistent, mandatory, confirmed publishing with tries until a deadline.

    With `repair`, which is called before each further try of a publication that is `late`, the last late one of several
    goes on beyond the deadline: who publishes for a queue's sake gives back what is left over and takes nothing more
    from there, so that this one finds out when publishing works again. Not so one over which the broker closes channel
    or connection again and again: it would never be taken, and keep all others waiting.
    """

    def __init__(
        self, connection: RobustConnection, shared: AbstractRobustChannel, settings: Amqp, counts: Counts
    ) -> None:
        self._connection = connection
        self._shared = shared
        self.try_s = settings.publish_timeout_s
        self._deadline_s = settings.publish_deadline_s
        self.counts = counts
        self.late = 0  # publications that have failed for a while
        self.repair: Callable[[], Awaitable[None]] | None = None

    @classmethod
    async def open(cls, connection: RobustConnection, settings: Amqp, counts: Counts) -> "Publisher":
        """Open the channel that most publishing shares."""
        async with broker_call(settings.connect_timeout_s):
            shared = await connection.channel(publisher_confirms=True, on_return_raises=True)
        return cls(connection, shared, settings, counts)

    async def publish(self, exchange: str, key: str, message: Message | Notice) -> None:
        """Publish a message that cannot be returned or has no `message_id`, on the channel shared by all of these.

        Returned messages are matched by `message_id`, so two in flight with the same one would get each other's
        answers. Without an id, each try gets a fresh one.
        """
        await self._persist(lambda: self._try_shared(exchange, key, message))

    async def publish_alone(self, exchange: str, key: str, message: Message) -> None:
        """Publish a message with a `message_id` of its own: on a new channel for each try, so that no late answer

        to an earlier try is taken for this one's.
        """
        await self._persist(lambda: self._try_alone(exchange, key, message))

    async def publish_best_effort(self, exchange: str, key: str, message: Message | Notice) -> None:
        """Publish a message that may be lost: one short try, counted as unconfirmed if the broker is not quick."""
        try:
            async with broker_call(BEST_EFFORT_S):
                await self._try_shared(exchange, key, message)
        except BrokerLostError:
            self.counts.unconfirmed += 1

    async def _persist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        began, late, refusals = perf_counter(), 0, 0

        async def bounded(left_s: float) -> None:
            nonlocal late, refusals
            if late and self.repair:
                with suppress(BrokerLostError):  # then the try tells what is wrong
                    async with broker_call(REPAIR_S):
                        await self.unblocked()
                        await self.repair()
            try:
                async with broker_call(min(self.try_s, left_s)):
                    started = perf_counter()
                    await attempt()
                    self.counts.on_confirmed(perf_counter() - started)
            except BrokerLostError as error:
                self.counts.tries_failed += 1
                self.counts.returned += isinstance(error.__cause__, PublishError)
                refusals += isinstance(error.__cause__, OVER_WHAT_WAS_SENT)
                if refusals == REFUSALS:
                    raise UnacceptableError(f"refused {refusals} times: {error}") from error.__cause__
                if not late and perf_counter() - began > self._deadline_s * LATE_SHARE:
                    late = 1
                    self.late += 1
                raise

        try:
            await persist(bounded, self._deadline_s, (UnacceptableError,))
        except BrokerLostError as error:
            if self.repair is None or self.late > late or isinstance(error, UnacceptableError):
                raise
            log.warning("the broker takes no publications, so this one is tried until it does: %s", error)
            await persist(bounded, math.inf, (UnacceptableError,))
        finally:
            self.late -= late

    async def _try_shared(self, exchange: str, key: str, message: Message | Notice) -> None:
        await self.unblocked()
        await self._shared.ready()
        await _publish(await self._shared.get_underlay_channel(), exchange, key, message)

    async def _try_alone(self, exchange: str, key: str, message: Message) -> None:
        await self.unblocked()
        # Below aio-pika, which would open a channel again after each loss if its opening had failed.
        channel = await below(self._connection).channel(publisher_confirms=True, on_return_raises=True)
        try:
            await _publish(channel, exchange, key, message)
        finally:
            with suppress(BrokerLostError):  # a blocked broker reads no goodbye either
                async with broker_call(CLOSE_S):
                    await channel.close()

    async def unblocked(self) -> None:
        """Wait until the broker is there and takes messages; what is sent before may arrive after we gave up."""
        await self._connection.ready()
        if self._connection.transport is not None:
            await self._connection.transport.ready()


async def _publish(channel: AbstractChannel, exchange: str, key: str, message: Message | Notice) -> None:
    await cast("Channel", channel).basic_publish(
        message.body, exchange=exchange, routing_key=key, properties=message.properties, mandatory=True, wait=False
    )  # the confirmation is waited for, so there is no need to wait for the socket before it
