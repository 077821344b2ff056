"""Bytes and requests that a capture takes from the store, beside the bytes of the index and of the needed pictures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import av

from bench.minimum import Coded, needed_bytes, read
from worker.adapters.files import LocalStore
from worker.adapters.hls import open_source
from worker.adapters.pool import DecoderPool
from worker.media.plan import CapturePlan, EntryPlan, Rendition, Report, Selection
from worker.settings import Pool
from worker.task import Location

SLACK = 1.3
SPARE_BYTES = 2**20
SEGMENT, CLUSTER, CUES = 0x18538067, 0x1F43B675, 0x1C53BB6B
H264_FILLER = 12
KEY_BYTES, REFERENCED_BYTES, OTHER_BYTES = 600_000, 120_000, 24_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, in how many requests, and what had to be: the container's index and the pictures' packets."""

    requests: int
    bytes_read: int
    index_bytes: int
    sample_bytes: int

    @property
    def allowed_bytes(self) -> int:
        return int(SLACK * (self.index_bytes + self.sample_bytes + SPARE_BYTES))


async def measure(pool: DecoderPool, path: Path, coded: Coded, selections: Sequence[Selection]) -> Reading:
    """Capture through a decoder process, the cache and the local store, whose reads are counted."""
    sizes = []

    def count(operation: str, _seconds: float, bytes_in: int, _bytes_out: int, _code: str) -> None:
        if operation == "read":
            sizes.append(bytes_in)

    place = Location("file", path.parent.name, path.name)
    store = LocalStore(path.parent.parent, on_request=count)
    plan = CapturePlan(tuple(EntryPlan(selection, Rendition(width=16, height=16)) for selection in selections))
    info = await store.stat(place)
    async with (
        open_source(store, place, info, cache_bytes=Pool().cache_bytes, max_bytes=info.size) as source,
        aclosing(pool.capture(plan, source.content)) as events,
    ):
        *_, report = [event async for event in events]
    assert isinstance(report, Report), report
    if failed := [entry.error_message for entry in report.entries if entry.error_code]:
        raise RuntimeError(f"{path.name}: {failed}")
    return Reading(len(sizes), sum(sizes), index_bytes(path), needed_bytes(coded, selections))


def index_bytes(path: Path) -> int:
    """Add up everything in an MP4, MOV or Matroska file but its media data."""
    walk = _boxes(path) if path.suffix in (".mp4", ".mov") else _elements(path)
    return sum(size for name, size in walk if name not in ("mdat", "free", CLUSTER))


def _boxes(path: Path) -> Iterator[tuple[str, int]]:
    with path.open("rb") as file:
        while head := file.read(16):
            size = int.from_bytes(head[:4])
            if size == 1:
                size = int.from_bytes(head[8:])
            yield head[4:8].decode("latin-1"), size
            file.seek(size - len(head), 1)


def _elements(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the ids and sizes of the elements of the first level, and of those inside the segment."""
    with path.open("rb") as file:
        while first := file.read(1):
            kind = int.from_bytes(first + file.read(8 - first[0].bit_length()))
            head = file.read(1)
            length = 8 - head[0].bit_length()
            size = int.from_bytes(bytes([head[0] & (1 << (7 - length)) - 1]) + file.read(length))
            if kind != SEGMENT:
                yield kind, size + 12
                file.seek(size, 1)


def inflate(source: Path, target: Path, options: Mapping[str, str] | None = None) -> Path:
    """Remux H.264 with a filler unit in each packet, so that a small video makes a large file.

    Keyframes, referenced and other pictures get sizes in the proportion of real footage.
    """
    with av.open(source) as given, av.open(target, "w", options=dict(options or {})) as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        packets = (packet for packet in given.demux(stream) if packet.size)
        for packet, picture in zip(packets, read(source).pictures, strict=True):
            size = KEY_BYTES if picture.start else REFERENCED_BYTES if picture.referenced else OTHER_BYTES
            data = bytes(packet)
            filler = bytes([H264_FILLER]) + b"\xff" * (size - len(data)) + b"\x80"
            padded = av.Packet(data + len(filler).to_bytes(4) + filler)
            padded.pts, padded.dts, padded.duration = packet.pts, packet.dts, packet.duration
            padded.time_base, padded.is_keyframe, padded.stream = packet.time_base, packet.is_keyframe, copy
            made.mux(padded)
    return target
