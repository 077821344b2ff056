"""What a capture itself costs, in a process that is warm: `python -m bench.warm JOBS.json REPEATS`.

Runs as a process of its own, as a decoder does, and does what a decoder does, without the socket: it reads the plan's
frames from a file and encodes them. Prints one JSON object per line: a job's costs and facts.
"""

import io
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import Any, BinaryIO, cast

from bench.jobs import read_task
from worker.media.capture import capture
from worker.media.plan import CapturePlan, Image, Report


@dataclass(frozen=True, slots=True)
class Cost:
    """One job's cost: the median CPU seconds of a run, and what does not change from run to run."""

    cpu_s: float
    frames_decoded: int
    bytes_read: int
    images: int
    image_bytes: int


class Counted(io.RawIOBase):
    """A file without a name, as a decoder has, that counts what is read of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.count = 0
        self._file = path.open("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any, /) -> int:
        size = self._file.readinto(buffer)
        self.count += size
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def measure(message: dict[str, Any], path: Path, repeats: int) -> Cost:
    """Run a task's capture once to warm up and then `repeats` times."""
    task = read_task(message)
    plan = CapturePlan(tuple(entry.plan for entry in task.entries), task.source.start_s, task.source.duration_s)
    spent = []
    for _ in range(1 + repeats):
        with Counted(path) as file:
            started = process_time()
            events = list(capture(cast("BinaryIO", file), plan))
            spent.append(process_time() - started)
            bytes_read = file.count
    report = events[-1]
    assert isinstance(report, Report), report
    if failed := [entry.error_message for entry in report.entries if entry.error_code]:
        raise RuntimeError(f"{path.name}: {failed}")
    images = [event for event in events if isinstance(event, Image)]
    image_bytes = sum(len(image.data) for image in images)
    return Cost(statistics.median(spent[1:]), report.frames_decoded, bytes_read, len(images), image_bytes)


def main() -> None:
    """Measure the jobs that a file lists, each a message and a media file."""
    jobs, repeats = json.loads(Path(sys.argv[1]).read_text("utf-8")), int(sys.argv[2])
    for message, path in jobs:
        print(json.dumps(asdict(measure(message, Path(path), repeats))))


if __name__ == "__main__":
    main()
