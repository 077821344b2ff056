"""Files that are named on the command line."""

import sys
from pathlib import Path

STDIN = Path("-")


class UnusableFileError(Exception):
    """A file or directory that was named cannot be read, or written."""


def read_task(path: Path) -> bytes:
    """Read a message; `-` is the standard input. Raises `UnusableFileError`."""
    try:
        return sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as error:
        raise UnusableFileError(f"cannot read the task message {path}: {error.strerror}") from error


def label_of(path: Path) -> str:
    """Give the short name of a message for people."""
    return "stdin" if path == STDIN else path.name.removesuffix(".json").removesuffix(".task")
