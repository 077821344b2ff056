"""One task, start to finish: attempt, announce, settle, count. Knows ports only."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter

import structlog

from worker.attempt import Attempt
from worker.errors import Code, TaskError
from worker.media.plan import CapturePlan, Image, Limits, Progress, Report
from worker.messages import Event, Running, build_event, build_result, identify, invalid_message_event, parse_task
from worker.metrics import Metrics, code_label
from worker.ports import Announcer, BrokerLostError, DecoderPool, Delivery, ObjectInfo, ObjectStore
from worker.settings import Settings
from worker.source import CachedSource
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
        decoders: DecoderPool,
        announcer: Announcer,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._decoders = decoders
        self._announcer = announcer
        self._settings = settings
        self._metrics = metrics
        self._now = clock
        self._limits = _limits(settings)
        retry = settings.retry
        self._policy = RetryPolicy(retry.delays_s, retry.max_attempts, retry.crash_attempts)
        self._running: dict[str, Attempt] = {}

    async def handle(self, delivery: Delivery) -> None:
        """Do one task and settle its message. Without the broker's confirmation the message is not acknowledged."""
        received = self._now()
        try:
            task = self._parse(delivery, received)
            if self._joined(task, delivery):
                return
        except TaskError as error:
            await self._refuse(delivery, error)
            return
        attempt = Attempt(task, [delivery], received, Uploads(self._store, task, self._settings.pool.inflight_bytes))
        self._running[task.id] = attempt
        with structlog.contextvars.bound_contextvars(**attempt.names), self._metrics.in_flight.track_inprogress():
            try:
                outcome = await self._attempt(attempt)
                await self._settle(attempt, outcome)
            except BrokerLostError as error:
                log.warning("the broker did not confirm, the task will be delivered again", error=str(error))
                await asyncio.gather(*(each.give_back() for each in attempt.deliveries))
                self._count(attempt, "requeued")
            finally:
                del self._running[task.id]

    def _parse(self, delivery: Delivery, received: datetime) -> Task:
        task = parse_task(
            delivery.body,
            message_id=delivery.message_id,
            timestamp=delivery.timestamp,
            headers=delivery.headers,
            limits=self._settings.limits,
            received_at=received,
        )
        if delivery.timestamp is not None and task.attempt == 1:
            self._metrics.wait_seconds.observe(max((received - delivery.timestamp).total_seconds(), 0))
        return task

    def _joined(self, task: Task, delivery: Delivery) -> bool:
        """Let a second delivery of what runs here wait for that run. Raises for the id of another message."""
        running = self._running.get(task.id)
        if running is None:
            return False
        if running.task.body != task.body:
            raise TaskError(Code.INVALID_ARGUMENT, f"TaskId {task.id} was used for another message")
        running.deliveries.append(delivery)
        self._metrics.joined.inc()
        return True

    async def _refuse(self, delivery: Delivery, error: TaskError) -> None:
        """Announce and park a message that is no task, at once and for good."""
        identity = identify(delivery.body, delivery.message_id)
        log.warning("invalid message parked", task_id=identity.task_id, code=error.code, error=error.message)
        try:
            await self._announce(
                invalid_message_event(identity, error, settings=self._settings.events, now=self._now())
            )
            await delivery.park(
                error.code, "; ".join(f"{each.path}: {each.message}" for each in error.problems) or error.message
            )
            await delivery.ack()
        except BrokerLostError as lost:
            log.warning("the broker did not confirm, the message will be delivered again", error=str(lost))
            await delivery.give_back()
            return
        self._metrics.parked.labels(code_label(error.code)).inc()
        self._metrics.failures.labels(code_label(error.code)).inc()

    async def _attempt(self, attempt: Attempt) -> Outcome:
        """Run the task once and judge what became of it. Raises only `BrokerLostError`."""
        task = attempt.task
        try:
            outcome = await self._capture(attempt)
            return await self._extended(attempt, outcome)
        except TaskError as error:
            return await self._judged(attempt, error)
        except BrokerLostError:
            raise
        except Exception as error:
            log.exception("unexpected error")
            internal = TaskError(Code.INTERNAL_ERROR, f"unexpected {type(error).__name__}", retryable=True)
            return self._policy.judge(internal, task.attempt, task.crashes)

    async def _judged(self, attempt: Attempt, error: TaskError) -> Outcome:
        """Decide between another attempt and failure; a failure lists what was stored all the same."""
        log.warning("attempt failed", code=error.code, error=error.message, retryable=error.retryable)
        self._metrics.failures.labels(code_label(error.code)).inc()
        outcome = self._policy.judge(error, attempt.task.attempt, attempt.task.crashes)
        if isinstance(outcome, Postponed):
            return outcome
        failed = replace(outcome, entries=attempt.results())
        try:
            return await self._extended(attempt, failed)
        except TaskError as unwritten:
            log.warning("the result was not written", code=unwritten.code, error=unwritten.message)
            return failed

    async def _extended(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        """Write the whole result to where the message asks for it."""
        location = attempt.task.extended_location
        if location is not None:
            result = build_result(attempt.task, outcome, started_at=attempt.started_at, now=self._now())
            await self._store.write(location, result, "application/json")
        return outcome

    async def _capture(self, attempt: Attempt) -> Outcome:
        """Capture all frames and store them: the happy path."""
        task, location = attempt.task, attempt.task.source.location
        started = perf_counter()
        info = await self._store.stat(location)
        self._observe("stat", perf_counter() - started)
        self._check_size(info)
        await self._tell(attempt, Running(0), confirm=True)
        plan = CapturePlan(
            tuple(entry.plan for entry in task.entries), task.source.start_s, task.source.duration_s, self._limits
        )
        cache_bytes = self._settings.pool.cache_bytes
        try:
            async with (
                aclosing(CachedSource(self._store, location, info, cache_bytes=cache_bytes)) as source,
                aclosing(self._decoders.capture(plan, source)) as events,
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
            raise _first_error(group) from group
        return self._concluded(attempt, report)

    def _check_size(self, info: ObjectInfo) -> None:
        limit = self._settings.limits.source_bytes
        if info.size > limit:
            message = f"the source has {info.size} bytes; at most {limit} are allowed (source_bytes)"
            raise TaskError(Code.LIMIT_EXCEEDED, message)
        self._metrics.source_bytes.observe(info.size)

    def _concluded(self, attempt: Attempt, report: Report) -> Outcome:
        for stage, seconds in {**report.stage_s, "upload": attempt.uploads.seconds}.items():
            self._observe(stage, seconds)
        self._metrics.decoded.inc(report.frames_decoded)
        facts = replace(report, entries=())
        log.info(
            "captured", container=facts.container, codec=facts.codec, decoded=facts.frames_decoded, seeks=facts.seeks
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

    async def _settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """Announce the outcome, put copies where they belong, and only then acknowledge."""
        task, delivery = attempt.task, attempt.deliveries[-1]
        started = perf_counter()
        await self._tell(attempt, outcome, confirm=True)
        match outcome:
            case Postponed(error, delay_s, number, crashes):
                headers: dict[str, str | int] = {
                    "x-attempt": number,
                    "x-crashes": crashes,
                    "x-created": task.created_at.isoformat(),
                }
                await delivery.retry(delay_s, headers)
                self._metrics.retries.inc()
                log.warning("postponed", delay_s=delay_s, attempt=number, code=error.code)
            case Failed(error):
                await delivery.park(error.code, error.message)
                self._metrics.parked.labels(code_label(error.code)).inc()
                log.error("failed", code=error.code, error=error.message)
            case Completed():
                self._metrics.last_success.set_to_current_time()
                log.info("succeeded", frames=sum(len(entry.frames) for entry in outcome.entries))
            case Canceled():
                log.info("canceled")
        self._observe("announce", perf_counter() - started)
        self._count(attempt, LABELS[type(outcome)])
        self._count_frames(attempt)
        for each in attempt.deliveries:
            await each.ack()

    async def _tell(self, attempt: Attempt, state: Outcome | Running, *, confirm: bool) -> None:
        event = build_event(
            attempt.task, state, settings=self._settings.events, started_at=attempt.started_at, now=self._now()
        )
        await self._announce(event, confirm=confirm)

    async def _announce(self, event: Event, *, confirm: bool = True) -> None:
        await self._announcer.announce(event.routing_key, event.body, event.content_type, confirm=confirm)

    # --- counting

    def _observe(self, stage: str, seconds: float) -> None:
        self._metrics.stage_seconds.labels(stage).observe(seconds)

    def _count(self, attempt: Attempt, outcome: str) -> None:
        self._metrics.tasks.labels(outcome, attempt.task.entries[0].plan.selection.mode).inc()
        spent = (self._now() - attempt.started_at).total_seconds()
        self._metrics.task_seconds.labels(outcome).observe(max(spent, 0))

    def _count_frames(self, attempt: Attempt) -> None:
        for entry, frames in zip(attempt.task.entries, attempt.uploads.frames, strict=True):
            labels = (entry.plan.selection.mode, entry.plan.rendition.format)
            self._metrics.frames.labels(*labels).inc(len(frames))


def _limits(settings: Settings) -> Limits:
    bounds = settings.limits
    return Limits(
        max_frames_per_entry=bounds.frames_per_entry,
        max_pixels=bounds.pixels,
        max_side=bounds.side,
        max_streams=bounds.streams,
        max_decoded_frames=bounds.decoded_frames,
        max_image_bytes=bounds.image_bytes,
    )


def _first_error(group: ExceptionGroup) -> Exception:
    """Find the first cause in a group of failures."""
    first = group.exceptions[0]
    return _first_error(first) if isinstance(first, ExceptionGroup) else first
