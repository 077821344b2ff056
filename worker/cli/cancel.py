"""`frame-capture cancel`: ends a task that runs, waits in a queue or waits to be tried again."""

import asyncio
from typing import Annotated

import typer

from worker import logs
from worker.cli.environment import load_settings, quiet_level
from worker.cli.submit import Timeout
from worker.messages.control import cancel_message
from worker.settings import Settings


def cancel(
    task_id: Annotated[str, typer.Argument(metavar="TASKID", help="As `submit` printed it, and all events tell it.")],
    timeout: Timeout = 10,
) -> None:
    """End a task: tell all workers that serve this namespace to cancel it.

    One that runs is stopped within a second; one that waits ends when its turn comes. It is told by an event Canceled.
    A task that is over already stays as it ended.

    Exit status: 0 the workers were told, 1 no worker listens or broker not usable, 2 wrong settings or no TASKID.
    """
    try:
        body = cancel_message(task_id)
    except ValueError as error:
        raise typer.BadParameter("a TaskId has 1 to 255 characters", param_hint="TASKID") from error
    settings = load_settings()
    logs.configure(settings.log_format, quiet_level(settings, "critical"))
    asyncio.run(_cancel(settings, body, timeout))
    print(f"{task_id}  told the workers to cancel it")


async def _cancel(settings: Settings, body: bytes, deadline_s: float) -> None:
    from worker import service

    async with service.open_broker(settings, deadline_s, prepare=False) as broker:
        await broker.command(body)
