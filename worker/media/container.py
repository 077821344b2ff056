"""An open media file: which stream counts, and its packets. Knows nothing of times or frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from typing import BinaryIO, Self, TypeAlias, cast

import av
from av.codec import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from worker.errors import Code, TaskError, over_limit
from worker.media.access import Access, classifier, disposer
from worker.media.clock import Continuity
from worker.media.codecs import check_codec, whitelist
from worker.media.cover import is_real_video
from worker.media.extent import is_truncated
from worker.media.index import is_in_order, is_partial
from worker.media.opening import is_too_large, open_container, padded_pixels
from worker.media.plan import Limits
from worker.media.presentation import decoder_for, presentation
from worker.media.reads import Expected, expect_index

VideoPacket: TypeAlias = "Packet[VideoStream]"

SEEKABLE = frozenset({"mov", "matroska"})
"""Demuxers whose seeks land on the keyframe that their index names."""

DISCONTINUOUS = frozenset({"mpegts", "mpeg", "ogg"})
"""Demuxers of containers that are often cut together, with a clock that jumps (AVFMT_TS_DISCONT)."""

UNTOLD = frozenset({"mjpeg"})
"""Decoders that give damaged pictures, with parts that were never written, without a word unless they are strict."""

MAX_READ_ERRORS = 100
"""Errors of the demuxer in a row after which the file counts as ended."""

CLASSIFIED_BYTES = 64 * 1024
"""As much of a packet as is looked at to find its first slice."""

DISPOSED_BYTES = 4096
"""The same, where not finding it only costs work."""


class Media:
    """One open file and its video stream. A context manager; belongs to one thread.

    `video` is None for a file with no real video stream (audio with or without a cover); else `context` decodes it, and
    `presentation` tells how its pictures are to be shown. While `strict`, which counts when a file is opened, the
    decoder fails at damage rather than to make up for it.
    """

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        """Open `file`. Raises `UnsupportedMedia`, `CorruptMedia` or `LimitExceeded`."""
        self.file = file
        self.packets_read = 0
        self.read_errors = 0
        self.seeks = 0
        self.strict = True
        self._limits = limits
        self._open()

    def _open(self) -> None:
        expect_index(self.file)
        self.container = open_container(self.file, self._limits)
        self.format_name = self.container.format.name.split(",")[0]
        self.seekable = False
        try:
            self.video = _choose(self.container, self._limits)
            if self.video is not None:
                self.context = _prepared(decoder_for(self.video), self._limits, strict=self.strict)
                self.presentation = presentation(self.container, self.video)
                self.seekable = self.format_name in SEEKABLE and is_in_order(self.video)
        except BaseException:
            self.container.close()
            raise
        self.index_read = self.format_name == "mov"
        self._wanted: Sequence[int] = ()
        self._unread: deque[VideoPacket] = deque()
        self._joined: Continuity | None = None
        if self.video is not None:
            self._expected = Expected(self.file, self.video, self.format_name)
            own = self.video.codec_context
            extradata = bytes(own.extradata or b"")
            self._classify = classifier(own.name, extradata, self.format_name)
            self._dispose = disposer(own.name, extradata)
            self._demuxed = self.container.demux(self.video)
            if self.format_name in DISCONTINUOUS:
                self._joined = Continuity(self.time_base)

    def rewind(self) -> None:
        """Go back to the first packet by opening the file again; the stream and its decoder are new ones.

        The only way back that works in every container: seeks to the start of damaged or index-less files do not.
        """
        self.container.close()
        self._open()
        self.seeks += 1

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
        errors = 0
        while errors < MAX_READ_ERRORS:
            try:
                packet = next(self._demuxed, None)
            except av.error.FFmpegError:
                errors += 1
                self.read_errors += 1
                self._demuxed = self.container.demux(self.stream)
                continue
            except IndexError:  # PyAV's, of a packet of a stream that has only now appeared
                errors += 1
                self._demuxed = self.container.demux(self.stream)
                continue
            if packet is None or (packet.size == 0 and packet.pts is None and packet.dts is None):
                return None
            if packet.size == 0:  # says that the last frame stays on; the decoder would take it for the end
                continue
            self.packets_read += 1
            self.read_errors += packet.is_corrupt
            return self._join(packet)
        return None

    def _join(self, packet: VideoPacket) -> VideoPacket:
        offset = self._joined.offset(packet.dts, packet.duration or 0) if self._joined else 0
        if offset:
            packet.dts = None if packet.dts is None else packet.dts + offset
            packet.pts = None if packet.pts is None else packet.pts + offset
        return packet

    def unread(self, packets: list[VideoPacket]) -> None:
        """Give packets back, in order: `read` returns them again."""
        self._unread.extendleft(reversed(packets))

    def seek(self, pts: int) -> bool:
        """Go to the keyframe at or before `pts` by the container's index; also resets the decoder.

        False where that failed: the position is then unknown.
        """
        return self._seek(pts, any_frame=False)

    def seek_packet(self, pts: int) -> bool:
        """Go to the packet of an MP4 file's index that is decoded for `pts`, whatever it is; else as `seek`."""
        return self._seek(pts, any_frame=True)

    def _seek(self, timestamp: int, *, any_frame: bool) -> bool:
        self.seeks += 1
        self._unread.clear()
        try:
            self.container.seek(timestamp, stream=self.stream, any_frame=any_frame)
        except av.error.FFmpegError:
            return False
        self._learn_index()
        self._demuxed = self.container.demux(self.stream)
        return True

    def expect(self, thresholds: Sequence[int]) -> None:
        """Announce what has to be read for the frames at ascending times (pts), as far as the index tells."""
        self._wanted = thresholds
        self._expected.times(thresholds)

    def expect_from(self, place: int) -> None:
        """Announce all packets from one of the index on."""
        self._expected.rest(place)

    def _learn_index(self) -> None:
        """Announce what is wanted as soon as the index is there: FFmpeg reads Matroska's at the first seek."""
        if not self.index_read:
            self.index_read = True
            self._expected.times(self._wanted)

    @property
    def index_grows(self) -> bool:
        """Whether the stream goes on behind what its index has by now."""
        return self.format_name == "mov" and is_partial(self.stream, self.shown_for(None))

    def expect_keys(self, last: int, last_bytes: int) -> None:
        """Announce the next keyframes behind the one that the index has at `last`, of that size."""
        self._expected.keys(last, last_bytes)

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the video stream."""
        return Fraction(self.stream.time_base or 1)

    def access(self, packet: VideoPacket) -> Access:
        """Tell what decoding can do from this packet on."""
        if not packet.is_keyframe:
            return Access.NONE
        return self._classify(bytes(memoryview(packet)[:CLASSIFIED_BYTES]))

    def is_disposable(self, packet: VideoPacket) -> bool:
        """Tell whether no other picture refers to the one in this packet."""
        return self._dispose(bytes(memoryview(packet)[:DISPOSED_BYTES]))

    def frame_interval_s(self) -> Fraction:
        """The nominal time between frames; 1/25 s where the container tells none."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return 1 / Fraction(rate) if rate else Fraction(1, 25)

    def check_refusal(self, error: av.error.FFmpegError) -> None:
        """Raise `LimitExceeded` where the decoder failed since a picture has too many pixels.

        Some decoders say that as FFmpeg does (`is_too_large`); those of H.264 say that the data is invalid, at a size
        that headers amid the stream have told them.
        """
        if is_too_large(error, self.context):
            raise over_limit("a picture of the source has more pixels", "LIMITS__PIXELS", self._limits.max_pixels)
        check_size(self.context.width, self.context.height, self._limits)

    def lenient_decoder(self) -> VideoCodecContext | None:
        """Make another decoder for single packets, that is not strict; None where strictness cannot be done without."""
        context = self.context
        if context.name in UNTOLD:
            return None
        lenient = cast("VideoCodecContext", CodecContext.create(context.name, "r"))
        lenient.extradata = context.extradata
        lenient.thread_count = 1
        lenient.options = {"max_pixels": padded_pixels(self._limits), "codec_whitelist": whitelist(self._limits)}
        return lenient

    def shown_for(self, duration: int | None) -> Fraction:
        """Ticks that a frame is on screen, of which the file says `duration`; nominal where that is not known.

        One tick is what FFmpeg says after a seek in files whose frame rate it takes for one frame a tick.
        """
        return Fraction(duration) if duration and duration > 1 else self.frame_interval_s() / self.time_base

    @property
    def truncated(self) -> bool:
        """Whether the file ends before its index or header says."""
        return self.video is not None and is_truncated(self.file, self.format_name, self.video)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()


def check_size(width: int, height: int, limits: Limits) -> None:
    """Refuse a picture of more pixels or longer sides than allowed, whatever says so: header or frame."""
    what = f"the source's pictures have {width}x{height} pixels"
    if width * height > limits.max_pixels:
        raise over_limit(what, "LIMITS__PIXELS", limits.max_pixels)
    if max(width, height) > limits.max_side:
        raise over_limit(what, "LIMITS__SIDE", limits.max_side)


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
    return video


def _prepared(context: VideoCodecContext, limits: Limits, *, strict: bool) -> VideoCodecContext:
    """Set a decoder up."""
    check_codec(context.name, limits)
    context.thread_count = 1  # a slot is one core: tasks run side by side, not threads
    context.copy_opaque = True
    context.options = {"max_pixels": padded_pixels(limits), "codec_whitelist": whitelist(limits)}
    if strict or context.name in UNTOLD:
        context.options |= {"err_detect": "explode"}
    return context
