"""Whether a Matroska file's cues list every keyframe, by what wrote the file, since nothing in the format says so.

FFmpeg's muxer ("Lavf") gives each keyframe of a video track a cue, or writes no cues at all; so do the files of its
versions 52 to 62 that the tests hold. Of other muxers some thin them out. Reads only the elements at the file's head.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final

SEGMENT: Final = 0x18538067
SEEK_HEAD: Final = 0x114D9B74
SEEK: Final = 0x4DBB
SEEK_ID: Final = 0x53AB
SEEK_POSITION: Final = 0x53AC
INFO: Final = 0x1549A966
MUXING_APP: Final = 0x4D80
CLUSTER: Final = 0x1F43B675
CUES: Final = b"\x1c\x53\xbb\x6b"

COMPLETE: Final = b"Lavf"
HEAD_BYTES: Final = 16 * 1024

Element = tuple[int, bytes, int]
"""An element's id, its content as far as it was read, and where that begins."""


def are_complete(file: BinaryIO) -> bool:
    """Tell whether there are cues, and all keyframes of video have one. Moves the position of `file`."""
    file.seek(0)
    head = _read(file, HEAD_BYTES)
    segment = next((each for each in _elements(head, 0) if each[0] == SEGMENT), None)
    if segment is None:
        return False
    _, content, start = segment
    written, cues_at = b"", None
    for kind, data, _ in _elements(content, start):
        if kind == INFO:
            written = next((value for each, value, _ in _elements(data, 0) if each == MUXING_APP), b"")
        elif kind == SEEK_HEAD:
            cues_at = _position(data)
        elif kind == CLUSTER:
            break
    if cues_at is None or not written.startswith(COMPLETE):
        return False
    file.seek(start + cues_at)
    return _read(file, len(CUES)) == CUES


def _position(seek_head: bytes) -> int | None:
    """Tell where the cues are, from the segment's content on."""
    for kind, seek, _ in _elements(seek_head, 0):
        entry = {each: value for each, value, _ in _elements(seek, 0)} if kind == SEEK else {}
        if entry.get(SEEK_ID) == CUES and SEEK_POSITION in entry:
            return int.from_bytes(entry[SEEK_POSITION])
    return None


def _elements(data: bytes, start: int) -> Iterator[Element]:
    """Split data that begins at `start` of the file into its elements (RFC 8794); broken ones end it."""
    at = 0
    while at < len(data):
        kind_end = at + _length(data[at])
        if kind_end >= len(data):
            return
        size_length = _length(data[kind_end])
        content = kind_end + size_length
        size = int.from_bytes(data[kind_end:content]) & ((1 << 7 * size_length) - 1)
        yield int.from_bytes(data[at:kind_end]), data[content : content + size], start + content
        at = content + size


def _length(first: int) -> int:
    """The length in bytes of a variable-size number, which the zeros before its first set bit tell."""
    return 9 - first.bit_length()


def _read(file: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
