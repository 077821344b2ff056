"""Where records are kept: one object for each task. Knows ports only.

A record is written last and once: its write is the moment at which a task has ended. Whoever is later reads it, and
tells what it says. While the store does not answer, a task waits: it costs no attempt.
"""

import asyncio
import hashlib
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Protocol, TypeVar

from worker import logs
from worker.errors import Code, TaskError
from worker.messages.record import CancelRequest, Record, marked_canceled, read_record, write_record
from worker.outage import NoOutages, Outages
from worker.ports import ObjectStore
from worker.task import Location, Task

FIRST_ANSWER_S = 10.0  # which a request may take, however little waiting is allowed
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
REMEMBERED = 10_000
REMEMBERED_S = 24 * 3600.0
JSON = "application/json"
NO_TAG = "0" * 32  # which no object has
Describe = Callable[[], Awaitable[bytes]]
_T = TypeVar("_T")

log = logs.Log(__name__)


class RecordsLostError(TaskError):
    """The records could not be reached for so long that the task must wait elsewhere. None of its attempts is spent."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is on record of a task, and the tag of that object."""

    content: Record | CancelRequest
    etag: str


class Records(Protocol):
    """What ended, and what shall not begin."""

    async def find(self, task: Task) -> Found | None:
        """Look up what is on record of a task. Raises `RecordsLostError`, and `InternalError` for an unreadable one."""
        ...

    async def commit(self, task: Task, record: Record, found: Found | None, describe: Describe) -> Record:
        """Record how the task ended, unless it is on record already; returns what is.

        `found` is what was there before, `describe` writes what else there is to record. Raises `RecordsLostError`, and
        `InvalidArgument` if the record is that of another message.
        """
        ...

    async def cancel(self, task_id: str, at: datetime) -> None:
        """Have the task end as canceled when its message comes, unless it has ended. Raises `RecordsLostError`.

        Of a task that ended without success, a replay that was asked for before `at` ends so.
        """
        ...


class StoredRecords:
    """Records as objects below `place`: the work of all workers, for good. Implements `Records`.

    `hold_s` is how long a task waits for the store at a time; `outages` is asked whether others have to wait too, and
    so have no work begun. Usable after `prepare`.
    """

    def __init__(self, store: ObjectStore, place: Location, hold_s: float, outages: Outages | None = None) -> None:
        self._store = store
        self._outages = outages or NoOutages()
        self._place = place
        self._hold_s = hold_s
        self._creates = self._replaces = True

    async def prepare(self) -> None:
        """Find out whether the store honours conditions: some ignore them silently. Raises what makes it unusable."""
        probe = self._below("probe.json")
        self._store.check_write(probe)
        await self._stored(self._below("none.json"))
        self._creates = await self._refuses(probe, None) or await self._refuses(probe, None)
        self._replaces = await self._refuses(probe, NO_TAG)
        if not (self._creates and self._replaces):
            log.warning(
                "the store does not honour conditional writes: of two workers that end a task at the same moment, the "
                "later one's record stays",
                if_none_match=self._creates,
                if_match=self._replaces,
            )

    async def find(self, task: Task) -> Found | None:
        """Read the task's object, if there is one."""
        return await self._find(task.id)

    async def commit(self, task: Task, record: Record, found: Found | None, describe: Describe) -> Record:
        """Write the record unless another one was written meanwhile that answers the task too."""
        record = replace(record, about=await describe())
        while True:
            earlier = found.content if found else None
            if isinstance(earlier, Record):
                if earlier.answers(record.body_sha256, task.run):
                    return earlier
                new = record.after(earlier)
            else:
                new = record
            if await self._put(task.id, new, found.etag if found else None):
                return new
            found = await self._find(task.id)

    async def cancel(self, task_id: str, at: datetime) -> None:
        """Write a request where the record will be, or onto the record of a task that ended without success."""
        location = self._location(task_id)
        while not await self._put(task_id, CancelRequest(task_id), None):
            stored = await self._held(partial(self._stored, location))
            if stored is None:  # it went this moment
                continue
            data, etag = stored
            there = read_record(data, task_id)
            if isinstance(there, CancelRequest) or there.status == "Succeeded":
                return
            marked = await asyncio.to_thread(marked_canceled, data, at)
            if await self._held(partial(self._write_if, location, marked, etag)):
                return

    async def _find(self, task_id: str) -> Found | None:
        stored = await self._held(lambda: self._stored(self._location(task_id)))
        return Found(read_record(stored[0], task_id), stored[1]) if stored else None

    async def _put(self, task_id: str, content: Record | CancelRequest, etag: str | None) -> bool:
        location, data = self._location(task_id), write_record(content)
        return await self._held(lambda: self._write_if(location, data, etag))

    async def _held(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """Ask the store until it answers, with growing random pauses, or until the task cannot wait longer."""
        started_s = monotonic()
        bound_s = FIRST_PAUSE_S
        failure: Exception = TimeoutError("no answer")
        with suppress(TimeoutError):
            async with asyncio.timeout(max(self._hold_s, FIRST_ANSWER_S)):
                while True:
                    try:
                        return await request()
                    except TaskError as error:
                        failure = error
                    pause_s = random.uniform(bound_s / 2, bound_s)  # noqa: S311 - nothing secret
                    if monotonic() + pause_s > started_s + self._hold_s:
                        break
                    log.warning(
                        "the task waits for the store of records", pause_s=round(pause_s, 1), error=str(failure)
                    )
                    await self._outages.explains(started_s)
                    await asyncio.sleep(pause_s)
                    bound_s = min(bound_s * 2, LONGEST_PAUSE_S)
        what = f"the worker's records are out of reach, so the task waits: {failure}"
        raise RecordsLostError(Code.STORAGE_UNAVAILABLE, what, retryable=True) from failure

    async def _stored(self, location: Location) -> tuple[bytes, str] | None:
        try:
            info = await self._store.stat(location)
        except TaskError as error:
            if error.code == Code.RESOURCE_NOT_FOUND:
                return None
            raise
        return await self._store.read(location, 0, info.size, info.etag), info.etag

    async def _write_if(self, location: Location, data: bytes, etag: str | None) -> bool:
        """Write on a condition, which is only looked at before where the store does not honour it."""
        if self._creates if etag is None else self._replaces:
            return await self._store.write_if(location, data, JSON, etag)
        there = await self._stored(location)
        if (there[1] if there else None) != etag:
            return False
        await self._store.write(location, data, JSON)
        return True

    async def _refuses(self, probe: Location, etag: str | None) -> bool:
        """Tell whether the store refuses to write an object on a condition that does not hold."""
        try:
            return not await self._store.write_if(probe, b"{}", JSON, etag)
        except TaskError as error:
            if error.code == Code.INVALID_ARGUMENT:  # it knows no conditions, and says so
                return False
            raise

    def _location(self, task_id: str) -> Location:
        """Name a task's object. A hash is a safe key, whatever the id; its first digits keep directories small."""
        name = hashlib.sha256(task_id.encode()).hexdigest()
        return self._below(f"{name[:2]}/{name}.json")

    def _below(self, key: str) -> Location:
        return replace(self._place, key=f"{self._place.key}/{key}")


class NoRecords:
    """What this process remembers, for some time, where no records are kept. Implements `Records`.

    That is requests to cancel first runs, and which tasks ended here, so that no request comes too late for them.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._canceled: OrderedDict[str, float] = OrderedDict()
        self._ended: OrderedDict[str, float] = OrderedDict()

    async def find(self, task: Task) -> Found | None:
        """Tell whether the task was canceled."""
        since = self._canceled.get(task.id)
        canceled = since is not None and not task.run and self._clock() - since < REMEMBERED_S
        return Found(CancelRequest(task.id), "") if canceled else None

    async def commit(self, task: Task, record: Record, found: Found | None, describe: Describe) -> Record:
        """Remember that the task ended; a request that came too late for its first run is forgotten with it."""
        del found, describe
        if record.status != "Canceled" and not task.run:
            self._canceled.pop(task.id, None)
        self._remember(self._ended, task.id)
        return record

    async def cancel(self, task_id: str, at: datetime) -> None:
        """Remember the request."""
        del at  # whether a replay was meant is not known here
        if task_id not in self._ended:
            self._remember(self._canceled, task_id)

    def _remember(self, ids: OrderedDict[str, float], task_id: str) -> None:
        ids[task_id] = self._clock()
        ids.move_to_end(task_id)
        while len(ids) > REMEMBERED:
            ids.popitem(last=False)
