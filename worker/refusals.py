"""Messages at which no attempt is made: those that cannot be read, and those that the broker gave up.

Each is announced as failed, parked with the reason, and only then forgotten by its queue. Knows ports only.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from worker import logs
from worker.attempt import log_names
from worker.errors import Code, TaskError
from worker.messages import identify, invalid_message_event
from worker.messages.headers import trace
from worker.metrics import Metrics, code_label
from worker.ports import Announcer, BrokerLostError, Delivery
from worker.settings import Events

log = logs.Log(__name__)


class RefusableDelivery(Delivery, Protocol):
    """A delivery of which the adapter knows whether it is a task to do at all."""

    @property
    def refusal(self) -> TaskError | None:
        """Why no attempt may be made; None where one may."""
        ...


class Refusals:
    """Stands before the handler, and ends what is no task to do. One for the life of the worker."""

    def __init__(
        self,
        announcer: Announcer,
        settings: Events,
        metrics: Metrics,
        attempt: Callable[[Delivery, TaskError | None], Awaitable[None]],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._announcer = announcer
        self._settings = settings
        self._metrics = metrics
        self._attempt = attempt
        self._now = clock

    async def handle(self, delivery: RefusableDelivery) -> None:
        """Hand a message on to be attempted, or to be ended where it is given up, unless nobody can read it."""
        error = delivery.refusal
        if error is not None and error.code == Code.INVALID_ARGUMENT:
            await self._refuse(delivery, error)
        else:
            await self._attempt(delivery, error)

    async def _refuse(self, delivery: Delivery, error: TaskError) -> None:
        """End one task for the reason `error`. What the broker does not confirm goes back, to be refused again."""
        with logs.bound(**log_names(delivery)):
            try:
                await self._end(delivery, error)
            except BrokerLostError as lost:
                log.warning("the broker did not confirm, it will deliver the message again", error=str(lost))
            except Exception:
                log.exception("unexpected error, the message goes back to be delivered again")
            else:
                return
            self._metrics.requeued.inc()
            await delivery.give_back()

    async def _end(self, delivery: Delivery, error: TaskError) -> None:
        identity = identify(delivery.body, delivery.message_id)
        log.error("refused", project=identity.project, code=error.code, error=error.message)
        event = invalid_message_event(
            identity, error, settings=self._settings, now=self._now(), trace=trace(delivery.headers)
        )
        await self._announcer.announce(event.routing_key, event.body, event.content_type)
        await delivery.park(error.code, error.message)
        await delivery.ack()
        self._metrics.parked.labels(code_label(error.code)).inc()
        self._metrics.failures.labels(code_label(error.code)).inc()
