"""One task, start to finish: attempt, announce, settle, count. Knows ports only."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter

import structlog

from worker.attempt import Attempt, capture_plan, log_names, outputs
from worker.errors import Code, TaskError
from worker.media.plan import Image, Progress, Report
from worker.messages import Event, Running, build_event, build_result, identify, invalid_message_event, parse_task
from worker.messages.headers import ATTEMPT, CRASHES, CREATED, trace
from worker.metrics import STAGES, Metrics, code_label
from worker.ports import Announcer, BrokerLostError, DecoderPool, Delivery, ObjectInfo, ObjectStore, SourceOpener
from worker.settings import Settings
from worker.task import Canceled, Completed, Failed, Outcome, Postponed, RetryPolicy, Task
from worker.uploads import Uploads

log = structlog.stdlib.get_logger(__name__)

LABELS = {Completed: "succeeded", Failed: "failed", Canceled: "canceled", Postponed: "postponed"}


class Handler:
    """Turns deliveries into stored images and events. One for the life of the worker."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        open_source: SourceOpener,
        decoders: DecoderPool,
        announcer: Announcer,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._open_source = open_source
        self._decoders = decoders
        self._announcer = announcer
        self._settings = settings
        self._metrics = metrics
        self._now = clock
        retry = settings.retry
        self._policy = RetryPolicy(retry.delays_s, retry.max_attempts, retry.crash_attempts)
        self._running: dict[str, Attempt] = {}

    async def handle(self, delivery: Delivery) -> None:
        """Do one task and settle its message. What cannot be settled goes back, for the broker to deliver it again:

        where the broker confirms nothing, and after a bug, which so costs its own task only.
        """
        deliveries = [delivery]
        with structlog.contextvars.bound_contextvars(**log_names(delivery)):
            try:
                await self._handle(deliveries)
            except BrokerLostError as error:
                log.warning("the broker did not confirm, it will deliver the message again", error=str(error))
            except Exception:
                log.exception("unexpected error, the message goes back to be delivered again")
            else:
                return
            self._metrics.requeued.inc()
            await asyncio.gather(*(each.give_back() for each in deliveries))

    async def _handle(self, deliveries: list[Delivery]) -> None:
        """Attempt, publish, settle, count. `deliveries` begins with one; copies of it that come meanwhile are added."""
        received = self._now()
        try:
            task = self._parse(deliveries[0], received)
            if self._joined(task, deliveries[0]):
                return
        except TaskError as error:
            await self._refuse(deliveries[0], error)
            return
        if (sent := deliveries[0].timestamp) and task.attempt == 1:
            self._metrics.wait_seconds.observe(max((received - sent).total_seconds(), 0))
        attempt = Attempt(task, deliveries, received, Uploads(self._store, task, self._settings.pool.inflight_bytes))
        self._running[task.id] = attempt
        names = {"project": task.project, "attempt": task.attempt}
        with structlog.contextvars.bound_contextvars(**names), self._metrics.in_flight.track_inprogress():
            try:
                outcome = await self._attempt(attempt)
                await self._publish(attempt, outcome)
                for each in deliveries:
                    await each.ack()
                self._count(attempt, outcome)
            finally:
                self._close(attempt)

    def _parse(self, delivery: Delivery, received: datetime) -> Task:
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
        running = self._running.get(task.id)
        if running is None:
            return False
        if running.task.body != task.body:
            raise TaskError(Code.INVALID_ARGUMENT, f"TaskId {task.id} was used for another message")
        running.deliveries.append(delivery)
        self._metrics.joined.inc()
        log.info("delivered again while under way")
        return True

    def _close(self, attempt: Attempt) -> None:
        """Let no further delivery join the attempt; one that comes now starts another."""
        if self._running.get(attempt.task.id) is attempt:
            del self._running[attempt.task.id]

    async def _refuse(self, delivery: Delivery, error: TaskError) -> None:
        """Announce and park a message that is no task, at once and for good."""
        identity = identify(delivery.body, delivery.message_id)
        log.warning("invalid message", project=identity.project, code=error.code, error=error.message)
        event = invalid_message_event(
            identity, error, settings=self._settings.events, now=self._now(), trace=trace(delivery.headers)
        )
        await self._announce(event)
        reasons = [f"{each.path}: {each.message}" for each in error.problems]
        await delivery.park(error.code, "; ".join(reasons) or error.message)
        await delivery.ack()
        self._metrics.parked.labels(code_label(error.code)).inc()
        self._metrics.failures.labels(code_label(error.code)).inc()

    async def _attempt(self, attempt: Attempt) -> Outcome:
        """Run the task once and judge what became of it."""
        try:
            return await self._extended(attempt, await self._capture(attempt))
        except BrokerLostError:
            raise
        except TaskError as error:
            failure = error
        except Exception as error:
            log.exception("unexpected error")
            failure = TaskError(Code.INTERNAL_ERROR, f"unexpected {type(error).__name__}", retryable=True)
        return await self._judged(attempt, failure)

    async def _judged(self, attempt: Attempt, error: TaskError) -> Outcome:
        """Decide between another attempt and failure; a failure lists what was stored all the same."""
        decoders = error.__cause__ if error.code == Code.INTERNAL_ERROR else None
        log.warning(
            "attempt failed", code=error.code, error=error.message, retryable=error.retryable, exc_info=decoders
        )
        self._metrics.failures.labels(code_label(error.code)).inc()
        outcome = self._policy.judge(error, attempt.task.attempt, attempt.task.crashes)
        if isinstance(outcome, Postponed):
            return outcome
        failed = replace(outcome, entries=attempt.results())
        try:
            return await self._extended(attempt, failed)
        except TaskError as unwritten:
            log.warning("the result was not written", code=unwritten.code, error=unwritten.message)
            attempt.task = replace(attempt.task, extended_location=None)  # the event must not say that it is there
            return failed

    async def _extended(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        """Write the whole result to where the message asks for it."""
        location = attempt.task.extended_location
        if location is not None:
            build = partial(build_result, attempt.task, outcome, started_at=attempt.started_at, now=self._now())
            await self._store.write(location, await attempt.written(build), "application/json")
        return outcome

    async def _capture(self, attempt: Attempt) -> Outcome:
        """Capture all frames and store them: the happy path."""
        task, location = attempt.task, attempt.task.source.location
        for output in outputs(task):
            self._store.check_write(output)
        started = perf_counter()
        info = await self._store.stat(location)
        self._observe("stat", perf_counter() - started)
        self._check_size(info)
        await self._tell(attempt, Running(0), confirm=True)
        attempt.told_s = perf_counter()
        plan = capture_plan(task, self._settings.limits)
        try:
            async with (
                self._open_source(location, info) as source,
                aclosing(self._decoders.capture(replace(plan, segmented=source.segmented), source.content)) as events,
                attempt.uploads as uploads,
            ):
                async for event in events:
                    match event:
                        case Image():
                            await uploads.put(event)
                        case Progress():
                            await self._progress(attempt, event)
                        case Report():
                            report = event
        except ExceptionGroup as group:
            first = _first_error(group)
            raise first from first.__cause__
        return self._concluded(attempt, report)

    def _check_size(self, info: ObjectInfo) -> None:
        limit = self._settings.limits.source_bytes
        if info.size > limit:
            message = f"the source has {info.size} bytes; at most {limit} are allowed (source_bytes)"
            raise TaskError(Code.LIMIT_EXCEEDED, message)
        self._metrics.source_bytes.observe(info.size)

    def _concluded(self, attempt: Attempt, report: Report) -> Outcome:
        self._observe("upload", attempt.uploads.seconds)
        for stage in report.stage_s.keys() & STAGES:
            self._observe(stage, report.stage_s[stage])
        self._metrics.decoded.inc(report.frames_decoded)
        # Said by the line that tells the task's end: a line of their own would cost as much again.
        structlog.contextvars.bind_contextvars(
            container=report.container, codec=report.codec, decoded=report.frames_decoded, seeks=report.seeks
        )
        results = attempt.results(report.entries)
        failed = [result.error for result in results if result.error is not None]
        if not failed:
            return Completed(results)
        many = f"{len(failed)} of {len(results)} entries failed; the first: " if len(results) > 1 else ""
        error = TaskError(failed[0].code, many + failed[0].message)
        self._metrics.failures.labels(code_label(error.code)).inc()
        return Failed(error, results)

    async def _progress(self, attempt: Attempt, progress: Progress) -> None:
        """Tell progress now and then, best effort: it never holds up the work."""
        now = perf_counter()
        if now - attempt.told_s >= self._settings.events.progress_interval_s:
            attempt.told_s = now
            await self._tell(attempt, Running(int(progress.fraction * 100)), confirm=False)

    async def _publish(self, attempt: Attempt, outcome: Outcome) -> None:
        """Announce the outcome and put copies of the message where they belong, all confirmed."""
        task, delivery = attempt.task, attempt.deliveries[-1]
        started = perf_counter()
        await self._tell(attempt, outcome, confirm=True)
        match outcome:
            case Postponed(error, delay_s, number, crashes):
                self._close(attempt)  # the next delivery may be the copy, which must not be acknowledged with this one
                created_at = task.created_at.isoformat()
                await delivery.retry(delay_s, {ATTEMPT: number, CRASHES: crashes, CREATED: created_at})
                log.warning("postponed", delay_s=delay_s, next_attempt=number, code=error.code)
            case Failed(error):
                await delivery.park(error.code, error.message)
                log.error("failed", code=error.code, error=error.message)
            case Completed(entries):
                log.info("succeeded", frames=sum(len(entry.frames) for entry in entries))
            case Canceled():
                log.info("canceled")
        self._observe("announce", perf_counter() - started)

    async def _tell(self, attempt: Attempt, state: Outcome | Running, *, confirm: bool) -> None:
        moments = {"started_at": attempt.started_at, "now": self._now()}
        build = partial(build_event, attempt.task, state, settings=self._settings.events, **moments)
        await self._announce(build() if isinstance(state, Running) else await attempt.written(build), confirm=confirm)

    async def _announce(self, event: Event, *, confirm: bool = True) -> None:
        await self._announcer.announce(event.routing_key, event.body, event.content_type, confirm=confirm)

    # --- counting

    def _observe(self, stage: str, seconds: float) -> None:
        self._metrics.stage_seconds.labels(stage).observe(seconds)

    def _count(self, attempt: Attempt, outcome: Outcome) -> None:
        label = LABELS[type(outcome)]
        self._metrics.tasks.labels(label, attempt.task.entries[0].plan.selection.mode).inc()
        spent_s = (self._now() - attempt.started_at).total_seconds()
        self._metrics.task_seconds.labels(label).observe(max(spent_s, 0))
        for entry, frames in zip(attempt.task.entries, attempt.uploads.frames, strict=True):
            labels = (entry.plan.selection.mode, entry.plan.rendition.format)
            self._metrics.frames.labels(*labels).inc(len(frames))
        match outcome:
            case Postponed():
                self._metrics.retries.inc()
            case Failed(error):
                self._metrics.parked.labels(code_label(error.code)).inc()
            case Completed():
                self._metrics.last_success.set_to_current_time()


def _first_error(group: ExceptionGroup) -> Exception:
    """Find the first cause in a group of failures."""
    first = group.exceptions[0]
    return _first_error(first) if isinstance(first, ExceptionGroup) else first
