"""`frame-capture dead …`: the messages that are not tried again, and what a person can do with them."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker import logs
from worker.cli.environment import load_settings, quiet_level
from worker.cli.submit import Timeout
from worker.cli.told import plain

if TYPE_CHECKING:
    from worker.adapters.amqp_parked import ParkedMessage

dead = typer.Typer(help="List, show, replay or drop parked messages.", no_args_is_help=True, rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[TASKID]...", help="The tasks; or give --all.")]
All = Annotated[bool, typer.Option("--all", help="All parked messages.")]


@dead.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="Messages to list at most, the oldest first.", metavar="N")] = 100,
    as_json: AsJson = False,
    timeout: Timeout = 10,
) -> None:
    """List parked messages with the error and the attempts of each. It changes nothing.

    Exit status: 0 listed, 1 broker not usable, 2 wrong settings.
    """

    async def tell(one: "ParkedMessage") -> None:
        text = json.dumps(_told(one)) if as_json else f"{plain(one.task_id)}  attempts {one.attempts}  {_error(one)}"
        print(text)

    _go_through(tell, timeout, limit=limit)


@dead.command()
def show(task_id: Annotated[str, typer.Argument(metavar="TASKID")], timeout: Timeout = 10) -> None:
    """Print all that is known of a task's parked messages, as JSON. It changes nothing.

    Exit status: 0 shown, 1 there is none or broker not usable, 2 wrong settings.
    """

    async def tell(one: "ParkedMessage") -> None:
        print(json.dumps(_told(one) | {"Headers": one.headers, "Message": _body(one)}, indent=2, default=_plain_value))

    _go_through(tell, timeout, wanted={task_id})


@dead.command()
def replay(task_ids: Ids = None, every: All = False, timeout: Timeout = 10) -> None:
    """Put parked tasks back into their queue, as new runs that start with the first attempt.

    Repeating it is safe: what it was not able to take off the parked messages is the same run the next time. What the
    broker does not take any more, for its size, stays parked.

    Exit status: 0 replayed, 1 one was not there, or stays, or broker not usable, 2 wrong settings.
    """

    async def again(one: "ParkedMessage") -> None:
        await one.replay()
        print(f"replayed {plain(one.task_id)}  {_error(one)}")

    _go_through(again, timeout, wanted=_wanted(task_ids, every=every))


@dead.command()
def drop(
    task_ids: Ids = None,
    every: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete.")] = False,
    timeout: Timeout = 10,
) -> None:
    """Delete parked messages for good.

    Exit status: 0 deleted, 1 one was not there or broker not usable, 2 wrong settings.
    """
    wanted = _wanted(task_ids, every=every)
    if not yes:
        raise typer.BadParameter("deleting is for good: add it to confirm", param_hint="--yes")

    async def delete(one: "ParkedMessage") -> None:
        await one.drop()
        print(f"dropped {plain(one.task_id)}  {_error(one)}")

    _go_through(delete, timeout, wanted=wanted)


def _wanted(task_ids: list[str] | None, *, every: bool) -> set[str] | None:
    if every == bool(task_ids):
        raise typer.BadParameter("name the tasks, or give --all", param_hint="TASKID")
    return set(task_ids) if task_ids else None


@dataclass
class _Seen:
    ids: set[str]
    count: int = 0
    refused: int = 0


def _go_through(
    act: "Callable[[ParkedMessage], Awaitable[None]]",
    deadline_s: float,
    *,
    wanted: set[str] | None = None,
    limit: int | None = None,
) -> None:
    """Do `act` to the parked messages, or those of the tasks `wanted`, and exit."""
    settings = load_settings()
    logs.configure(settings.log_format, quiet_level(settings, "critical"))
    seen = _Seen(set())

    async def go() -> None:
        from worker import service
        from worker.adapters.amqp_publish import UnacceptableError

        async with service.open_broker(settings, deadline_s, prepare=False) as broker, broker.parked() as messages:
            async for one in messages:
                if wanted is None or one.task_id in wanted:
                    seen.ids.add(one.task_id)
                    try:
                        await act(one)
                        seen.count += 1
                    except UnacceptableError as error:  # the others can be taken all the same
                        print(f"task {plain(one.task_id)} stays parked: {plain(str(error))}", file=sys.stderr)
                        seen.refused += 1
                if seen.count == limit:
                    break

    asyncio.run(go())
    missing = sorted((wanted or set()) - seen.ids)
    for task_id in missing:
        print(f"no parked message of task {plain(task_id)}", file=sys.stderr)
    if wanted is None:
        print(f"{seen.count} message{'' if seen.count == 1 else 's'}", file=sys.stderr)
    raise typer.Exit(int(bool(missing or seen.refused)))


def _error(one: "ParkedMessage") -> str:
    return plain(f"{one.code}: {one.reason}")


def _told(one: "ParkedMessage") -> dict[str, Any]:
    sent = one.timestamp.isoformat() if one.timestamp else None
    known = {"TaskId": one.task_id, "Code": one.code, "Reason": one.reason, "Attempts": one.attempts}
    return known | {"Sent": sent, "TraceParent": one.traceparent or None}


def _body(one: "ParkedMessage") -> object:
    try:
        return json.loads(one.body)
    except (ValueError, RecursionError):
        return one.body.decode(errors="backslashreplace")


def _plain_value(value: object) -> str:
    """Write what JSON has no word for: times, bytes, decimals."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes | bytearray) else str(value)
