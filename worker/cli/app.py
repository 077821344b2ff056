"""Puts the commands together, and turns the errors that a user can mend into one line and an exit status."""

import sys
from typing import Annotated, NoReturn

import typer

from worker import __version__
from worker.cli.cancel import cancel
from worker.cli.dead import dead
from worker.cli.environment import UnusableSettingsError
from worker.cli.run import run
from worker.cli.schemas import schemas
from worker.cli.serve import serve
from worker.cli.submit import submit
from worker.cli.task_files import UnusableFileError
from worker.cli.topology import topology
from worker.cli.watch import watch
from worker.errors import TaskError
from worker.ports import BrokerLostError

app = typer.Typer(
    name="frame-capture",
    help="Captures exact frames of videos: a worker for RabbitMQ and S3-compatible storage.",
    epilog="Settings come from the environment, FRAME_CAPTURE_…: docs/settings.md lists them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (serve, run, submit, watch, cancel, topology, schemas):
    app.command()(command)
app.add_typer(dead, name="dead")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"frame-capture {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def main() -> NoReturn:
    """Run the command line."""
    try:
        app(prog_name="frame-capture")
    except UnusableSettingsError as error:
        status, lines = 2, error.lines
    except UnusableFileError as error:
        status, lines = 2, [str(error)]
    except (BrokerLostError, TaskError) as error:
        status, lines = 1, [str(error)]
    else:
        sys.exit(0)
    for line in lines:
        print(f"frame-capture: {line}", file=sys.stderr)
    sys.exit(status)
