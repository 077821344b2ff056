"""How many bytes a file promises: to tell one that ends early from one that is whole. Knows a few headers' layouts."""

from typing import BinaryIO

from av.video.stream import VideoStream

HEAD_BYTES = 4096
UNKNOWN_SIZE = (1 << 56) - 1  # Matroska's, of a live recording
SEGMENT_ID = b"\x18\x53\x80\x67"


def is_truncated(file: BinaryIO, format_name: str, stream: VideoStream) -> bool:
    """Tell whether the index of an MP4, or the header of a Matroska file or AVI, promises more bytes than `file` has.

    Leaves the position of `file` as it was. Formats that promise nothing are never truncated.
    """
    if format_name not in {"mov", "matroska", "avi"}:
        return False
    position = file.tell()
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(HEAD_BYTES) if format_name != "mov" else b""
    file.seek(position)
    if format_name == "mov":
        return _samples_end(stream) > size
    return (_segment_end(head) if format_name == "matroska" else _riff_end(head)) > size


def _samples_end(stream: VideoStream) -> int:
    """Where the last sample of an MP4 ends; of a fragmented one, the last that is known."""
    entries = stream.index_entries
    if not len(entries):
        return 0
    last = entries[len(entries) - 1]
    return last.pos + last.size


def _segment_end(head: bytes) -> int:
    """Where the Segment element of a Matroska file ends (RFC 8794, section 4)."""
    at = head.find(SEGMENT_ID) + len(SEGMENT_ID)
    if at < len(SEGMENT_ID) or at >= len(head) or not head[at]:
        return 0
    length = 9 - head[at].bit_length()
    size = int.from_bytes(head[at : at + length]) & ((1 << 7 * length) - 1)
    return 0 if size in {(1 << 7 * length) - 1, UNKNOWN_SIZE} else at + length + size


def _riff_end(head: bytes) -> int:
    return 8 + int.from_bytes(head[4:8], "little")
