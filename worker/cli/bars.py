"""How far tasks are, on a terminal: a progress bar each. Its library takes long to import: see `board`."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from worker.cli.told import Told

COLOURS = {"Succeeded": "green", "Failed": "red", "Canceled": "yellow", "Retrying": "yellow"}


class Bars:
    """Shows tasks by their ids. A context manager: bars are drawn while it is entered."""

    def __init__(self) -> None:
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("[{task.fields[colour]}]{task.fields[status]}"),
            console=Console(stderr=True, highlight=False, soft_wrap=True),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def add(self, task_id: str, label: str) -> None:
        """Show a task that nothing is known of yet."""
        self._bars[task_id] = self._progress.add_task(label, total=100, status="waiting", colour="default")

    def show(self, told: Told) -> None:
        """Show how far a task is."""
        succeeded = told.status == "Succeeded"
        images = f" ({told.count} image{'' if told.count == 1 else 's'})"
        status = told.status + (images if succeeded or (told.terminal and told.count) else "")
        colour = COLOURS.get(told.status, "default")
        bar = self._bars[told.task_id]
        completed = told.percent if succeeded or not told.terminal else None  # a failure stays where it was
        self._progress.update(bar, completed=completed, status=status, colour=colour)
        if told.terminal:
            self._progress.stop_task(bar)
