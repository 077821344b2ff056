"""What a row of the table of bad input is: the input, and the exact answer that a user gets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Bad:
    """A message, and what is told of it: `code`, a part of the text, and the paths of all that is wrong.

    Without `paths` the message is a valid task, and the code that of the task.
    """

    body: dict[str, Any] | bytes
    code: str = "InvalidArgument"
    says: str = ""
    paths: tuple[str, ...] = ()
    project: str = "demo"


@dataclass(frozen=True)
class BadFile:
    """A source, or what makes it, and what a capture from it ends with, with how many images; `warnings` where it

    succeeds.
    """

    data: bytes | Callable[[], bytes]
    code: str = ""
    says: str = ""
    snapshot: dict[str, Any] = field(default_factory=lambda: {"Number": 1})
    count: int = 0
    warnings: tuple[str, ...] = ()
