"""One task without a broker: its message comes from a file, and its events go to a function.

A composition root of its own, so that nobody waits for the imports of a service.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry

from worker.adapters.pool import DecoderPool
from worker.handler import Handler
from worker.metrics import Metrics
from worker.openers import open_store, opener
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class LoneDelivery:
    """A task message that came from a file: there is nobody to settle it with."""

    body: bytes
    message_id: str | None = None
    timestamp: datetime | None = None
    headers: Mapping[str, object] = field(default_factory=dict)
    refusal: None = None
    stale: bool = False

    async def ack(self) -> None:
        """Do nothing."""

    async def retry(self, delay_s: int, headers: Mapping[str, str | int]) -> None:
        """Never happens: a lone task has one attempt."""
        raise AssertionError(delay_s, headers)

    async def give_back(self) -> None:
        """Tell that the task was not done: nobody will deliver it again."""
        raise RuntimeError("the task ended without a result because of an unexpected error, which the log shows")

    async def park(self, code: str, reason: str, run: str = "") -> None:
        """Do nothing: the event tells."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Hands events to a function instead of an exchange."""

    tell: Callable[[str, bytes], None]

    async def announce(self, routing_key: str, body: bytes, content_type: str, *, confirm: bool = True) -> None:  # noqa: ARG002
        """Tell at once."""
        self.tell(routing_key, body)


async def run_task(settings: Settings, body: bytes, tell: Callable[[str, bytes], None]) -> None:
    """Do one task without a broker and without a second attempt; `tell` gets the routing key and body of each event."""
    once = settings.retry.model_copy(update={"max_attempts": 1})
    pool = settings.pool.model_copy(update={"slots": 1})
    settings = settings.model_copy(update={"retry": once, "pool": pool})
    metrics = Metrics(CollectorRegistry())
    async with DecoderPool(settings.pool) as decoders, open_store(settings, metrics.observe_request) as store:
        handler = Handler(
            store=store,
            open_source=opener(settings, store),
            decoders=decoders,
            announcer=Listener(tell),
            settings=settings,
            metrics=metrics,
        )
        await handler.handle(LoneDelivery(body))
