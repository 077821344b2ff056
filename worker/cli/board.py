"""How far tasks are: a progress bar each on a terminal, otherwise plain lines. Always on the standard error."""

import sys
from types import TracebackType
from typing import Protocol, Self

from worker.cli.told import Told


class Board(Protocol):
    """Shows tasks by their ids. A context manager: it shows them while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add(self, task_id: str, label: str) -> None:
        """Show a task that nothing is known of yet."""

    def show(self, told: Told) -> None:
        """Show how far a task is."""


def board() -> Board:
    """Make what suits the standard error."""
    if not sys.stderr.isatty():
        return Lines()
    from worker.cli.bars import Bars

    return Bars()


class Lines:
    """Prints a line for each change. A task's end is left to the caller, who tells more of it."""

    def __init__(self) -> None:
        self._labels: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def add(self, task_id: str, label: str) -> None:
        """Note what to call a task."""
        self._labels[task_id] = label

    def show(self, told: Told) -> None:
        """Print how far a task is."""
        if not told.terminal:
            print(f"{self._labels[told.task_id]}: {told.headline}", file=sys.stderr, flush=True)
