"""The broker: RabbitMQ's two connections, what they are used for, and what is known of their health.

One connection consumes and one publishes, since the broker stops reading from publishers when it is short of memory,
and acknowledgements must get through then. Must not know what the messages say.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Self

from aio_pika import DeliveryMode, Message, RobustConnection
from aio_pika.abc import HeadersType
from aio_pika.connection import make_url
from aio_pika.exceptions import ConnectionClosed, ProbableAuthenticationError, PublishError
from aiormq.abc import DeliveredMessage
from pamqp import commands

from worker.adapters.amqp_consume import Consumer, Order
from worker.adapters.amqp_delivery import AmqpDelivery
from worker.adapters.amqp_header import install as install_lenient_headers
from worker.adapters.amqp_listen import listening
from worker.adapters.amqp_parked import ParkedMessage, open_parked
from worker.adapters.amqp_publish import Counts, Notice, Publisher, below, broker_call, persist
from worker.adapters.topology import TopologyError, check, declare, topology
from worker.ports import BrokerLostError
from worker.settings import Amqp, Retry
from worker.tls import client_context

TOPOLOGY_S = 60
BLOCKED_PROBE_S = 0.2
PROBE_S = 1.0
CLOSE_S = 5
DROPPED_AT_ONCE, COMMANDS_WAITING = 4, 1000
NOT_ALLOWED = 530  # the reply code with which the broker refuses a virtual host

# aiormq knows what to do with a broker that closes the connection instead of opening the virtual host, but believes the
# answer to be impossible, and tells then only that, without the broker's reason.
commands.Connection.Open.valid_responses = ["Connection.OpenOk", "Connection.Close"]
# It logs each failed try to connect, as does whoever made it: here, or in aio-pika.
logging.getLogger("aiormq.connection").addFilter(lambda record: record.msg != "error when creating transport: %r")
install_lenient_headers()


class BrokerRefusedError(BrokerLostError):
    """The broker is there, but does not let us in. Waiting helps only where somebody is still setting it up."""


class Broker:
    """The connection to RabbitMQ. An async context manager: `start` on entering, `close` on leaving.

    `patient` tries again also where the broker refuses the login or the virtual host, which may be made later.
    """

    _publisher: Publisher

    def __init__(self, settings: Amqp, retry: Retry, *, patient: bool = True) -> None:
        self.topology = topology(settings, retry)
        self.counts = Counts()
        self.known_blocked = False  # when `blocked` was last asked
        self.paused = asyncio.Event()  # while set, no messages are taken
        self._settings = settings
        self._final = () if patient else (BrokerRefusedError,)
        self._url = make_url(settings.url.get_secret_value(), heartbeat=settings.heartbeat_s)
        files = settings.ca_file, settings.cert_file, settings.key_file
        self._tls = client_context(*files) if self._url.scheme == "amqps" else None
        self._jitter = retry.jitter
        self._connections: tuple[RobustConnection, ...] = ()
        self._usable = False  # there is a publisher
        self._consumers: tuple[Consumer, ...] = ()
        self._probing: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[AmqpDelivery | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Connect, trying until the start-up deadline. Raises `BrokerLostError` then, or `BrokerRefusedError`."""
        deadline_s = self._settings.startup_deadline_s
        try:
            await persist(self._connect, deadline_s, self._final)
        except BrokerRefusedError:
            raise
        except BrokerLostError as error:
            raise BrokerLostError(
                f"RabbitMQ was not reachable for {deadline_s:g} s; is FRAME_CAPTURE_AMQP__URL right? {error}"
            ) from error

    async def close(self) -> None:
        """Close both connections. What was delivered and not acknowledged goes back to its queue."""
        for consumer in self._consumers:
            consumer.close()
        if self._probing is not None:
            self._probing.cancel()
        self._usable = False
        connections, self._connections = self._connections, ()
        for connection in reversed(connections):
            with suppress(BrokerLostError):  # a broker that does not say goodbye is gone as well
                async with broker_call(CLOSE_S):
                    await connection.close()

    async def _connect(self, left_s: float) -> None:
        limit_s = min(self._settings.connect_timeout_s, left_s)
        try:
            for name in ("frame-capture-consume", "frame-capture-publish"):
                self._connections += (self._connection(name),)
                async with broker_call(limit_s):
                    await self._connections[-1].connect(timeout=self._settings.connect_timeout_s)
            self._publisher = await Publisher.open(self._connections[1], self._settings, self.counts)
            self._usable = True
        except BaseException as error:
            await self.close()  # an object that failed once stays unusable
            _raise_refusal(error.__cause__)
            raise

    def _connection(self, name: str) -> RobustConnection:
        connection = RobustConnection(
            self._url,
            ssl_context=self._tls,
            client_properties={"connection_name": name},
            reconnect_interval=random.uniform(2, 6),  # noqa: S311 - workers must not all come back at once
        )
        connection.reconnect_callbacks.add(self._count_reconnect)
        return connection

    async def _count_reconnect(self, *_: object) -> None:
        self.counts.reconnects += 1

    async def prepare(self) -> None:
        """Declare the topology, or only check it, as the settings say. Raises `TopologyError`, `BrokerLostError`."""
        if self._settings.declare == "active":
            await self.declare()
        elif findings := await self.check():
            raise TopologyError(findings)

    async def declare(self) -> None:
        """Make the exchanges and queues that are missing. Raises `TopologyError`, `BrokerLostError`."""
        async with broker_call(TOPOLOGY_S):
            channel = await below(self._connections[0]).channel(publisher_confirms=False)
            await declare(channel, self.topology)
            await channel.close()

    async def check(self) -> list[str]:
        """List the exchanges and queues that are missing, or differ if we would declare them.

        Raises `BrokerLostError`.
        """
        async with broker_call(TOPOLOGY_S):
            return await check(below(self._connections[0]), self.topology, arguments=self._settings.declare == "active")

    async def consumers(self) -> int:
        """Count the workers that consume the task queue now. Raises `BrokerLostError`."""
        async with broker_call(TOPOLOGY_S):
            channel = await below(self._connections[0]).channel(publisher_confirms=False)
            queue = await channel.queue_declare(self.topology.task_queue, passive=True)
            await channel.close()
        return queue.consumer_count or 0

    async def start_consuming(self, slots: int) -> None:
        """Begin to receive tasks, at most `slots` unsettled at a time, and what the broker has dropped of them.

        Raises `BrokerLostError`.
        """
        # Whose end cannot be told is given back, and would come again at once: 20 times, and the broker gives it up.
        self._publisher.repair = self._restore
        timeout_s = self._settings.consumer_timeout_s
        for queue, prefetch in ((self.topology.task_queue, slots), (self.topology.dropped_queue, DROPPED_AT_ONCE)):
            order = Order(queue, self._inbox, self._wrap, timeout_s, lambda: self.paused.is_set() or self.mute)
            self._consumers += (await Consumer.open(self._connections[0], order, prefetch, self._restore),)
        self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while True:
            await self.blocked()
            await asyncio.sleep(PROBE_S)

    def _wrap(self, message: DeliveredMessage) -> AmqpDelivery:
        return AmqpDelivery(message, self._publisher, self.topology, self._jitter)

    async def _restore(self) -> None:
        """See to it, after a loss, that the queues are still those that we need. Raises `BrokerLostError`."""
        try:
            await self.prepare()
        except TopologyError as error:
            raise BrokerLostError(f"what is on the broker was changed: {error}") from error

    async def deliveries(self) -> AsyncIterator[AmqpDelivery]:
        """Iterate over messages, for one reader, until `stop_consuming`; those with a `refusal` are no tasks to do."""
        while (delivery := await self._inbox.get()) is not None:
            if not delivery.stale:
                yield delivery

    async def stop_consuming(self) -> None:
        """Receive no more messages, and give back those that nobody took from `deliveries`, which ends.

        Those taken can still be settled.
        """
        await asyncio.gather(*(each.stop() for each in self._consumers))
        while not self._inbox.empty():
            if (delivery := self._inbox.get_nowait()) is not None:
                await delivery.give_back()
        self._inbox.put_nowait(None)

    async def announce(self, routing_key: str, body: bytes, content_type: str, *, confirm: bool = True) -> None:
        """Publish one event. With `confirm`, returns once the broker has it and raises `BrokerLostError` otherwise;

        without, it is best effort: dropped when the broker does not take it at once.
        """
        publish = self._publisher.publish if confirm else self._publisher.publish_best_effort
        await publish(self.topology.events, routing_key, Notice(body, content_type))

    async def submit(self, body: bytes, message_id: str | None, headers: Mapping[str, str | int]) -> None:
        """Publish a task to this lane, confirmed. Raises `BrokerLostError`."""
        typed: HeadersType = dict(headers)
        task = Message(
            body,
            headers=typed,
            message_id=message_id,
            content_type="application/json",
            timestamp=datetime.now(UTC),
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        await self._publisher.publish_alone(self.topology.tasks, self.topology.lane, task)

    @asynccontextmanager
    async def events(self, *patterns: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Listen to events whose routing key matches one of `patterns` (`*` a word, `#` any), from now on.

        Gives an iterator of routing keys and bodies. What is announced while the connection is lost is missed.
        """
        limit_s = self._settings.publish_timeout_s
        async with listening(self._connections[0], self.topology.events, patterns, limit_s) as events:
            yield events

    @asynccontextmanager
    async def commands(self) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Listen to what is said to all workers, as soon as the broker lets us: tasks are done without that too."""
        limit_s, control = self._settings.publish_timeout_s, self.topology.control
        connection = self._connections[0]
        async with listening(connection, control, ("",), limit_s, COMMANDS_WAITING, at_once=False) as commands:
            yield commands

    async def command(self, body: bytes) -> None:
        """Say something to all workers. Raises `BrokerLostError`, also when none listens."""
        try:
            await self._publisher.publish(self.topology.control, "", Message(body, content_type="application/json"))
        except BrokerLostError as error:
            if isinstance(error.__cause__, PublishError):
                raise BrokerLostError(f"no worker listens to the exchange {self.topology.control}") from error
            raise

    def parked(self) -> AbstractAsyncContextManager[AsyncIterator[ParkedMessage]]:
        """Open the queue of what is not tried again, to look at, replay or drop. Raises `BrokerLostError`."""
        return open_parked(below(self._connections[0]), self._publisher, self.topology)

    @property
    def connected(self) -> bool:
        """Whether both connections are up and in use."""
        return self._usable and all(one.connected.is_set() for one in self._connections)

    @property
    def consuming(self) -> bool:
        """Whether the broker sends tasks, as far as this side knows."""
        return bool(self._consumers) and all(each.registered for each in self._consumers)

    @property
    def mute(self) -> bool:
        """Whether the broker takes no publications, for whatever reason, so that no messages are taken."""
        return self.known_blocked or self._publisher.late > 0

    async def blocked(self) -> bool:
        """Whether the broker takes no publications now, for want of memory or disk or because it is not there."""
        try:
            async with broker_call(BLOCKED_PROBE_S):
                await self._publisher.unblocked()
        except BrokerLostError:
            self.known_blocked = True
        else:
            self.known_blocked = False
        return self.known_blocked


def _raise_refusal(error: BaseException | None) -> None:
    """Raise `BrokerRefusedError` in the broker's own words if `error` is its refusal."""
    match error:
        case ProbableAuthenticationError():
            what, question = "login", "are user and password in FRAME_CAPTURE_AMQP__URL right?"
        case ConnectionClosed(args=(code, *_)) if code == NOT_ALLOWED:
            what, question = "virtual host", "is the path of FRAME_CAPTURE_AMQP__URL right?"
        case _:
            return
    raise BrokerRefusedError(f"RabbitMQ refused the {what}; {question} It says: {error.args[-1]}") from error
