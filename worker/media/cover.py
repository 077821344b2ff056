"""Embedded pictures: telling them from real video, and choosing and decoding the cover of an audio file.

Knows FFmpeg's streams and their tags; knows nothing of times and of how the picture will look.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

import av
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from worker.errors import Code, TaskError, over_limit
from worker.media.codecs import allowed_decoders, whitelist
from worker.media.opening import is_too_large
from worker.media.plan import Limits

_NOT_VIDEO: Final = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_DECODERS: Final = {b"\xff\xd8\xff": "mjpeg", b"\x89PNG": "png", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An embedded picture: what to call it in a message, and its data with a decoder, where there are such."""

    name: str
    is_front: bool
    decoder: CodecContext | None
    data: "Packet[Stream] | None"


def is_real_video(stream: Stream) -> bool:
    """Tell whether a stream is a video to capture from, rather than a cover, thumbnails or a still picture."""
    return stream.type == "video" and not stream.disposition & _NOT_VIDEO


def find_cover(container: InputContainer, limits: Limits | None = None) -> VideoFrame | None:
    """Decode the embedded picture of a freshly opened file, the front cover rather than the first; None: it has none.

    A picture that cannot be decoded, or is not within the limits, gives way to the next. Raises `CorruptMedia`
    when that is true of all of them. Leaves the container's other streams discarded.
    """
    pictures = [*_attached(container), *_attachments(container), *_vorbis_fields(container)]
    failures: list[str] = []
    too_large = False
    for picture in sorted(pictures, key=lambda picture: not picture.is_front):  # stable: else in the order above
        try:
            return _decode(picture, limits or Limits())
        except av.FFmpegError as error:
            failures.append(f"{picture.name}: {error.strerror}")
            too_large |= picture.decoder is not None and is_too_large(error, picture.decoder)
    if too_large:
        raise over_limit("the embedded picture has more pixels", "LIMITS__PIXELS", (limits or Limits()).max_pixels)
    if failures:
        raise TaskError(Code.CORRUPT_MEDIA, f"no embedded picture can be decoded ({'; '.join(failures)})")
    return None


def _attached(container: InputContainer) -> Iterator[Picture]:
    """Give the pictures that FFmpeg presents as video streams, in their order."""
    streams = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
    packets = _packets(container, streams)
    for stream in streams:
        packet = packets.get(stream.index)
        # Tags often name the wrong type, which FFmpeg believes; the data itself does not lie.
        decoder = (_decoder(bytes(packet)) if packet else None) or stream.codec_context
        yield Picture(f"stream {stream.index}", _is_front(stream.metadata), decoder, packet)


def _attachments(container: InputContainer) -> Iterator[Picture]:
    """Give the pictures among Matroska attachments that FFmpeg leaves as they are: WebP, BMP, or without a type."""
    for stream in container.streams:
        if isinstance(stream, AttachmentStream) and (decoder := _decoder(data := bytes(stream.data))):
            yield Picture(f"attachment {stream.name}", _is_front(stream.metadata), decoder, Packet(data))


def _vorbis_fields(container: InputContainer) -> Iterator[Picture]:
    """Give the picture of the field that Ogg files had before METADATA_BLOCK_PICTURE."""
    for stream in container.streams:
        try:
            data = b64decode(stream.metadata.get("COVERART", ""), validate=True)
        except Base64Error:
            data = b""
        if decoder := _decoder(data):
            yield Picture(f"COVERART of stream {stream.index}", is_front=False, decoder=decoder, data=Packet(data))


def _is_front(tags: dict[str, str]) -> bool:
    """Read the picture's kind: a comment in ID3, FLAC, Ogg and WMA, a key in APE, a file name in Matroska.

    MP4 has no kinds: there the first picture is the cover.
    """
    named_cover = PurePath(tags.get("filename", "")).stem.lower() == "cover"
    return tags.get("comment") == "Cover (front)" or "Cover Art (Front)" in tags or named_cover


def _decoder(data: bytes) -> CodecContext | None:
    """Choose a decoder by how a picture's file begins; None for what is no picture, such as fonts."""
    name = next((name for start, name in _DECODERS.items() if data.startswith(start)), None)
    return CodecContext.create(name, "r") if name else None


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


def _decode(picture: Picture, limits: Limits) -> VideoFrame:
    """Decode a picture. Raises `av.FFmpegError` where that fails."""
    context = picture.decoder
    if picture.data is None or not isinstance(context, VideoCodecContext):
        raise av.InvalidDataError(0, "no data" if picture.data is None else "no decoder for its format")
    context.thread_count = 1
    if context.name not in allowed_decoders(limits.codecs):
        raise av.InvalidDataError(0, f"the settings do not allow {context.name} (LIMITS__CODECS)")
    context.options = {"max_pixels": str(limits.max_pixels), "codec_whitelist": whitelist(limits)}
    frames = [*context.decode(picture.data), *context.decode(None)]
    if not frames:
        raise av.InvalidDataError(0, "no picture in its data")
    return frames[0]
