"""`frame-capture topology`: the exchanges and queues on the broker."""

import asyncio
import sys
from typing import Annotated

import typer

from worker import logs
from worker.cli.environment import load_settings, quiet_level
from worker.cli.submit import Timeout


def topology(
    check: Annotated[bool, typer.Option("--check", help="Make nothing, only look.")] = False,
    timeout: Timeout = 10,
) -> None:
    """Make and check the exchanges and queues on the broker.

    They are those that a worker with these settings needs.

    Exit status: 0 all there, 1 something is missing or different or the broker is not usable, 2 wrong settings.
    """
    from worker import service

    settings = load_settings()
    logs.configure(settings.log_format, quiet_level(settings, "critical"))
    names, findings = asyncio.run(service.survey_topology(settings, timeout, declare=not check))
    if findings:
        print("\n".join(findings), file=sys.stderr)
        raise typer.Exit(1)
    print("\n".join(names))
