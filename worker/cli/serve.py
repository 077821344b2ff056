"""`frame-capture serve`: the worker."""

import asyncio

import typer

from worker import logs
from worker.cli.environment import load_settings, require_root


def serve() -> None:
    """Work: take tasks from RabbitMQ until told to stop.

    SIGTERM or SIGINT ends it: running tasks get FRAME_CAPTURE_DRAIN_TIMEOUT_S to finish; a second one ends it at once.

    Settings come from the environment: FRAME_CAPTURE_AMQP__URL, FRAME_CAPTURE_STORE__KIND and so on.
    docs/settings.md lists all of them with their defaults. /livez, /readyz and /metrics are on
    FRAME_CAPTURE_HTTP__PORT. Logs go to the standard error, as JSON unless that is a terminal.

    Exit status: 0 drained, 1 broker or store not usable in time, 2 wrong settings, 143 told twice to stop.
    """
    from worker import service

    settings = load_settings()
    require_root(settings)
    logs.configure(settings.log_format, settings.log_level)
    raise typer.Exit(asyncio.run(service.serve(settings)))
