"""What is measured: the example tasks, each on a made sample and, where there is one, on a real file."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devkit.media import counter_video, cover_mp3
from worker.media.plan import EntryPlan
from worker.messages import parse_task
from worker.messages.examples import EXAMPLE_TASKS
from worker.settings import LimitSettings
from worker.task import Location, Task

SAMPLE_S = 60
REAL = Path(__file__).parents[2] / "shared/media/footage/bbb_480p_30s.mp4"
REAL_S = 30


@dataclass(frozen=True, slots=True)
class Job:
    """One example task on one file, which lasts `duration_s` seconds."""

    name: str
    message: dict[str, Any]
    file: Path
    duration_s: int

    @property
    def task(self) -> Task:
        """The task as the worker reads it."""
        return read_task(self.message)

    @property
    def entry(self) -> EntryPlan:
        """The one entry that each example has."""
        (entry,) = self.task.entries
        return entry.plan

    @property
    def location(self) -> Location:
        """Where the message says that the file is."""
        return self.task.source.location

    @property
    def audio(self) -> bool:
        """Whether it is the cover of a music file that is wanted."""
        return self.file.suffix == ".mp3"


def read_task(message: dict[str, Any]) -> Task:
    """Read a task message as the worker does."""
    body = json.dumps(message).encode()
    now = datetime.now(UTC)
    return parse_task(body, message_id=None, timestamp=now, headers={}, limits=LimitSettings(), received_at=now)


def sample_jobs(home: Path) -> list[Job]:
    """Make the sample media below `home`, as the demo does; give all eight tasks on them."""
    video, song = home / "sample.mp4", home / "song.mp3"
    counter_video(video, width=1280, height=720, fps=25, seconds=SAMPLE_S)
    cover_mp3(song)
    return [*_jobs(video, SAMPLE_S, ".mp4"), *_jobs(song, SAMPLE_S, ".mp3")]


def real_jobs() -> list[Job]:
    """Give the seven video tasks on a real film clip of 854x480; none where the shared media are not at hand."""
    return _jobs(REAL, REAL_S, ".mp4") if REAL.exists() else []


def _jobs(file: Path, duration_s: int, suffix: str) -> list[Job]:
    return [
        Job(name, message, file, duration_s)
        for name, message in EXAMPLE_TASKS.items()
        if message["Sources"][0]["URI"].endswith(suffix)
    ]
