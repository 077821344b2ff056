"""`frame-capture schemas`: the messages' JSON Schemas."""

from pathlib import Path
from typing import Annotated

import typer

from worker.messages.schema import write_schemas


def schemas(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write them.")] = Path("schemas"),
) -> None:
    """Write the JSON Schemas of task, event and result, and an example of each kind of task."""
    for path in write_schemas(directory):
        print(path)
