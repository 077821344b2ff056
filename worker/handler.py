"""One task, start to finish: attempt, record, announce, settle, count. Knows ports only."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from socket import gethostname
from time import perf_counter

from worker import __version__, logs
from worker.attempt import Attempt, log_names
from worker.errors import Code, TaskError
from worker.execution import CANCELED, Execution
from worker.messages import build_result, identify, invalid_message_event, parse_task
from worker.messages.headers import ATTEMPT, CRASHES, CREATED, ENDING, OUTAGES, decided, replayed_at, trace
from worker.messages.record import CancelRequest, Record, digest, ending, used_for_another, write_about
from worker.metrics import Metrics, code_label
from worker.outage import NoOutages, Outages
from worker.ports import Announcer, BrokerLostError, DecoderPool, Delivery, ObjectStore, SourceOpener
from worker.records import Found, NoRecords, Records, RecordsLostError
from worker.settings import Settings
from worker.tally import count_attempt, count_refused
from worker.task import Canceled, Completed, Failed, Outcome, Postponed, Task
from worker.telling import Teller
from worker.uploads import Uploads

log = logs.Log(__name__)

REQUESTS_AT_ONCE = 4


class Handler:
    """Turns deliveries into stored images, records and events. One for the life of the worker."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        open_source: SourceOpener,
        decoders: DecoderPool,
        announcer: Announcer,
        settings: Settings,
        metrics: Metrics,
        records: Records | None = None,
        outages: Outages | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._records = records or NoRecords()
        self._teller = Teller(announcer, settings.events, clock)
        self._execution = Execution(
            store=store,
            open_source=open_source,
            decoders=decoders,
            teller=self._teller,
            settings=settings,
            metrics=metrics,
            outages=outages or NoOutages(),
        )
        self._settings = settings
        self._metrics = metrics
        self._now = clock
        self._running: dict[tuple[str, str], Attempt] = {}
        self._recording = asyncio.Semaphore(REQUESTS_AT_ONCE)  # the store has tasks to serve too

    async def handle(self, delivery: Delivery) -> None:
        """Do one task and settle its message, or give it back: after a bug, and where the broker confirms nothing."""
        deliveries = [delivery]
        with logs.bound():
            try:
                logs.bind(**log_names(delivery))
                count = await self._handle(deliveries)
            except BrokerLostError as error:
                log.warning("the broker did not confirm, it will deliver the message again", error=str(error))
            except Exception:
                log.exception("unexpected error, the message goes back to be delivered again")
            else:
                self._counted(count)
                return
            self._metrics.requeued.inc()
            await asyncio.gather(*(each.give_back() for each in deliveries))

    async def cancel(self, task_id: str) -> None:
        """End a task as canceled: at once if it runs here, otherwise when its message comes, unless it is over."""
        here = [attempt for (name, _), attempt in self._running.items() if name == task_id]
        log.info("told to cancel a task", task_id=task_id, running=bool(here))
        for attempt in here:
            attempt.cancel()
        try:
            async with self._recording:
                await self._records.cancel(task_id, self._now())
        except RecordsLostError as error:
            log.warning("the request to cancel is not on record", task_id=task_id, error=error.message)

    async def _handle(self, deliveries: list[Delivery]) -> Callable[[], None]:
        """Attempt, publish, settle; returns how to count it. `deliveries` begins with one; copies that come are added.

        A task that the broker gave up ends for this reason unless it has ended already.
        """
        received = self._now()
        try:
            task = self._parse(deliveries[0], received)
            if self._joined(task, deliveries[0]):
                return self._metrics.joined.inc
        except TaskError as error:
            count = await self._refuse(deliveries[0], error)
            await deliveries[0].ack()
            return count
        if (sent := deliveries[0].timestamp) and task.attempt == 1:
            self._metrics.wait_seconds.observe(max((received - sent).total_seconds(), 0))
        uploads = Uploads(self._store, task, self._settings.pool.inflight_bytes, self._settings.limits)
        given_up = decided(deliveries[0].headers) or deliveries[0].refusal
        attempt = Attempt(task, deliveries, received, uploads, given_up)
        self._running[task.id, task.run] = attempt
        names = {"project": task.project, "attempt": task.attempt}
        with logs.bound(**names), self._metrics.in_flight.track_inprogress():
            try:
                count = await self._done(attempt)
                for each in deliveries:
                    await each.ack()
            finally:
                self._close(attempt)
        return count

    def _parse(self, delivery: Delivery, received: datetime) -> Task:
        if delivery.refusal and delivery.refusal.code == Code.INVALID_ARGUMENT:
            raise delivery.refusal
        return parse_task(
            delivery.body,
            message_id=delivery.message_id,
            timestamp=delivery.timestamp,
            headers=delivery.headers,
            limits=self._settings.limits,
            received_at=received,
        )

    def _joined(self, task: Task, delivery: Delivery) -> bool:
        """Let a second delivery of what runs here wait for that run. Raises for the id of another message."""
        running = self._running.get((task.id, task.run))
        if running is None:
            return False
        if running.task.body != task.body:
            raise used_for_another(task.id)
        running.deliveries.append(delivery)
        log.info("delivered again while under way")
        return True

    def _close(self, attempt: Attempt) -> None:
        """Let no further delivery join the attempt; one that comes now starts another."""
        if self._running.get((attempt.task.id, attempt.task.run)) is attempt:
            del self._running[attempt.task.id, attempt.task.run]

    async def _done(self, attempt: Attempt) -> Callable[[], None]:
        """Bring the task to where its message may be acknowledged; returns how to count that."""
        try:
            return await self._ended(attempt)
        except RecordsLostError as error:
            return await self._postponed(attempt, self._waiting(attempt.task, error))
        except TaskError as error:
            return await self._refuse(attempt.deliveries[-1], error)

    async def _ended(self, attempt: Attempt) -> Callable[[], None]:
        """Do what is left to do for a task: all of it, only to tell how it ended, or to end it."""
        found, outcome = await self._outcome(attempt)
        match outcome:
            case Record():
                await self._replay(attempt, outcome)
                return self._repeated(outcome)
            case Postponed():
                return await self._postponed(attempt, outcome)
            case _:
                return await self._finished(attempt, outcome, found)

    async def _outcome(self, attempt: Attempt) -> tuple[Found | None, Outcome | Record]:
        """Find out how the task ended, or make an attempt at it; a request to cancel ends both."""
        task = attempt.task
        found: Found | None = None
        try:
            async with attempt.scope:
                found = await self._records.find(task)
                match found:
                    case Found(Record() as record) if record.answers(digest(task.body), task.run):
                        return found, record
                    case Found(CancelRequest()):
                        pass
                    case Found(Record() as earlier) if earlier.cancels(replayed_at(attempt.deliveries[0].headers)):
                        pass
                    case _ if attempt.given_up and attempt.given_up.code == Code.CANCELED:
                        pass
                    case _ if attempt.given_up:
                        self._metrics.failures.labels(code_label(attempt.given_up.code)).inc()
                        return found, Failed(attempt.given_up)
                    case _:
                        return found, await self._execution.attempt(attempt)
        except TimeoutError:
            if not attempt.scope.expired():
                raise
        attempt.given_up = CANCELED
        return found, await self._execution.canceled(attempt)

    async def _finished(
        self, attempt: Attempt, outcome: Completed | Failed | Canceled, found: Found | None
    ) -> Callable[[], None]:
        """Commit how the task ended, then tell it; if another worker was first, what that one committed."""
        task = attempt.task
        event = await self._teller.written(attempt, outcome)
        status, error = ending(outcome)
        code, message = (error.code, error.message) if error else ("", "")
        own = Record(task.id, status, code, message, digest(task.body), (task.run,), event)
        describe = partial(attempt.written, partial(self._about, attempt, outcome))
        record = await self._records.commit(task, own, found, describe)
        await self._replay(attempt, record)
        if record.event != event:
            return self._repeated(record)
        match outcome:
            case Failed():
                log.error("failed", code=code, error=message)
            case Completed(entries):
                log.info("succeeded", frames=sum(len(entry.frames) for entry in entries))
            case Canceled():
                log.info("canceled")
        return partial(self._count, attempt, outcome)

    def _about(self, attempt: Attempt, outcome: Outcome) -> bytes:
        """Write what a record tells beside the end itself."""
        task = attempt.task
        result = build_result(task, outcome, started_at=attempt.started_at, now=self._now())
        return write_about(
            result, attempt=task.attempt, source_etag=attempt.source_etag, worker=gethostname(), version=__version__
        )

    async def _replay(self, attempt: Attempt, record: Record) -> None:
        """Tell how the task ended, in the words of its record, and park its message if it failed; all confirmed."""
        started = perf_counter()
        await self._teller.announce(record.event)
        if record.status == "Failed":
            await attempt.deliveries[-1].park(record.code, record.message, record.runs[-1])
        self._metrics.observe_stage("announce", perf_counter() - started)

    def _repeated(self, record: Record) -> Callable[[], None]:
        log.info("told again how the task ended", status=record.status, code=record.code)
        return self._metrics.deduplicated.inc

    async def _postponed(self, attempt: Attempt, outcome: Postponed) -> Callable[[], None]:
        """Announce another attempt and put a copy of the message where it waits for it, both confirmed."""
        started = perf_counter()
        await self._teller.tell(attempt, outcome, confirm=True)
        self._close(attempt)  # the next delivery may be the copy, which must not be acknowledged with this one
        headers: dict[str, str | int] = {ATTEMPT: outcome.attempt, CRASHES: outcome.crashes, OUTAGES: outcome.outages}
        headers[CREATED] = attempt.task.created_at.isoformat()
        if attempt.given_up:
            headers[ENDING] = str(attempt.given_up)
        await attempt.deliveries[-1].retry(outcome.delay_s, headers)
        log.warning("postponed", delay_s=outcome.delay_s, next_attempt=outcome.attempt, code=outcome.error.code)
        self._metrics.observe_stage("announce", perf_counter() - started)
        return partial(self._count, attempt, outcome)

    def _waiting(self, task: Task, error: TaskError) -> Postponed:
        """Let a task wait for the records as long as waiting can be, at no attempt's cost."""
        self._metrics.failures.labels(code_label(error.code)).inc()
        return Postponed(error, max(self._settings.retry.delays_s), task.attempt, task.crashes, task.outages)

    async def _refuse(self, delivery: Delivery, error: TaskError) -> Callable[[], None]:
        """Announce and park a message that is no task, at once and for good."""
        identity = identify(delivery.body, delivery.message_id, delivery.headers)
        log.warning("invalid message", project=identity.project, code=error.code, error=error.message)
        event = invalid_message_event(
            identity, error, settings=self._settings.events, now=self._now(), trace=trace(delivery.headers)
        )
        await self._teller.announce(event)
        reasons = [f"{each.path}: {each.message}" for each in error.problems]
        await delivery.park(error.code, "; ".join(reasons) or error.message)
        return partial(count_refused, self._metrics, error)

    def _counted(self, count: Callable[[], None]) -> None:
        try:
            count()
        except Exception:  # to give back what is acknowledged by now would cost its channel, and so its neighbours'
            log.exception("unexpected error while counting")

    def _count(self, attempt: Attempt, outcome: Outcome) -> None:
        count_attempt(self._metrics, attempt, outcome, self._now())
