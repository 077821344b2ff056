"""The frame on screen at each wanted time, bit for bit as a decode from the file's start gives it, at less decoding.

How it works. Wanted times only ever grow. Packets are read ahead, undecoded, until none that follows can belong to a
frame at or before the wanted time (dts > time). Whatever lies before the last clean keyframe at or before that time is
dropped; where the container has a trustworthy index, a seek avoids reading it at all. What is left is decoded up to the
wanted frame: H.264 pictures that nothing refers to are skipped, and a frame is only accepted when a packet of its time
was sent since the last restart, since decoders may return stale ones. Where packets carry no times, everything is
decoded in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.video.frame import VideoFrame

from worker.errors import Code, TaskError
from worker.media.access import Access
from worker.media.container import Media, VideoPacket, check_size
from worker.media.plan import Limits

TOLERANCE_S = Fraction(1, 1000)
"""Containers that count in milliseconds round times; at most half a frame."""

SKIP_PACKETS = 8
"""Undecoded packets before a keyframe that make it worth restarting the decoder there."""

SEEK_AHEAD_S = Fraction(1, 2)
"""How far ahead a wanted time must lie for a seek; what is nearer is read through."""

BUFFER_BYTES = 64 * 2**20
"""Packets held back undecoded, at most."""

SENT_KEPT = 256
"""Times of sent packets without a frame (skipped, or second fields) that are remembered."""

BEFORE_ALL = -(2**62)
"""A time before every packet's."""

HIDDEN = frozenset({"vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d"})
"""Codecs with packets that show no frame: a packet's time does not promise one."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A decoded frame, its `pts` in stream ticks and `time_s` from the first frame.

    `end_s` is where the stream ends, told only by its last frame, else None.
    """

    frame: VideoFrame
    pts: int
    time_s: Fraction
    key_frame: bool
    end_s: Fraction | None


class FrameReader:
    """Finds frames by time, forwards. Owns demuxing and decoding of an open `Media`; `origin_pts` is time 0."""

    def __init__(self, media: Media, limits: Limits, origin_pts: int | None = None) -> None:
        """Start at the file's beginning; without `origin_pts` the first frame's pts, decoded at once, is time 0."""
        self.decoded = 0
        self.damaged = 0
        self.tolerance_s = min(TOLERANCE_S, media.frame_interval_s() / 2)
        self._media = media
        self._limits = limits
        self._context = media.stream.codec_context
        self._time_base = media.time_base
        self._skips = self._context.name == "h264"
        self._exact = self._context.name not in HIDDEN
        self._seekable = media.seekable
        self._timed = True
        self._buffer: deque[VideoPacket] = deque()
        self._buffered_bytes = 0
        self._last_dts: int | None = None
        self._run_pts: int | None = None
        self._read_all = False
        self._drained = False
        self._sent: set[int] = set()
        self._ready: deque[VideoFrame] = deque()
        self._current: VideoFrame | None = None
        self._previous_pts: int | None = None
        self.origin_pts = self._first_pts() if origin_pts is None else origin_pts

    def _first_pts(self) -> int:
        while not self._ready and not self._drained:
            self._advance(None)
        if not self._ready:
            raise self._nothing()
        return _pts(self._ready[0])

    def seconds(self, pts: int | Fraction) -> Fraction:
        """Seconds from the first frame to `pts`."""
        return (pts - self.origin_pts) * self._time_base

    @property
    def position_s(self) -> Fraction:
        """The time of the frame last given, for telling progress."""
        return Fraction(0) if self._current is None else self.seconds(_pts(self._current))

    def threshold(self, time_s: Fraction) -> int:
        """The greatest pts that counts as at or before `time_s`."""
        return self.origin_pts + int((time_s + self.tolerance_s) // self._time_base)

    def at(self, time_s: Fraction) -> Shot:
        """Return the frame on screen at `time_s`, which must not be less than before.

        Before the first frame: the first; after the end: the last. Raises `CorruptMedia` when nothing decodes.
        """
        threshold = self.threshold(time_s)
        if not self._reached(threshold, None):
            self._seek_towards(threshold)
            self._fill(threshold)
            while not self._reached(threshold, target := self._target(threshold)):
                self._advance(target)
                self._fill(threshold)
        return self.current()

    def following(self) -> Shot | None:
        """Return the frame after the one last given, or None at the end."""
        while not self._ready and not self._drained:
            self._advance(None)
        if not self._ready:
            return None
        self._take()
        while not self._ready and not self._drained:  # one more tells whether this is the last
            self._advance(None)
        return self.current()

    def keyframes(self, start_s: Fraction) -> Iterator[Shot]:
        """Yield each frame from `start_s` on that decodes on its own, from its packet alone."""
        first = self.origin_pts + -int((self.tolerance_s - start_s) // self._time_base)
        for packet in self._media.key_packets(first if start_s > SEEK_AHEAD_S else None):
            if packet.pts is None or packet.pts < first or self._media.access(packet) < Access.ALONE:
                continue
            frame = self._decode_alone(packet)
            if frame is not None:
                yield Shot(frame, _pts(frame), self.seconds(_pts(frame)), key_frame=True, end_s=None)

    def _decode_alone(self, packet: VideoPacket) -> VideoFrame | None:
        try:
            frames = [*self._context.decode(packet), *self._context.decode(None)]
        except av.error.FFmpegError:
            self.damaged += 1
            frames = []
        self._context.flush_buffers()
        self._count(len(frames))
        return next((frame for frame in frames if frame.pts == packet.pts and not frame.is_corrupt), None)

    # --- where to go on

    def _seek_towards(self, threshold: int) -> None:
        """Seek to the last clean keyframe at or before `threshold` where that saves reading what lies between."""
        position = self._last_dts if self._last_dts is not None else self.origin_pts
        if not self._seekable or self._read_all or (threshold - position) * self._time_base < SEEK_AHEAD_S:
            return
        entries = self._media.stream.index_entries
        found = entries.search_timestamp(threshold)
        if found >= 0 and entries[found].timestamp <= position:
            return  # the keyframe is behind us: reading on is all there is
        back = 1
        at = threshold
        while at > position:
            packet = self._land(at)
            if packet is not None and self._is_start(packet, threshold):
                self._restart()
                self._hold(packet)
                return
            seen = threshold if packet is None else min(at, packet.dts if packet.dts is not None else at)
            at = seen - back
            back *= 4
        self._seekable = False
        self._return_to_run()

    def _land(self, pts: int) -> VideoPacket | None:
        try:
            self._media.seek(pts)
        except av.error.FFmpegError:
            return None
        return self._media.read()

    def _is_start(self, packet: VideoPacket, threshold: int) -> bool:
        if packet.pts is None or packet.is_discard or packet.pts > threshold:
            return False
        return self._media.access(packet) is Access.CLEAN

    def _return_to_run(self) -> None:
        """Go back to where the present run began, after no better start was found behind it."""
        packet = self._land(BEFORE_ALL if self._run_pts is None else self._run_pts)
        if packet is None or self._run_pts not in (None, packet.pts):
            raise TaskError(Code.CORRUPT_MEDIA, "the container's index is damaged: it does not lead back to a keyframe")
        self._restart()
        self._hold(packet)

    def _restart(self) -> None:
        """Forget what was read and sent; what comes next starts a run of its own."""
        self._context.flush_buffers()
        self._buffer.clear()
        self._buffered_bytes = 0
        self._sent.clear()
        self._ready.clear()
        self._previous_pts = None
        self._last_dts = None
        self._run_pts = None

    def _hold(self, packet: VideoPacket) -> None:
        if self._run_pts is None:
            self._run_pts = packet.pts
        if packet.pts is None:
            self._timed = False
        if packet.dts is not None:
            self._last_dts = packet.dts
        self._buffer.append(packet)
        self._buffered_bytes += packet.size

    def _fill(self, threshold: int) -> None:
        """Read ahead until no later packet can belong at or before `threshold`; keep from the last clean start on."""
        while not self._read_all and self._buffered_bytes < BUFFER_BYTES:
            if self._last_dts is not None and self._last_dts > threshold and self._buffer:
                return
            if not self._timed and self._buffer:
                return
            packet = self._media.read()
            if packet is None:
                self._read_all = True
                return
            if self._timed and len(self._buffer) >= SKIP_PACKETS and self._is_start(packet, threshold):
                self._restart()
            self._hold(packet)

    # --- decoding

    def _reached(self, threshold: int, target: int | None) -> bool:
        """Move to the last ready frame at or before `threshold`; tell whether no later one can be."""
        while self._ready and (self._current is None or _pts(self._ready[0]) <= threshold):
            self._take()
        if self._current is None or _pts(self._current) > threshold:
            return self._drained or self._current is not None
        return bool(self._ready) or self._drained or (self._exact and _pts(self._current) == target)

    def _target(self, threshold: int) -> int | None:
        """The pts of the frame at `threshold`, as far as packets tell; None where they carry no times."""
        if not self._timed:
            return None
        waiting = (packet.pts for packet in self._buffer if packet.pts is not None and not packet.is_discard)
        known = [pts for pts in (*self._sent, *waiting) if pts <= threshold]
        if self._current is not None:
            known.append(_pts(self._current))
        return max(known, default=None)

    def _take(self) -> None:
        self._previous_pts = None if self._current is None else _pts(self._current)
        self._current = self._ready.popleft()

    def _advance(self, target: int | None) -> None:
        """Decode one more packet, or drain at the end. Of what precedes `target` only what is referred to."""
        if not self._buffer and not self._read_all:
            packet = self._media.read()
            if packet is None:
                self._read_all = True
            else:
                self._hold(packet)
        if not self._buffer:
            self._drained = True
            self._send(None)
            return
        packet = self._buffer.popleft()
        self._buffered_bytes -= packet.size
        if self._skips:
            early = target is not None and packet.pts is not None and packet.pts < target
            self._context.skip_frame = "NONREF" if early else "DEFAULT"
        self._send(packet)

    def _send(self, packet: VideoPacket | None) -> None:
        if packet is not None and packet.pts is not None:
            self._sent.add(packet.pts)
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError:
            self.damaged += 1
            return
        self._count(len(frames))
        for frame in frames:
            self._accept(frame)

    def _count(self, frames: int) -> None:
        self.decoded += frames
        if self.decoded > self._limits.max_decoded_frames:
            limit = self._limits.max_decoded_frames
            raise TaskError(
                Code.LIMIT_EXCEEDED, f"more than {limit} frames would have to be decoded (max_decoded_frames)"
            )

    def _accept(self, frame: VideoFrame) -> None:
        if frame.pts is None:
            frame.pts = self._guess_pts(frame)
        elif self._timed and frame.pts not in self._sent:
            return  # stale: from before the last restart
        self._sent.discard(frame.pts)
        if len(self._sent) > SENT_KEPT:
            self._sent = {pts for pts in self._sent if pts > frame.pts}
        if frame.is_corrupt:
            self.damaged += 1
            return
        self._ready.append(frame)

    def _guess_pts(self, frame: VideoFrame) -> int:
        """A time for a frame without one: its packet's dts, else one frame after the last."""
        if frame.dts is not None:
            return int(frame.dts)
        last = self._ready[-1] if self._ready else self._current
        return 0 if last is None else _pts(last) + round(self._media.frame_interval_s() / self._time_base)

    def current(self) -> Shot:
        """Return the frame last given again, with the stream's end if that is known by now."""
        frame = self._current
        if frame is None:
            raise self._nothing()
        check_size(frame.width, frame.height, self._limits)
        pts = _pts(frame)
        last = self._drained and not self._ready
        end_s = self.seconds(pts) + self._duration_s(frame) if last else None
        return Shot(frame, pts, self.seconds(pts), bool(frame.key_frame), end_s)

    def _duration_s(self, frame: VideoFrame) -> Fraction:
        if frame.duration:
            return frame.duration * self._time_base
        if self._previous_pts is not None:
            return (_pts(frame) - self._previous_pts) * self._time_base
        return self._media.frame_interval_s()

    def _nothing(self) -> TaskError:
        return TaskError(Code.CORRUPT_MEDIA, f"no frame of the video could be decoded ({self.damaged} damaged packets)")


def _pts(frame: VideoFrame) -> int:
    assert frame.pts is not None, "accepted frames have a pts"  # noqa: S101
    return frame.pts
