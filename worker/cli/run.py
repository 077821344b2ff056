"""`frame-capture run`: one task with no broker."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from worker import logs
from worker.cli.board import board
from worker.cli.environment import load_settings, quiet_level, require_root
from worker.cli.task_files import label_of, read_task
from worker.cli.told import Told, read_event
from worker.settings import Settings


def run(
    task: Annotated[Path, typer.Argument(metavar="TASK.json", help="The task message; - reads it from stdin.")],
    root: Annotated[
        Path | None, typer.Option(help="Use this directory of buckets, whatever the settings say.", file_okay=False)
    ] = None,
) -> None:
    """Do one task here and now, without a broker.

    There is no second attempt. The terminal event goes to the standard output as JSON, everything else to the
    standard error.

    Exit status: 0 succeeded, 1 failed, 2 unusable message, file or settings.
    """
    settings = load_settings()
    if root is not None:
        local = settings.store.model_copy(update={"kind": "local", "root": root})
        settings = settings.model_copy(update={"store": local})
    body = read_task(task)
    require_root(settings)
    try:
        told = _do(settings, body, label_of(task))
    except KeyboardInterrupt:
        print("interrupted; images that were stored already stay", file=sys.stderr)
        raise
    print("\n  ".join([told.headline, *told.notes()]), file=sys.stderr)
    print(told.body.decode())
    raise typer.Exit(told.exit_status)


def _do(settings: Settings, body: bytes, label: str) -> Told:
    """Do the task while its progress is shown; returns its terminal event."""
    from worker import lone  # most of all imports, which --help does not wait for

    heard: list[Told] = []
    with board() as shown:
        # While bars are drawn, sys.stderr is what keeps other lines above them.
        logs.configure(settings.log_format, quiet_level(settings, "error"), sys.stderr)

        def tell(_routing_key: str, event: bytes) -> None:
            told = read_event(event)
            if not heard:
                shown.add(told.task_id, label)
            heard.append(told)
            shown.show(told)

        asyncio.run(lone.run_task(settings, body, tell))
    return heard[-1]
