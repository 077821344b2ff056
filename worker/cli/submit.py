"""`frame-capture submit`: publishes tasks, and follows them if asked to."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TextIO

import typer

from worker import logs
from worker.cli.board import Board
from worker.cli.environment import load_settings, quiet_level
from worker.cli.listen import told_by
from worker.cli.task_files import label_of, read_task
from worker.cli.told import Told
from worker.messages import identify
from worker.settings import Settings

Ends = dict[str, Told]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds within which the broker has to answer.")]


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
    tasks: Annotated[list[Path], typer.Argument(metavar="TASK.json…", help="Task messages; - reads one from stdin.")],
    watch: Annotated[bool, typer.Option("--watch", help="Follow the tasks until all are over.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --watch: print the terminal events as JSON, one a line.")
    ] = False,
    task_id: Annotated[str, typer.Option(help="The TaskId of the only task. Default: a new one for each.")] = "",
    timeout: Timeout = 10,
) -> None:
    """Publish tasks to the broker of FRAME_CAPTURE_AMQP__URL.

    Prints each TaskId. With --watch it shows the progress on the standard error, and a summary of each task, or its
    terminal event, on the standard output.

    Exit status: 0 published (with --watch: all succeeded), 1 broker not usable or a task failed, 2 unusable message,
    file or settings.
    """
    if task_id and len(tasks) > 1:
        raise typer.BadParameter(f"one id is for one task; got {len(tasks)} tasks", param_hint="--task-id")
    settings = load_settings()
    logs.configure(settings.log_format, quiet_level(settings, "critical"))
    submissions = [
        Submission(task_id or f"MediaConvert-{uuid.uuid4()}", label_of(path), read_task(path)) for path in tasks
    ]
    told = asyncio.run(_submit(settings, submissions, timeout, watch=watch, to=sys.stderr if as_json else sys.stdout))
    for each in submissions if watch else []:
        _print_end(each, told[each.task_id], as_json=as_json)
    raise typer.Exit(max((each.exit_status for each in told.values()), default=0))


async def _submit(settings: Settings, tasks: list[Submission], deadline_s: float, *, watch: bool, to: TextIO) -> Ends:
    """Publish all; with `watch` return how each ended, by its id. The ids are printed to `to`."""
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
        try:
            async with aclosing(told_by(events, lambda: broker.connected)) as told_events:
                return await _follow(tasks, told_events)
        except asyncio.CancelledError:
            print("no longer following; what was submitted is done all the same", file=sys.stderr)
            raise


async def _follow(tasks: list[Submission], events: AsyncIterator[Told]) -> Ends:
    """Show the progress of the tasks until all are over."""
    ends: Ends = {}
    labels = {each.task_id: each.label for each in tasks}
    with Board() as board:
        for task_id, label in labels.items():
            board.add(task_id, label)
        async for told in events:
            if told.task_id in labels and told.task_id not in ends:
                board.show(told)
                if told.terminal:
                    ends[told.task_id] = told
            if len(ends) == len(labels):
                break
    return ends


def _print_end(task: Submission, told: Told, *, as_json: bool) -> None:
    if as_json:
        print(told.body.decode())
    else:
        print("\n  ".join([f"{task.label}: {told.headline}", *told.notes()]))
