"""The service: makes its parts, starts and stops them in order. Names all adapters but those of `openers`."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from platform import python_version
from time import monotonic

from prometheus_client import CollectorRegistry

from worker import __version__, logs
from worker.adapters.amqp import Broker
from worker.adapters.amqp_publish import persist
from worker.adapters.pool import DecoderPool
from worker.adapters.topology import TopologyError
from worker.control import obey
from worker.errors import TaskError
from worker.handler import Handler
from worker.health import serve_health
from worker.media.codecs import allowed_decoders
from worker.media.release import check_ffmpeg, ffmpeg_version
from worker.metrics import Metrics
from worker.openers import open_store, opener
from worker.outage import StoreOutages
from worker.ports import BrokerLostError
from worker.records import NoRecords, Records, StoredRecords
from worker.settings import Amqp, Settings
from worker.stores import AllowedBuckets, OnRequest, place_of

log = logs.Log(__name__)

SUPERVISE_S = 1.0
GARBAGE_OBJECTS = 10_000  # that more are there than were, before some are looked for: a few tasks' worth
EXIT_TERMINATED = 128 + signal.SIGTERM


async def serve(settings: Settings) -> int:
    """Run the worker until SIGTERM or SIGINT; returns the exit status.

    0: drained, or told to stop before it had begun. 1: broker, store or port were not usable in time, or consuming
    could not be resumed. 143: told twice to stop.
    """
    stopping = _stop_signals()
    try:
        async with AsyncExitStack() as stack:
            return await _serve(settings, stack, stopping)
    except (BrokerLostError, TopologyError, OSError) as error:
        log.error("giving up", error=str(error))  # noqa: TRY400 - what happened is known; a traceback says no more
    except TaskError as error:
        log.error("giving up", code=error.code, error=error.message)  # noqa: TRY400 - as above
    return 1


async def _serve(settings: Settings, stack: AsyncExitStack, stopping: asyncio.Queue[None]) -> int:
    draining = asyncio.Event()
    starting = asyncio.create_task(_start(settings, stack, draining))
    stop = asyncio.create_task(stopping.get())
    await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        log.info("told to stop while starting")
        starting.cancel()
        await asyncio.wait({starting})
        return 0
    broker, handler = await starting
    return await _consume(settings, broker, handler, stop=stop, stopping=stopping, draining=draining)


async def _start(settings: Settings, stack: AsyncExitStack, draining: asyncio.Event) -> tuple[Broker, Handler]:
    """Make the parts and start them, first of all the HTTP side, which tells from then on what is missing."""
    check_ffmpeg()
    allowed_decoders(settings.limits.codecs)  # raises for a name that FFmpeg does not know
    metrics = Metrics(CollectorRegistry(), settings.http.projects)
    metrics.build.info({"version": __version__, "ffmpeg": ffmpeg_version(), "python": python_version()})
    pool, broker = DecoderPool(settings.pool), Broker(settings.amqp, settings.retry)
    watch_gauges(metrics, pool, broker)
    broker.counts.on_confirmed = metrics.confirm_seconds.observe
    http = settings.http
    health = serve_health(http.host, http.port, metrics.registry, lambda: _not_ready(broker, pool, draining))
    port = await stack.enter_async_context(health)
    await stack.enter_async_context(pool)
    store = await stack.enter_async_context(open_store(settings, metrics.observe_request))
    await _usable(store.check, settings.amqp.startup_deadline_s)
    await stack.enter_async_context(broker)
    # Under load RabbitMQ may answer the declaration of a quorum queue by closing the connection (541).
    await persist(lambda _: broker.prepare(), settings.amqp.startup_deadline_s)
    outages = await stack.enter_async_context(StoreOutages(store.check, broker.paused))
    handler = Handler(
        store=store,
        open_source=opener(settings, store),
        decoders=pool,
        announcer=broker,
        settings=settings,
        metrics=metrics,
        records=await _records(settings, stack, metrics.observe_request, outages),
        outages=outages,
    )
    await stack.enter_async_context(_obeying(broker, handler))
    await broker.start_consuming(settings.pool.slots)
    gc.freeze()  # what is here now stays: searching it for garbage again and again took a tenth of a task's time
    gc.set_threshold(GARBAGE_OBJECTS)
    versions = {"version": __version__, "ffmpeg": ffmpeg_version()}
    log.info("serving", queue=broker.topology.task_queue, slots=settings.pool.slots, port=port, **versions)
    return broker, handler


async def _consume(
    settings: Settings,
    broker: Broker,
    handler: Handler,
    *,
    stop: asyncio.Task[None],
    stopping: asyncio.Queue[None],
    draining: asyncio.Event,
) -> int:
    """Hand deliveries to the handler until `stop`, then let what runs finish within the drain time."""
    receiving = asyncio.create_task(_receive(broker, handler))
    supervising = asyncio.create_task(_supervise(broker, settings.amqp.recovery_deadline_s))
    first, _ = await asyncio.wait({receiving, supervising, stop}, return_when=asyncio.FIRST_COMPLETED)
    draining.set()
    if supervising in first:
        log.error("not consuming for too long, giving up", deadline_s=settings.amqp.recovery_deadline_s)
    log.info("draining", timeout_s=settings.drain_timeout_s)
    await broker.stop_consuming()
    again = asyncio.create_task(stopping.get())
    await asyncio.wait({receiving, again}, timeout=settings.drain_timeout_s, return_when=asyncio.FIRST_COMPLETED)
    in_time, hurried = receiving.done(), again.done()
    for task in (receiving, supervising, stop, again):
        task.cancel()
    outcomes = await asyncio.gather(receiving, supervising, stop, again, return_exceptions=True)
    log.info("stopped", in_time=in_time)
    if isinstance(outcomes[0], Exception):
        raise outcomes[0]
    if supervising in first:
        return 1
    return EXIT_TERMINATED if hurried else 0


async def _receive(broker: Broker, handler: Handler) -> None:
    """Handle deliveries side by side, as many as the broker hands out; ends when all are done after the last came."""
    async with asyncio.TaskGroup() as group:
        async for delivery in broker.deliveries():
            group.create_task(handler.handle(delivery))


async def _records(settings: Settings, stack: AsyncExitStack, on_request: OnRequest, outages: StoreOutages) -> Records:
    """Open the records through a store of their own, in which nothing else may be touched."""
    place = place_of(settings.records.uri)
    if place is None:
        return NoRecords()
    allowed = AllowedBuckets((place.bucket,), (place.bucket,))
    store = await stack.enter_async_context(open_store(settings, on_request, allowed))
    records = StoredRecords(store, place, settings.records.hold_s, outages)
    await _usable(records.prepare, settings.amqp.startup_deadline_s)
    return records


@asynccontextmanager
async def _obeying(broker: Broker, handler: Handler) -> AsyncIterator[None]:
    """Let the handler hear requests to cancel."""
    async with broker.commands() as commands:
        obeying = asyncio.create_task(obey(commands, handler.cancel))
        try:
            yield
        finally:
            obeying.cancel()
            await asyncio.wait({obeying})


async def _supervise(broker: Broker, deadline_s: float) -> None:
    """Return when nothing could be consumed for `deadline_s`; a pause that no restart could end does not count."""
    last = monotonic()
    while monotonic() - last < deadline_s:
        if broker.consuming or (broker.connected and (broker.paused.is_set() or broker.mute)):
            last = monotonic()
        await asyncio.sleep(SUPERVISE_S)


async def _usable(check: Callable[[], Awaitable[None]], deadline_s: float) -> None:
    """Wait until `check` passes. Raises its `TaskError` at once when waiting cannot help, else after the deadline."""
    started = monotonic()
    while True:
        try:
            return await check()
        except TaskError as error:
            if not error.retryable or monotonic() - started > deadline_s:
                raise
            log.warning("the store is not usable yet", code=error.code, error=error.message)
        await asyncio.sleep(SUPERVISE_S)


async def _not_ready(broker: Broker, pool: DecoderPool, draining: asyncio.Event) -> list[str]:
    """List why no task would be worked on now."""
    facts = {
        "draining": draining.is_set(),
        "no connection to the broker": not broker.connected,
        "the store is out of reach": broker.paused.is_set(),
        "not consuming": not broker.consuming,
        "the broker takes no publications": broker.connected and (await broker.blocked() or broker.mute),
        "no decoder process": pool.workers == 0,
    }
    return [reason for reason, holds in facts.items() if holds]


def watch_gauges(metrics: Metrics, pool: DecoderPool, broker: Broker) -> None:
    """Register what the parts know of themselves, to be asked at each scrape."""
    metrics.watch("decoders", "Live decoder processes.", lambda: pool.workers)
    metrics.watch("decoders_busy", "Decoder processes at work.", lambda: pool.busy)
    metrics.watch("decoder_max_rss_bytes", "Resident memory of the largest decoder.", lambda: pool.max_rss_bytes)
    metrics.watch("amqp_connected", "Whether both connections to the broker are up.", lambda: broker.connected)
    metrics.watch("consuming", "Whether the broker sends tasks.", lambda: broker.consuming)
    metrics.watch("store_outage", "Whether work is paused, as the store is out of reach.", broker.paused.is_set)
    metrics.watch("amqp_reconnects", "Connections to the broker that were restored.", lambda: broker.counts.reconnects)
    metrics.watch("acks_lost", "Acknowledgements that a lost connection swallowed.", lambda: broker.counts.acks_lost)
    metrics.watch("amqp_blocked", "Whether the broker takes no publications.", lambda: broker.known_blocked)
    metrics.watch("publish_tries_failed", "Tries to publish that failed.", lambda: broker.counts.tries_failed)
    metrics.watch("publish_returned", "Messages that no queue took.", lambda: broker.counts.returned)
    metrics.watch("events_unconfirmed", "Progress events dropped.", lambda: broker.counts.unconfirmed)
    metrics.watch_restarts(lambda reason: pool.restarts[reason])


@asynccontextmanager
async def open_broker(settings: Settings, deadline_s: float, *, prepare: bool = True) -> AsyncIterator[Broker]:
    """Connect to the broker as a client that publishes tasks or listens to events, with everything declared or checked.

    Not so without `prepare`, for who only uses what is there. Raises `BrokerLostError`: not reachable within
    `deadline_s` seconds, or not set up as the settings say.
    """
    async with Broker(_impatient(settings.amqp, deadline_s), settings.retry, patient=False) as broker:
        try:
            if prepare:
                await broker.prepare()
        except TopologyError as error:
            raise BrokerLostError(f"the broker is not set up for these settings: {error}") from error
        yield broker


async def survey_topology(settings: Settings, deadline_s: float, *, declare: bool) -> tuple[list[str], list[str]]:
    """List the names of the exchanges and queues that the worker needs, and what is wrong with them on the broker.

    With `declare` the missing ones are made first. Raises `BrokerLostError`.
    """
    async with Broker(_impatient(settings.amqp, deadline_s), settings.retry, patient=False) as broker:
        parts = (("exchange", broker.topology.exchanges), ("queue", broker.topology.queues))
        names = [f"{kind} {one.name}" for kind, ones in parts for one in ones]
        try:
            if declare:
                await broker.declare()
        except TopologyError as error:
            return names, error.findings
        return names, await broker.check()


def _impatient(amqp: Amqp, deadline_s: float) -> Amqp:
    """Change time limits for a person who waits for an answer."""
    names = ("connect_timeout_s", "startup_deadline_s", "publish_timeout_s", "publish_deadline_s")
    return amqp.model_copy(update=dict.fromkeys(names, deadline_s))


def _stop_signals() -> asyncio.Queue[None]:
    """A queue with an item for each SIGTERM or SIGINT."""
    stopping: asyncio.Queue[None] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.put_nowait, None)
    return stopping
