"""Opening media files: what FFmpeg is allowed to do with them, and what is told where it cannot."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import BinaryIO

import av
import av.subtitles.codeccontext  # PyAV imports these when it meets a stream of their kind,
import av.subtitles.stream  # but in a decoder's sandbox nothing can be imported any more
import av.subtitles.subtitle
from av.codec.context import CodecContext
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext

from worker.errors import Code, TaskError, over_limit
from worker.media.allocation import limit_allocations
from worker.media.codecs import whitelist
from worker.media.plan import Limits
from worker.media.signature import HEAD_BYTES, is_media, is_transport_stream

FORMATS = (
    "mov,matroska,mpegts,mpeg,avi,flv,asf,rm,ogg,gif,apng,mxf,ivf,mpegvideo,h264,hevc,"
    "aac,mp3,wav,flac,ac3,eac3,aiff,ape"
)
"""Demuxers that may be used; those that open other files or the network are not among them."""


class _Guarded:
    """A binary file as FFmpeg wants it: a seek to before its start, which damaged headers ask for, just fails.

    It has no name, which FFmpeg would take for a URL.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.tell = file.tell
        self.seekable = file.seekable
        self._file = file

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) > size:  # PyAV would copy all of it into a buffer of `size`
            raise ValueError(f"a read of {size} bytes gave {len(data)}")
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (ValueError, OSError):
            return -errno.EINVAL


def open_container(file: BinaryIO, limits: Limits) -> InputContainer:
    """Open `file` from its start. Raises `UnsupportedMedia`, `CorruptMedia` or `LimitExceeded`.

    FFmpeg only gets to see what begins like media, and then may use the listed formats and codecs, and open nothing.
    """
    head = _head(file)
    if not head:
        raise TaskError(Code.CORRUPT_MEDIA, "the source is empty (0 bytes)")
    if not is_media(head):
        message = "the source is none of the supported containers, or its first bytes are damaged"
        raise TaskError(Code.UNSUPPORTED_MEDIA, message)
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "",
        "codec_whitelist": whitelist(limits),
        "max_pixels": padded_pixels(limits),
        "max_streams": str(limits.max_streams),
    }
    limit_allocations(limits.max_opening_bytes)
    try:
        return _demuxed(file, options)
    except av.error.MemoryError as error:
        # FFmpeg says the same of too many streams, and of what it may not allocate.
        what = f"the source's header has more streams than {limits.max_streams} (LIMITS__STREAMS), or wants more memory"
        raise over_limit(what, "LIMITS__OPENING_BYTES", limits.max_opening_bytes) from error
    except av.error.FFmpegError as error:
        if is_transport_stream(head):  # of a few packets, which look like something else to FFmpeg
            with suppress(av.error.FFmpegError):
                return _demuxed(file, options, "mpegts")
        raise TaskError(Code.CORRUPT_MEDIA, f"the source's header is damaged ({error.strerror})") from error
    finally:
        limit_allocations(limits.max_allocation_bytes)


def _head(file: BinaryIO) -> bytes:
    """Read the file's first bytes."""
    file.seek(0)
    head = b""
    while len(head) < HEAD_BYTES and (data := file.read(HEAD_BYTES - len(head))):
        head += data
    return head


def _demuxed(file: BinaryIO, options: dict[str, str], format_name: str | None = None) -> InputContainer:
    file.seek(0)
    return av.open(_Guarded(file), mode="r", format=format_name, options=options, metadata_errors="replace")


def is_too_large(error: av.error.FFmpegError, context: CodecContext) -> bool:
    """Tell whether a decoder refused a picture for its number of pixels: then it says EINVAL, and forgets the size."""
    return isinstance(error, av.error.ArgumentError) and isinstance(context, VideoCodecContext) and not context.width


def padded_pixels(limits: Limits) -> str:
    """The limit on pixels for FFmpeg, which counts rows as padded to 64 pixels; `check_size` has the exact one."""
    return str(limits.max_pixels + 64 * limits.max_side)
