"""What of a file is going to be read, told ahead to whoever fetches its bytes: hints, which change no result.

A file that wants to know has a method `expect`, which takes ranges (offset, size) in the order in which they will be
read. Knows where an MP4's index is before FFmpeg opens the file, and from the container's index where the packets for
a wanted time are. Whatever looks odd is left out: reading works without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import BinaryIO, TypeAlias

from av.index import IndexEntries
from av.video.stream import VideoStream

from worker.media.index import decode_delay

Range: TypeAlias = "tuple[int, int]"

MAX_BOXES = 16
MAX_INDEX_BYTES = 256 * 2**20
MAX_TAIL_BYTES = 4 * 2**20
BOX_BYTES = 16
"""The longest header of a box."""

READ_THROUGH_BYTES = 32 * 1024
"""FFmpeg jumps over no gap that is smaller."""

READ_THROUGH_S = Fraction(1, 2)
"""Wanted times that are nearer to one another are read through, without a seek."""

BLOCK_HEADER_BYTES = 512
"""What stands before a keyframe in its cluster, and more."""

KEYS_AHEAD = 32
_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"}


def expect_index(file: BinaryIO) -> None:
    """Announce where an MP4 file's index is. Leaves the position of `file` at its start."""
    expect = getattr(file, "expect", None)
    if expect is None:
        return
    size = file.seek(0, 2)
    ranges = list(_index_ranges(file, size))
    file.seek(0)
    if ranges:
        expect(ranges)


def _index_ranges(file: BinaryIO, size: int) -> Iterator[Range]:
    """Walk the boxes up to the index, or up to the media data and what follows it."""
    offset = 0
    for _ in range(MAX_BOXES):
        kind, length = _box(file, offset, size)
        if kind == b"moov" and length <= MAX_INDEX_BYTES:
            yield offset, length
        if kind not in _FIRST_BOXES or kind == b"moov":
            return
        offset += length
        if kind == b"mdat" and 0 < size - offset <= MAX_TAIL_BYTES:
            yield offset, size - offset
            return


def _box(file: BinaryIO, offset: int, size: int) -> tuple[bytes, int]:
    """Read the type and the length of the box at `offset`; no type where there is none of a plausible length."""
    file.seek(offset)
    head = file.read(BOX_BYTES)
    length, header_bytes = int.from_bytes(head[:4]), 8
    if length == 1:
        length, header_bytes = int.from_bytes(head[8:]), BOX_BYTES
    return (head[4:8], length) if header_bytes <= length <= size - offset else (b"", 0)


class Expected:
    """What was announced of the packets of one video stream, so that each is announced once."""

    def __init__(self, file: BinaryIO, stream: VideoStream, format_name: str) -> None:
        self._expect: Callable[[Sequence[Range]], None] | None = getattr(file, "expect", None)
        self._stream = stream
        self._format_name = format_name
        self._near = int(READ_THROUGH_S / (stream.time_base or 1))
        self._told = bytearray()  # by place in the index of an MP4: 1 for what was announced
        self._until: dict[int, int] = {}  # by keyframe of Matroska: where what was announced ends
        self._last = -1  # the last place announced
        self._last_threshold = 0
        self._keys: list[int] = []

    def times(self, thresholds: Sequence[int]) -> None:
        """Announce the packets from which the frames at ascending times (pts) are decoded."""
        # Not kept: with a bound method of its own it would be a cycle, and keep the stream's decoder and its pictures.
        find = {"mov": self._samples, "matroska": self._clusters}.get(self._format_name)
        if self._expect is None or find is None:
            return
        found = [one for threshold in thresholds for one in find(self._stream.index_entries, threshold)]
        self._tell(found)

    def keys(self, last: int, last_bytes: int) -> None:
        """Announce the next keyframes in the index behind the one at `last`, of `last_bytes`.

        Matroska's index does not tell how large they are: they are taken to be about as large as the last.
        """
        self._keys = [key for key in self._keys if key > last]
        if self._expect is None or len(self._keys) > KEYS_AHEAD // 2:
            return
        entries = self._stream.index_entries
        found = []
        at = self._keys[-1] if self._keys else last
        while len(self._keys) < KEYS_AHEAD and (place := entries.search_timestamp(at + 1, backward=False)) >= 0:
            entry = entries[place]
            at = entry.timestamp
            found.append((entry.pos, entry.size or last_bytes + last_bytes // 16 + BLOCK_HEADER_BYTES))
            self._keys.append(at)
        self._tell(found)

    def rest(self, place: int) -> None:
        """Announce all packets of an MP4 file from one on."""
        entries = self._stream.index_entries
        if self._expect is not None:
            self._tell([(entry.pos, entry.size) for entry in (entries[at] for at in range(place, len(entries)))])

    def _tell(self, ranges: Iterable[Range]) -> None:
        merged: list[Range] = []
        for offset, size in ranges:
            if offset < 0 or size <= 0:
                continue
            if merged and 0 <= offset - merged[-1][0] <= merged[-1][1] + READ_THROUGH_BYTES:
                start, length = merged[-1]
                merged[-1] = (start, max(length, offset + size - start))
            else:
                merged.append((offset, size))
        if merged and self._expect is not None:
            self._expect(merged)

    def _samples(self, entries: IndexEntries, threshold: int) -> Iterator[Range]:
        """Give the samples of an MP4 from the keyframe for `threshold` to the first one that is decoded after it."""
        key = entries.search_timestamp(threshold)
        if key < 0:
            return
        # A key picture that is shown only after `threshold` needs the group before, up to itself.
        if key and entries[key].timestamp + decode_delay(self._stream) > threshold:
            key = max(entries.search_timestamp(entries[key].timestamp - 1), 0)
        end = entries.search_timestamp(threshold + 1, backward=False, any_frame=True)
        end = len(entries) if end < 0 else end + 1  # its time tells the demuxer that the frame is complete
        first = key
        if 0 <= threshold - self._last_threshold < self._near:
            first = min(key, self._last + 1)
        for place in self._untold(entries, first, end):
            entry = entries[place]
            yield entry.pos, entry.size
        if end > self._last:
            self._last, self._last_threshold = end - 1, threshold

    def _untold(self, entries: IndexEntries, first: int, end: int) -> Iterator[int]:
        """Give the places in the index that were not given before, from `first` to before `end`."""
        self._told.extend(bytes(max(len(entries) - len(self._told), 0)))
        while (first := self._told.find(0, first, end)) >= 0:
            self._told[first] = 1
            yield first

    def _clusters(self, entries: IndexEntries, threshold: int) -> Iterator[Range]:
        """Give the part of a Matroska file from the keyframe for `threshold` to about there.

        The index has only keyframes, which are taken for an eighth of what lies between, and the rest to be spread
        evenly.
        """
        key = entries.search_timestamp(threshold)
        if not 0 <= key < len(entries) - 1:
            return
        (start, start_pts), (end, end_pts) = ((entries[at].pos, entries[at].timestamp) for at in (key, key + 1))
        if not 0 <= start < end or not start_pts <= threshold < end_pts:
            return
        until = end - (end - start) * (end_pts - threshold) * 7 // (8 * (end_pts - start_pts))
        first = self._until.get(key, start)
        self._until[key] = max(first, until)
        yield first, until - first
