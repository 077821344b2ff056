"""Opening media files: what FFmpeg is allowed to do, and which stream counts. Knows nothing of times or frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO, Self, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.stream import VideoStream

from worker.errors import Code, TaskError
from worker.media.access import Access, classifier
from worker.media.cover import is_real_video
from worker.media.plan import Limits

VideoPacket: TypeAlias = "Packet[VideoStream]"

FORMATS = (
    "mov,matroska,mpegts,mpeg,avi,flv,asf,rm,ogg,gif,apng,mxf,ivf,mpegvideo,h264,hevc,"
    "aac,mp3,wav,flac,ac3,eac3,aiff,ape"
)
"""Demuxers that may be used; those that open other files or the network are not among them."""

SEEKABLE = frozenset({"mov", "matroska"})
"""Demuxers whose seeks land on the keyframe that their index names."""

MAX_READ_ERRORS = 100
"""Errors of the demuxer in a row after which the file counts as ended."""

CLASSIFIED_BYTES = 64 * 1024
"""As much of a packet as is looked at to find its first slice."""


class Media:
    """One open file and its video stream. A context manager; belongs to one thread.

    `video` is None for a file with no real video stream (audio with or without a cover).
    """

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        """Open `file`. Raises `UnsupportedMedia`, `CorruptMedia` or `LimitExceeded`."""
        self.file = file
        self.container = _open(file, limits)
        try:
            self.video = _choose(self.container, limits)
        except BaseException:
            self.container.close()
            raise
        self.format_name = self.container.format.name.split(",")[0]
        self.seekable = self.format_name in SEEKABLE
        self.packets_read = 0
        self.read_errors = 0
        self.seeks = 0
        self._unread: deque[VideoPacket] = deque()
        if self.video is not None:
            context = self.video.codec_context
            self._classify = classifier(context.name, bytes(context.extradata or b""), self.format_name)
            self._demuxed = self.container.demux(self.video)

    @property
    def stream(self) -> VideoStream:
        """The video stream of a file that is known to have one."""
        if self.video is None:
            raise TaskError(Code.RESOURCE_NOT_FOUND, "the source has no video stream")
        return self.video

    def read(self) -> VideoPacket | None:
        """Return the next packet of the video stream in decoding order, or None at the end.

        An error of the demuxer ends the stream unless it goes on behind it; `read_errors` counts.
        """
        if self._unread:
            return self._unread.popleft()
        for _ in range(MAX_READ_ERRORS):
            try:
                packet = next(self._demuxed, None)
            except av.error.FFmpegError:
                self.read_errors += 1
                self._demuxed = self.container.demux(self.stream)
                continue
            if packet is None or (packet.size == 0 and packet.pts is None and packet.dts is None):
                return None
            self.packets_read += 1
            return packet
        return None

    def unread(self, packets: list[VideoPacket]) -> None:
        """Give packets back, in order: `read` returns them again."""
        self._unread.extendleft(reversed(packets))

    def seek(self, pts: int) -> None:
        """Go to the keyframe at or before `pts` by the container's index; also resets the decoder."""
        self.seeks += 1
        self._unread.clear()
        self.container.seek(pts, stream=self.stream)
        self._demuxed = self.container.demux(self.stream)

    def key_packets(self, start_pts: int | None = None) -> Iterator[VideoPacket]:
        """Yield the packets that are marked as keyframes, in order: from the file's start, or where the index is good,

        from the last at or before `start_pts`. What lies between is left unread where the container allows.
        """
        if start_pts is not None and self.seekable:
            self.seek(start_pts)
        if self.format_name != "mov":
            self.stream.discard = Discard.nonkey
        skipped_to = None
        while (packet := self.read()) is not None:
            early = skipped_to is not None and packet.dts is not None and packet.dts < skipped_to
            if packet.is_keyframe and not early:
                yield packet
                if self.format_name == "mov" and packet.dts is not None:
                    skipped_to = self._skip_to_key_after(packet.dts)

    def _skip_to_key_after(self, dts: int) -> int | None:
        """Seek to the next keyframe of an MP4 file's index; give its dts, or None where the index ends (fragments).

        FFmpeg's own skipping (`Discard.nonkey`) forgets to count the composition offsets of what it skips, and so gives
        the keyframes of files with B-frames a wrong pts (`mov_read_packet`, up to 8.0).
        """
        entries = self.stream.index_entries
        place = entries.search_timestamp(dts + 1, backward=False)
        if place < 0:
            return None
        found = entries[place].timestamp
        after = entries.search_timestamp(found + 1, backward=False)
        # From its dts FFmpeg would land one keyframe early where later packets are shown before this one (open GOP).
        self.seek(entries[after].timestamp - 1 if after >= 0 else found)
        return found

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the video stream."""
        return Fraction(self.stream.time_base or 1)

    def access(self, packet: VideoPacket) -> Access:
        """Tell what decoding can do from this packet on."""
        if not packet.is_keyframe:
            return Access.NONE
        return self._classify(bytes(memoryview(packet)[:CLASSIFIED_BYTES]), True)  # noqa: FBT003

    def frame_interval_s(self) -> Fraction:
        """The nominal time between frames; 1/25 s where the container tells none."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return 1 / Fraction(rate) if rate else Fraction(1, 25)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()


def ffmpeg_version() -> str:
    """Tell the version of the FFmpeg that PyAV brings."""
    return av.ffmpeg_version_info


def check_size(width: int, height: int, limits: Limits) -> None:
    """Refuse a picture of more pixels or longer sides than allowed, whatever says so: header or frame."""
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        message = (
            f"the resolution {width}x{height} is above the limit of {limits.max_pixels} pixels "
            f"and {limits.max_side} pixels a side"
        )
        raise TaskError(Code.LIMIT_EXCEEDED, message)


def _open(file: BinaryIO, limits: Limits) -> InputContainer:
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "",
        "max_pixels": str(limits.max_pixels),
        "max_streams": str(limits.max_streams),
    }
    file.seek(0)
    try:
        return av.open(file, mode="r", options=options, metadata_errors="replace")
    except (av.error.ArgumentError, av.error.InvalidDataError) as error:
        file.seek(0, 2)
        if file.tell() == 0:
            raise TaskError(Code.CORRUPT_MEDIA, "the source is empty (0 bytes)") from error
        message = "the source is none of the supported containers, or its header is damaged"
        code = Code.UNSUPPORTED_MEDIA if isinstance(error, av.error.ArgumentError) else Code.CORRUPT_MEDIA
        raise TaskError(code, message) from error
    except av.error.MemoryError as error:
        raise TaskError(
            Code.LIMIT_EXCEEDED, "the source's header asks for more streams or memory than allowed"
        ) from error
    except av.error.FFmpegError as error:
        raise TaskError(Code.CORRUPT_MEDIA, f"the source cannot be opened: {error.strerror}") from error


def _choose(container: InputContainer, limits: Limits) -> VideoStream | None:
    """Find the first real video stream and stop the demuxer from reading any other."""
    video = next((stream for stream in container.streams.video if is_real_video(stream)), None)
    if video is None:
        return None
    for stream in container.streams:
        if stream is not video:
            stream.discard = Discard.all
    context = video.codec_context
    if context is None:
        raise TaskError(Code.UNSUPPORTED_MEDIA, "the video stream's codec is unknown, or has no decoder here")
    check_size(context.width, context.height, limits)
    context.thread_count = 1  # a slot is one core: tasks run side by side, not threads
    context.options = {"max_pixels": str(limits.max_pixels)}
    return video
