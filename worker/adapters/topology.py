"""The exchanges and queues on the broker: which there are, with which arguments, and how they are made and checked.

Everything here is allowed from RabbitMQ 3.10 to 4.x. What an operator may want to change later (a length limit on the
task queue, a consumer timeout) is left to policies, since arguments cannot change without deleting the queue.
Must not know what the messages say.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelClosed

from worker.settings import Amqp, Retry

DAY_MS = 24 * 3600 * 1000
UNROUTED_TTL_MS = 7 * DAY_MS
DEAD_TTL_MS = 14 * DAY_MS
UNROUTED_MESSAGES = 10_000
UNROUTED_BYTES = 256 * 2**20
# Being looked at counts as a delivery, and without a limit of ours RabbitMQ 4 deletes what was looked at 20 times.
PARKED_DELIVERIES = 10**9

Argument = str | int


class TopologyError(Exception):
    """What is on the broker is not what the worker needs; waiting will not help. `findings` has one line for each."""

    def __init__(self, findings: list[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange of type `kind`."""

    name: str
    kind: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue that all may use, bound to one exchange by one key."""

    name: str
    exchange: str
    key: str
    arguments: Mapping[str, Argument]


@dataclass(frozen=True, slots=True)
class Topology:
    """All that one lane of one namespace needs. `delays_s` are the rungs of the retry ladder, a queue each."""

    namespace: str
    lane: str
    delays_s: tuple[int, ...]
    delivery_limit: int

    @property
    def tasks(self) -> str:
        """The exchange that tasks are published to, with the lane as routing key."""
        return f"{self.namespace}.tasks"

    @property
    def task_queue(self) -> str:
        """The queue that workers consume."""
        return f"{self.tasks}.{self.lane}"

    @property
    def retry(self) -> str:
        """The exchange before the retry queues."""
        return f"{self.namespace}.retry"

    def retry_key(self, delay_s: int) -> str:
        """Return the routing key of the retry queue that holds messages for `delay_s` seconds."""
        return f"{self.lane}.{delay_s}s"

    @property
    def dead(self) -> str:
        """The exchange for what will not be tried again, with the lane as routing key."""
        return f"{self.namespace}.dead"

    @property
    def parked_queue(self) -> str:
        """The queue of what will not be tried again, until a person replays or drops it."""
        return f"{self.dead}.{self.lane}"

    @property
    def dropped_queue(self) -> str:
        """The queue of what the broker took out of the task queue, until a worker has announced it."""
        return f"{self.namespace}.dropped.{self.lane}"

    @property
    def dropped_key(self) -> str:
        """The key, on the exchange `dead`, with which the broker takes a task out of the task queue."""
        return f"{self.lane}.dropped"

    @property
    def events(self) -> str:
        """The exchange that events are published to."""
        return f"{self.namespace}.events"

    @property
    def control(self) -> str:
        """The exchange for what all workers shall hear, each through a queue of its own."""
        return f"{self.namespace}.control"

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All exchanges."""
        unrouted = f"{self.namespace}.unrouted"
        return (
            Exchange(unrouted, "fanout"),
            Exchange(self.tasks, "topic", {"alternate-exchange": unrouted}),
            Exchange(self.retry, "direct"),
            Exchange(self.dead, "topic"),
            Exchange(self.control, "fanout"),
            # With an alternate exchange a terminal event is confirmed whether or not somebody listens.
            Exchange(f"{self.events}.unrouted", "fanout"),
            Exchange(self.events, "topic", {"alternate-exchange": f"{self.events}.unrouted"}),
        )

    @property
    def queues(self) -> tuple[Queue, ...]:
        """All queues, each after those that its messages may move on to."""
        unrouted, events_unrouted = f"{self.namespace}.unrouted", f"{self.events}.unrouted"
        parked: dict[str, Argument] = {
            "x-queue-type": "quorum",
            "x-message-ttl": DEAD_TTL_MS,
            "x-delivery-limit": PARKED_DELIVERIES,
        }
        limit = {"x-delivery-limit": self.delivery_limit}
        task_arguments = {**_dead_lettered(self.dead, self.dropped_key), **limit}
        # One worker announces, so that each end is told in turn; what it cannot announce is parked all the same.
        dropped = {**_dead_lettered(self.dead, self.lane), **limit, "x-single-active-consumer": True}
        return (
            Queue(self.parked_queue, self.dead, self.lane, parked),
            Queue(self.dropped_queue, self.dead, self.dropped_key, dropped),
            Queue(self.task_queue, self.tasks, self.lane, task_arguments),
            *map(self._rung, self.delays_s),
            # A full queue refuses tasks, so that their publisher knows; of events it forgets the oldest.
            Queue(unrouted, unrouted, "", _bounded("reject-publish")),
            Queue(events_unrouted, events_unrouted, "", _bounded("drop-head")),
        )

    def _rung(self, delay_s: int) -> Queue:
        key = self.retry_key(delay_s)
        arguments = {**_dead_lettered("", self.task_queue), "x-message-ttl": delay_s * 1000}
        return Queue(f"{self.retry}.{key}", self.retry, key, arguments)


def topology(amqp: Amqp, retry: Retry) -> Topology:
    """Take from the settings what the topology depends on."""
    return Topology(amqp.namespace, amqp.lane, retry.delays_s, amqp.delivery_limit)


def _dead_lettered(exchange: str, key: str) -> dict[str, Argument]:
    """Return the arguments of a queue whose messages move on without loss, which needs `reject-publish`."""
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": key,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _bounded(overflow: str) -> dict[str, Argument]:
    """Return the arguments of a queue that nobody may be reading."""
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": UNROUTED_TTL_MS,
        "x-max-length": UNROUTED_MESSAGES,
        "x-max-length-bytes": UNROUTED_BYTES,
        "x-overflow": overflow,
    }


async def declare(channel: AbstractChannel, wanted: Topology) -> None:
    """Make what is missing. Raises `TopologyError` where something of the name exists with other arguments."""
    try:
        for exchange in wanted.exchanges:
            await _declare_one(channel, exchange)
        for queue in wanted.queues:
            await _declare_one(channel, queue)
            await channel.queue_bind(queue.name, queue.exchange, queue.key)
    except ChannelClosed as error:
        raise TopologyError([f"the broker refused a declaration: {error}"]) from error


async def check(connection: AbstractConnection, wanted: Topology, *, arguments: bool) -> list[str]:
    """List what is missing, changing nothing; with `arguments` also what has others, as far as we may ask.

    Bindings cannot be read over AMQP.
    """
    findings: list[str] = []
    parts: tuple[Exchange | Queue, ...] = (*wanted.exchanges, *wanted.queues)
    for one in parts:
        kind = "exchange" if isinstance(one, Exchange) else "queue"
        # A refusal closes the channel: one for each thing.
        channel = await connection.channel(publisher_confirms=False)
        try:
            await _declare_one(channel, one, passive=True)
            if arguments:  # declaring what is there changes nothing, and is refused where it differs
                with suppress(ChannelAccessRefused):
                    await _declare_one(channel, one)
        except ChannelClosed as error:
            findings.append(f"{kind} {one.name} is not usable: {error}")
        if not channel.is_closed:
            await channel.close()
    return findings


async def _declare_one(channel: AbstractChannel, one: Exchange | Queue, *, passive: bool = False) -> None:
    if isinstance(one, Exchange):
        await channel.exchange_declare(
            one.name, exchange_type=one.kind, durable=True, passive=passive, arguments=dict(one.arguments)
        )
    else:
        await channel.queue_declare(one.name, durable=True, passive=passive, arguments=dict(one.arguments))
