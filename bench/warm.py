"""What a capture itself costs in a process that is warm: `python -m bench.warm TASK.json VIDEO FOLDER`.

Runs as a process of its own, as a decoder does, and does what a decoder does, without the socket: it reads the plan's
frames from a file and encodes them. Captures one frame first, so that all is imported and made; then prints what the
task's capture cost as one JSON object, and writes its images into the folder.
"""

import io
import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, BinaryIO, cast

from bench.jobs import read_task
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Image, Rendition, Report, Selection


@dataclass(frozen=True, slots=True)
class Captured:
    """A capture's cost and facts; `pts` are its images'."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    frames_decoded: int
    bytes_read: int
    pts: list[int]
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


def measure(plan: CapturePlan, path: Path, folder: Path) -> Captured:
    """Run a capture; each image is written and let go when it comes, as a decoder does."""
    pts, image_bytes, report = [], 0, None
    with Counted(path) as file:
        started_cpu, started = process_time(), perf_counter()
        for event in capture(cast("BinaryIO", file), plan):
            if isinstance(event, Image):
                (folder / f"{len(pts):05d}.jpg").write_bytes(event.data)
                pts.append(event.source_pts)
                image_bytes += len(event.data)
            elif isinstance(event, Report):
                report = event
        cpu_s, wall_s = process_time() - started_cpu, perf_counter() - started
    assert report is not None
    if failed := [entry.error_message for entry in report.entries if entry.error_code]:
        raise RuntimeError(f"{path.name}: {failed}")
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Captured(cpu_s, wall_s, peak_bytes, report.frames_decoded, file.count, pts, image_bytes)


def main() -> None:
    """Warm up and measure."""
    message, path, folder = json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2]), Path(sys.argv[3])
    entries = tuple(entry.plan for entry in read_task(message).entries)
    measure(CapturePlan((EntryPlan(Selection(number=1), Rendition()),)), path, folder)
    print(json.dumps(asdict(measure(CapturePlan(entries), path, folder))))


if __name__ == "__main__":
    main()
