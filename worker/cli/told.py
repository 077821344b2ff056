"""What an event says, for people: read from either envelope, with nothing in it that a terminal would obey."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from worker.messages.event import TERMINAL


@dataclass(frozen=True, slots=True)
class Told:
    """One event. `content` is IMM's content object; `body` the event as it came."""

    content: dict[str, Any]
    body: bytes

    @property
    def task_id(self) -> str:
        """The task it is about."""
        return plain(self.content["TaskId"])

    @property
    def project(self) -> str:
        """The task's project."""
        return plain(self.content["ProjectName"])

    @property
    def status(self) -> str:
        """`Running`, `Retrying`, `Succeeded`, `Failed` or `Canceled`."""
        return plain(self.content["Status"])

    @property
    def terminal(self) -> bool:
        """Whether the task is over."""
        return self.status in TERMINAL

    @property
    def percent(self) -> int:
        """How much is done."""
        return 100 if self.terminal else int(self.content.get("Progress") or 0)

    @property
    def count(self) -> int:
        """How many images were stored."""
        return sum(int(entry.get("Count") or 0) for _, entry in self._entries())

    @property
    def exit_status(self) -> int:
        """0: succeeded; 1: not; 2: the message was unusable."""
        if self.status == "Succeeded":
            return 0
        return 2 if self.content.get("Problems") else 1

    @property
    def headline(self) -> str:
        """The status in a few words."""
        images = f"{self.count} image{'' if self.count == 1 else 's'}"
        match self.status:
            case "Succeeded":
                return f"Succeeded: {images}"
            case "Running":
                return f"Running {self.percent} %"
            case "Retrying":
                wait = f"Retrying in about {self.content.get('RetryAfter')} s"
                return f"{wait}, {_error(self.content)}"
        return f"{self.status}: {_error(self.content)}" + (f" ({images} stored)" if self.count else "")

    def notes(self) -> list[str]:
        """Tell of everything wrong with the message, of each failed entry and of each warning, by its path."""
        problems = [f"{plain(each['Path'])}: {_error(each)}" for each in self.content.get("Problems") or []]
        if len(problems) == 1:
            problems = []  # the headline tells it
        failed = [f"{path}: {_error(entry)}" for path, entry in self._entries() if entry.get("Code")]
        warnings = [
            f"{path}: warning {_error(each)}" for path, entry in self._entries() for each in entry.get("Warnings") or []
        ]
        return problems + failed + warnings

    def _entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for t, target in enumerate(self.content.get("Targets") or []):
            for s, entry in enumerate(target["Image"]["Snapshots"]):
                yield f"$.Targets[{t}].Image.Snapshots[{s}]", entry


def read_event(body: bytes) -> Told:
    """Read an event in either envelope. Raises `ValueError` for what is none."""
    event = json.loads(body)
    try:
        told = Told(event["data"] if "data" in event else json.loads(event["content"]), body)
        _ = told.task_id, told.project, told.headline, told.notes()
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no event of a worker: {body[:200]!r}") from error
    return told


def _error(content: dict[str, Any]) -> str:
    return plain(f"{content.get('Code')}: {content.get('Message')}")


def plain(text: str) -> str:
    """Leave out what a terminal would obey."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
