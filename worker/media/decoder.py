"""Packets in, good frames out: what is sent to FFmpeg's decoder, and which of the frames it returns are believed.

Knows no wanted times and no containers' seeks. A damaged packet spoils every frame from it on to the next keyframe,
since they are predicted from it: those frames are not given.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from worker.errors import Code, TaskError
from worker.media.access import Access
from worker.media.clock import BestEffort
from worker.media.container import Media, VideoPacket
from worker.media.plan import Limits

REMEMBERED = 256
"""Times of sent packets that are remembered, to know a stale frame."""


@dataclass(frozen=True, slots=True)
class Held:
    """A packet that was read, and what decoding can do from it on."""

    packet: VideoPacket
    access: Access


class SpoiledError(Exception):
    """What was decoded since the last restart cannot be trusted: start again.

    `unordered`: the times of frames do not grow in the order they are shown, so they have to be decoded in order.
    """

    def __init__(self, *, unordered: bool) -> None:
        super().__init__("frames out of order" if unordered else "fields were skipped")
        self.unordered = unordered


class Decoder:
    """Decodes the video stream of `media`. Good frames wait in `ready`, in the order they are shown."""

    def __init__(self, media: Media, limits: Limits) -> None:
        self.ready: deque[VideoFrame] = deque()
        self.decoded = 0
        self.damaged = 0
        self.drained = False
        self._media = media
        self._limits = limits
        progressive = self._context.field_order in (0, 1)  # unknown is mostly progressive
        self._skips = self._context.name == "h264" and progressive
        self._best_effort: BestEffort | None = None
        self.restart()

    @property
    def _context(self) -> VideoCodecContext:
        return self._media.stream.codec_context

    def restart(self) -> None:
        """Forget what was sent; what comes next has to be a clean start."""
        self._context.flush_buffers()
        self.ready.clear()
        self.drained = False
        self._skipped = False
        self._sent: deque[int] = deque(maxlen=REMEMBERED)
        self._newest: int | None = None
        self._dirty = False
        self._good_from: int | None = None
        self._spoiled: set[int | None] = set()

    def distrust_times(self) -> None:
        """Give frames the times that their order tells, from a start at the file's first packet on."""
        interval = round(self._media.frame_interval_s() / self._media.time_base)
        self._best_effort = BestEffort(max(interval, 1))
        self._skips = False

    def send(self, held: Held, target: int | None) -> None:
        """Decode a packet; of what precedes `target` only what others refer to. Raises `SpoiledError`."""
        packet = held.packet
        if self._dirty and held.access >= Access.ALONE:
            self._dirty = False
            self._good_from = packet.pts
        leading = packet.pts is not None and self._good_from is not None and packet.pts < self._good_from
        if self._dirty or leading:
            self._spoiled.add(packet.pts)
        else:
            self._spoiled.discard(packet.pts)
        if packet.pts is not None:
            self._sent.append(packet.pts)
        if self._skips:
            early = target is not None and packet.pts is not None and packet.pts < target
            self._context.skip_frame = "NONREF" if early else "DEFAULT"
            self._skipped |= early
        self._decode(packet)

    def drain(self) -> None:
        """Get the frames that the decoder holds back, at the end of the stream. Raises `SpoiledError`."""
        self.drained = True
        self._decode(None)

    def _decode(self, packet: VideoPacket | None) -> None:
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError:
            self._damage(None if packet is None else packet.pts)
            return
        self._count(len(frames))
        for frame in frames:
            self._accept(frame)

    def _damage(self, pts: int | None) -> None:
        self.damaged += 1
        self._dirty = True
        self._good_from = None
        self._spoiled.add(pts)

    def _count(self, frames: int) -> None:
        self.decoded += frames
        if self.decoded > self._limits.max_decoded_frames:
            limit = self._limits.max_decoded_frames
            raise TaskError(
                Code.LIMIT_EXCEEDED, f"more than {limit} frames would have to be decoded (max_decoded_frames)"
            )

    def _accept(self, frame: VideoFrame) -> None:
        if frame.interlaced_frame and self._skips:
            self._skips = False  # the fields of a picture may be packets of their own: one alone must not be skipped
            if self._skipped:
                raise SpoiledError(unordered=False)
        if self._best_effort is None and (frame.pts is None or frame.pts not in self._sent):
            return  # stale: from before the last restart
        if frame.is_corrupt:
            self._damage(frame.pts)
        elif frame.pts in self._spoiled:
            self.damaged += 1
        elif self._in_order(frame):
            self._newest = frame.pts
            self.ready.append(frame)

    def _in_order(self, frame: VideoFrame) -> bool:
        """Set the frame's time if that has to be guessed; tell whether it is not before the last frame's.

        Damage upsets the order: then frames are left out. Otherwise it is the file's times that are wrong.
        """
        if self._best_effort is not None:
            frame.pts = self._best_effort.time(frame.pts, frame.dts)
        if self._newest is None or (frame.pts is not None and frame.pts >= self._newest):
            return True
        if not self.damaged:
            raise SpoiledError(unordered=True)
        return False

    def alone(self, packets: list[VideoPacket]) -> VideoFrame | None:
        """Decode the first of `packets`, and further fields of its picture, with nothing before; None if that fails."""
        pts = packets[0].pts
        frames: list[VideoFrame] = []
        try:
            for packet in (*packets, None):
                frames += self._context.decode(packet)
        except av.error.FFmpegError:
            frames = []
        self.restart()
        self._count(len(frames))
        return next((frame for frame in frames if frame.pts == pts and not frame.is_corrupt), None)
