"""Events about a task on their way to the notification exchange. Knows ports only."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from worker.attempt import Attempt
from worker.messages import Event, Running, build_event
from worker.ports import Announcer
from worker.settings import Events
from worker.task import Outcome


class Teller:
    """Writes events down and announces them. One for the life of the worker."""

    def __init__(self, announcer: Announcer, settings: Events, clock: Callable[[], datetime]) -> None:
        self._announcer = announcer
        self._settings = settings
        self.now = clock

    async def tell(self, attempt: Attempt, state: Outcome | Running, *, confirm: bool) -> None:
        """Announce what a task is doing, or how the attempt ended."""
        await self.announce(await self.written(attempt, state), confirm=confirm)

    async def written(self, attempt: Attempt, state: Outcome | Running) -> Event:
        """Write down the event about a state."""
        moments = {"started_at": attempt.started_at, "now": self.now()}
        build = partial(build_event, attempt.task, state, settings=self._settings, **moments)
        return build() if isinstance(state, Running) else await attempt.written(build)

    async def announce(self, event: Event, *, confirm: bool = True) -> None:
        """Publish an event. Raises `BrokerLostError` if it has to be confirmed and is not."""
        await self._announcer.announce(event.routing_key, event.body, event.content_type, confirm=confirm)
