"""`frame-capture schemas`: the messages' JSON Schemas."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.task_files import UnusableFileError


def schemas(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write them.")] = Path("schemas"),
) -> None:
    """Write the JSON Schemas of the messages.

    They are those of task, event and result, with an example of each kind of task. Files that are there are replaced.

    Exit status: 0 written, 2 the directory cannot be written.
    """
    from worker.messages.schema import write_schemas

    try:
        paths = write_schemas(directory)
    except OSError as error:
        raise UnusableFileError(f"cannot write the schemas to {directory}: {error.strerror}") from error
    for path in paths:
        print(path)
