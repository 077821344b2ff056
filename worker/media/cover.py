"""Embedded pictures: telling them from real video, and choosing and decoding the cover of an audio file.

Knows FFmpeg's streams and their tags; knows nothing of times and of how the picture will look.
"""

from pathlib import PurePath
from typing import Final

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from worker.errors import Code, TaskError
from worker.media.plan import Limits

_NOT_VIDEO: Final = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def is_real_video(stream: Stream) -> bool:
    """Tell whether a stream is a video to capture from, rather than a cover, thumbnails or a still picture."""
    return stream.type == "video" and not stream.disposition & _NOT_VIDEO


def find_cover(container: InputContainer, max_pixels: int = Limits().max_pixels) -> VideoFrame | None:
    """Decode the embedded picture of a freshly opened file, the front cover rather than the first; None: it has none.

    A picture that cannot be decoded, or has more than `max_pixels`, gives way to the next. Raises `CorruptMedia`
    when that is true of all of them. Leaves the container's other streams discarded.
    """
    pictures = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
    packets = _packets(container, pictures)
    failures: list[str] = []
    for picture in sorted(pictures, key=lambda picture: (not _is_front(picture), picture.index)):
        try:
            return _decode(picture, packets.get(picture.index), max_pixels)
        except av.FFmpegError as error:
            failures.append(f"stream {picture.index}: {error.strerror}")
    if failures:
        raise TaskError(Code.CORRUPT_MEDIA, f"no embedded picture can be decoded ({'; '.join(failures)})")
    return None


def _is_front(stream: Stream) -> bool:
    """Read the picture's kind: a comment in ID3, FLAC, Ogg and WMA, a key in APE, a file name in Matroska.

    MP4 has no kinds: there the first picture is the cover.
    """
    tags = stream.metadata
    named_cover = PurePath(tags.get("filename", "")).stem.lower() == "cover"
    return tags.get("comment") == "Cover (front)" or "Cover Art (Front)" in tags or named_cover


def _packets(container: InputContainer, pictures: list[VideoStream]) -> "dict[int, Packet[Stream]]":
    """Take one packet of each picture. FFmpeg queues them ahead of all others, so little is read."""
    packets: dict[int, Packet[Stream]] = {}
    if not pictures:
        return packets
    for stream in container.streams:
        stream.discard = Discard.default if stream in pictures else Discard.all
    for packet in container.demux(*pictures):
        if packet.size:
            packets.setdefault(packet.stream.index, packet)
        if len(packets) == len(pictures):
            break
    return packets


def _decode(picture: VideoStream, packet: "Packet[Stream] | None", max_pixels: int) -> VideoFrame:
    """Decode a packet that is one picture. Raises `av.FFmpegError` where that fails."""
    context = picture.codec_context
    if packet is None or context is None:
        raise av.InvalidDataError(0, "no data" if packet is None else "no decoder for its format")
    context.thread_count = 1
    context.options = {"max_pixels": str(max_pixels)}
    frames = [*context.decode(packet), *context.decode(None)]
    if not frames:
        raise av.InvalidDataError(0, "no picture in its data")
    return frames[0]
