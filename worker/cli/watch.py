"""`frame-capture watch`: events as they come."""

import asyncio
import sys
from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import typer

from worker import logs
from worker.cli.environment import load_settings, quiet_level
from worker.cli.listen import told_by
from worker.cli.submit import Timeout
from worker.cli.told import Told
from worker.settings import Settings


def watch(
    project: Annotated[str, typer.Option(help="Only of this project.", metavar="P")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the events as they are, one a line.")] = False,
    timeout: Timeout = 10,
) -> None:
    """Show the events of all tasks as they come, until Ctrl-C.

    Exit status: 0 ended by Ctrl-C, 1 broker not usable, 2 wrong settings.
    """
    settings = load_settings()
    logs.configure(settings.log_format, quiet_level(settings, "critical"))
    try:
        asyncio.run(_watch(settings, f"*.{project}.*" if project else "#", timeout, as_json=as_json))
    except KeyboardInterrupt:
        print(file=sys.stderr)  # after the terminal's ^C


async def _watch(settings: Settings, pattern: str, deadline_s: float, *, as_json: bool) -> None:
    from worker import service

    async with (
        service.open_broker(settings, deadline_s) as broker,
        broker.events(pattern) as events,
        aclosing(told_by(events, lambda: broker.connected)) as told_events,
    ):
        print(f"listening to {broker.topology.events} for {pattern}; Ctrl-C ends it", file=sys.stderr, flush=True)
        async for told in told_events:
            print(told.body.decode() if as_json else _line(told), flush=True)


def _line(told: Told) -> str:
    first = f"{datetime.now().astimezone():%H:%M:%S}  {told.project}  {told.task_id}  {told.headline}"
    return "\n  ".join([first, *(told.notes() if told.terminal else [])])
