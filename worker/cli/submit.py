"""`frame-capture submit`: publishes tasks, and follows them if asked to."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from worker import logs
from worker.cli.board import board
from worker.cli.environment import load_settings, quiet_level
from worker.cli.listen import told_by
from worker.cli.task_files import STDIN, label_of, read_task
from worker.cli.told import Told
from worker.messages import identify
from worker.ports import BrokerLostError
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.adapters.amqp import Broker

UNCLAIMED_S = 3.0
Ends = dict[str, Told]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds within which the broker has to answer.", metavar="S")]


@dataclass(frozen=True, slots=True)
class Submission:
    """A task to publish: its id, its name for people, its message."""

    task_id: str
    label: str
    body: bytes

    @property
    def pattern(self) -> str:
        """The routing keys of its events."""
        identity = identify(self.body, self.task_id)
        return f"{identity.topic}.{identity.project}.*"


def submit(
    tasks: Annotated[list[Path], typer.Argument(metavar="TASK.json", help="Task messages; - reads one from stdin.")],
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the tasks until all are over.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --watch: print the terminal events as JSON, one a line.")
    ] = False,
    task_id: Annotated[
        str | None, typer.Option(help="The TaskId of the only task. Default: a new one for each.", metavar="ID")
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(min=0.1, help="With --watch: seconds to follow at most; then 1. Default: none.", metavar="S"),
    ] = None,
    timeout: Timeout = 10,
) -> None:
    """Publish tasks to the broker of FRAME_CAPTURE_AMQP__URL.

    Prints each TaskId. With --watch it shows the progress on the standard error, and a summary of each task, or its
    terminal event, on the standard output.

    Exit status: 0 published (with --watch: all succeeded), 1 broker not usable or a task failed, 2 unusable message,
    file or settings.
    """
    _check_options(tasks, task_id, {"--json": as_json, "--limit": limit is not None}, watch=watch)
    settings = load_settings()
    logs.configure(settings.log_format, quiet_level(settings, "critical"))
    submissions = [
        Submission(task_id or f"MediaConvert-{uuid.uuid4()}", label_of(path), read_task(path)) for path in tasks
    ]
    to = sys.stderr if as_json else sys.stdout
    told = asyncio.run(_submit(settings, submissions, timeout, watch=watch, limit_s=limit, to=to))
    over = [each for each in submissions if each.task_id in told]
    for each in over:
        _print_end(each, told[each.task_id], as_json=as_json)
    open_ones = watch and len(over) < len(submissions)
    raise typer.Exit(max([int(open_ones), *(each.exit_status for each in told.values())]))


def _check_options(tasks: list[Path], task_id: str | None, watching: dict[str, bool], *, watch: bool) -> None:
    """Raise `BadParameter` for options that do not go together; those in `watching` need --watch."""
    if task_id is not None and len(tasks) > 1:
        raise typer.BadParameter(f"one id is for one task; got {len(tasks)} tasks", param_hint="--task-id")
    if task_id == "":
        raise typer.BadParameter("an id is not empty; leave it out for a new one", param_hint="--task-id")
    if tasks.count(STDIN) > 1:
        raise typer.BadParameter("the standard input is one message: give - once", param_hint="TASK.json")
    for name, given in watching.items():
        if given and not watch:
            raise typer.BadParameter("it needs --watch", param_hint=name)


async def _submit(
    settings: Settings, tasks: list[Submission], deadline_s: float, *, watch: bool, limit_s: float | None, to: TextIO
) -> Ends:
    """Publish all; with `watch` return how each ended within `limit_s`, by its id. The ids are printed to `to`."""
    from worker import service

    async with service.open_broker(settings, deadline_s) as broker, AsyncExitStack() as listening:
        events = (
            await listening.enter_async_context(broker.events(*{each.pattern for each in tasks})) if watch else None
        )
        for each in tasks:
            await broker.submit(each.body, each.task_id, {})
            print(f"{each.task_id}  {each.label}", file=to, flush=True)
        if events is None:
            return {}
        ends: Ends = {}
        warning = asyncio.create_task(_warn_unless_consumed(broker))
        try:
            async with asyncio.timeout(limit_s), aclosing(told_by(events, lambda: broker.connected)) as told_events:
                await _follow(tasks, told_events, ends)
        except TimeoutError:
            print(f"{len(ends)} of {len(tasks)} tasks were over in {limit_s:g} s; no longer following", file=sys.stderr)
        except asyncio.CancelledError:
            print("no longer following; what was submitted is done all the same", file=sys.stderr)
            raise
        finally:
            warning.cancel()
        return ends


async def _warn_unless_consumed(broker: "Broker") -> None:
    """Tell after a while if there is no worker, since the tasks then wait without a sign."""
    await asyncio.sleep(UNCLAIMED_S)
    with suppress(BrokerLostError):  # whoever follows notices that too
        if not await broker.consumers():
            queue = broker.topology.task_queue
            print(f"queued; nobody consumes {queue} now: is a worker running (frame-capture serve)?", file=sys.stderr)


async def _follow(tasks: list[Submission], events: AsyncIterator[Told], ends: Ends) -> None:
    """Show the progress of the tasks until all are over; how each ended is added to `ends`."""
    labels = {each.task_id: each.label for each in tasks}
    with board() as shown:
        for task_id, label in labels.items():
            shown.add(task_id, label)
        async for told in events:
            if told.task_id in labels and told.task_id not in ends:
                shown.show(told)
                if told.terminal:
                    ends[told.task_id] = told
            if len(ends) == len(labels):
                break


def _print_end(task: Submission, told: Told, *, as_json: bool) -> None:
    if as_json:
        print(told.body.decode())
    else:
        print("\n  ".join([f"{task.label}: {told.headline}", *told.notes()]))
