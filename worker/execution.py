"""One attempt at a task: from its source to images in the store, and what is to follow. Knows ports only."""

from contextlib import aclosing
from dataclasses import replace
from functools import partial
from time import monotonic, perf_counter

from worker import logs
from worker.attempt import Attempt, capture_plan, outputs
from worker.errors import Code, TaskError, over_limit
from worker.media.plan import Image, Progress, Report
from worker.messages import Running, build_result
from worker.metrics import STAGES, Metrics, code_label
from worker.outage import Outages
from worker.ports import BrokerLostError, DecoderPool, ObjectInfo, ObjectStore, SourceOpener
from worker.settings import Settings
from worker.source import BLOCK_BYTES
from worker.task import Canceled, Completed, Failed, Outcome, Postponed, RetryPolicy
from worker.telling import Teller

CANCELED = TaskError(Code.CANCELED, "the task was canceled by request")

# Outages in a row that cost a task no attempt: what meets more of them may be what brings the store down.
FREE_OUTAGES = 20

log = logs.Log(__name__)


class Execution:
    """Makes attempts at tasks. One for the life of the worker."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        open_source: SourceOpener,
        decoders: DecoderPool,
        teller: Teller,
        settings: Settings,
        metrics: Metrics,
        outages: Outages,
    ) -> None:
        self._store = store
        self._open_source = open_source
        self._decoders = decoders
        self._teller = teller
        self._settings = settings
        self._metrics = metrics
        self._outages = outages
        retry = settings.retry
        self._policy = RetryPolicy(retry.delays_s, retry.max_attempts, retry.crash_attempts)

    async def attempt(self, attempt: Attempt) -> Outcome:
        """Run the task once and judge what became of it."""
        started_s = monotonic()
        try:
            return await self._extended(attempt, await self._capture(attempt))
        except BrokerLostError:
            raise
        except TaskError as error:
            failure = error
        except Exception as error:
            log.exception("unexpected error")
            failure = TaskError(Code.INTERNAL_ERROR, f"unexpected {type(error).__name__}", retryable=True)
        return await self._judged(attempt, failure, started_s)

    async def _judged(self, attempt: Attempt, error: TaskError, started_s: float) -> Outcome:
        """Decide between another attempt and failure; a failure lists what was stored all the same."""
        decoders = error.__cause__ if error.code == Code.INTERNAL_ERROR else None
        log.warning(
            "attempt failed", code=error.code, error=error.message, retryable=error.retryable, exc_info=decoders
        )
        self._metrics.failures.labels(code_label(error.code)).inc()
        task = attempt.task
        away = error.code == Code.STORAGE_UNAVAILABLE and error.retryable and await self._outages.explains(started_s)
        if away and task.outages < FREE_OUTAGES:
            log.info("the store as a whole was out of reach, so this costs no attempt")
            return Postponed(error, self._policy.delays_s[0], task.attempt, task.crashes, task.outages + 1)
        outcome = self._policy.judge(error, task.attempt, task.crashes)
        if isinstance(outcome, Postponed):
            return outcome
        return await self._told_if_possible(attempt, replace(outcome, entries=attempt.results()))

    async def canceled(self, attempt: Attempt) -> Outcome:
        """End a task because somebody asked for it; what was stored is listed all the same."""
        return await self._told_if_possible(attempt, Canceled(CANCELED, attempt.results()))

    async def _told_if_possible(self, attempt: Attempt, outcome: Failed | Canceled) -> Outcome:
        """Write the whole result of a task that did not succeed, which it does not depend on."""
        try:
            return await self._extended(attempt, outcome)
        except TaskError as unwritten:
            log.warning("the result was not written", code=unwritten.code, error=unwritten.message)
            attempt.task = replace(attempt.task, extended_location=None)  # the event must not say that it is there
            return outcome

    async def _extended(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        """Write the whole result to where the message asks for it."""
        location = attempt.task.extended_location
        if location is not None:
            build = partial(build_result, attempt.task, outcome, started_at=attempt.started_at, now=self._teller.now())
            await self._store.write(location, await attempt.written(build), "application/json")
        return outcome

    async def _capture(self, attempt: Attempt) -> Outcome:
        """Capture all frames and store them: the happy path."""
        task, location = attempt.task, attempt.task.source.location
        for output in outputs(task):
            self._store.check_write(output)
        started = perf_counter()
        info = await self._store.stat(location, BLOCK_BYTES)
        self._metrics.observe_stage("stat", perf_counter() - started)
        self._check_size(info)
        attempt.source_etag = info.etag
        await self._teller.tell(attempt, Running(0), confirm=True)
        attempt.told_s = perf_counter()
        plan, capture = capture_plan(task, self._settings.limits), self._decoders.capture
        try:
            async with (
                self._open_source(location, info) as source,
                aclosing(
                    capture(replace(plan, segmented=source.segmented), source.content, attempt.check_wanted)
                ) as events,
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
            raise over_limit(f"the source has {info.size} bytes", "LIMITS__SOURCE_BYTES", limit)
        self._metrics.source_bytes.observe(info.size)

    def _concluded(self, attempt: Attempt, report: Report) -> Outcome:
        self._metrics.observe_stage("upload", attempt.uploads.seconds)
        for stage in report.stage_s.keys() & STAGES:
            self._metrics.observe_stage(stage, report.stage_s[stage])
        self._metrics.decoded.inc(report.frames_decoded)
        # Said by the line that tells the task's end: a line of their own would cost as much again.
        logs.bind(container=report.container, codec=report.codec, decoded=report.frames_decoded, seeks=report.seeks)
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
            await self._teller.tell(attempt, Running(int(progress.fraction * 100)), confirm=False)


def _first_error(group: ExceptionGroup) -> Exception:
    """Find the first cause in a group of failures."""
    first = group.exceptions[0]
    return _first_error(first) if isinstance(first, ExceptionGroup) else first
