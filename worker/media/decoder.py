"""Packets in, good frames out: what is sent to FFmpeg's decoder, and which of the frames it returns are believed.

Knows no wanted times and no containers' seeks. A damaged packet spoils every frame from it on to the next keyframe,
since they are predicted from it: those frames are not given. So decoders are strict: they fail at damage, where
FFmpeg would else make up for it, with pictures that depend on what was decoded before. Some files break their codec's
rules without being damaged: where the first packet shows that, decoding is lenient, and since damage then only shows
when a frame comes out, frames are held back until nothing that was sent before them can still turn out to be damaged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from worker.media.access import Access
from worker.media.budget import Budget
from worker.media.clock import BestEffort
from worker.media.container import DISCONTINUOUS, Media, VideoPacket
from worker.media.presentation import coded_aspect

REMEMBERED = 256
"""Sent packets that are remembered, for damage that shows late."""

HELD_FRAMES = 16
"""Frames after which every frame that was sent before has come out: the most that any codec reorders."""

FORGETTING_STARTS = 2
"""Clean starts of a cut file among which pictures may still say that those before the cut are no longer needed."""


@dataclass(frozen=True, slots=True)
class Held:
    """A packet that was read, what decoding can do from it on, and whether it is the file's first."""

    packet: VideoPacket
    access: Access
    first: bool


@dataclass(slots=True, eq=False)
class Sent:
    """What is known of a packet that was given to the decoder in a `run`; its frame carries it as `opaque`.

    `damaged` itself, or `spoiled` by damage before it. `aspect` is that of the codec's headers then, 0 for none.
    """

    run: int
    pts: int | None
    access: Access
    first: bool
    damaged: bool = False
    spoiled: bool = False
    aspect: Fraction = Fraction(0)


class Spoiled(Enum):
    """Why what was decoded since the last restart cannot be trusted."""

    IRREGULAR = "strictness fails at what is not damaged: decode leniently"
    SKIPPED = "what others refer to, or half of a picture, may have been skipped: skip nothing"
    UNCLEAN = "what came before a start that was not a reset is missed: start at resets only"
    UNORDERED = "times do not grow in the order of frames: decode all, in order"


class SpoiledError(Exception):
    """What was decoded since the last restart cannot be trusted: start again, in another way."""

    def __init__(self, reason: Spoiled) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Decoder:
    """Decodes the video stream of `media`. Good frames wait in `ready`, in the order they are shown."""

    def __init__(self, media: Media, budget: Budget) -> None:
        self.ready: deque[VideoFrame] = deque()
        self.damaged = 0
        self.drained = False
        self._media = media
        self._budget = budget
        # Of interlaced frames each half may be a packet of its own. Unknown (0) is mostly progressive.
        self.fields = self._context.field_order not in (0, 1)
        self.skips = not self.fields
        self._best_effort: BestEffort | None = None
        self._unclean = False
        self._run = 0
        self.restart()

    @property
    def _context(self) -> VideoCodecContext:
        return self._media.context

    @property
    def may_miss_past(self) -> bool:
        """Whether a keyframe that is a clean start may fail all the same, for what was before it: in H.264 only."""
        return self._context.name == "h264"

    def restart(self) -> None:
        """Forget what was sent; what comes next has to be a clean start."""
        self._context.flush_buffers()
        self._run += 1
        self.ready.clear()
        self.drained = False
        self.skipped: deque[int] = deque(maxlen=REMEMBERED)
        self._sent: deque[Sent] = deque(maxlen=REMEMBERED)
        self._start: Sent | None = None
        self._starts = 0
        self._held: deque[tuple[VideoFrame, Sent]] = deque()
        self._newest: int | None = None
        self._dirty = False
        self._good_from: int | None = None
        self._best_effort = self._new_best_effort() if self._best_effort else None

    def _new_best_effort(self) -> BestEffort:
        interval = round(self._media.frame_interval_s() / self._media.time_base)
        return BestEffort(max(interval, 1))

    def change(self, reason: Spoiled) -> None:
        """Decode in the way that `reason` asks for, from the next restart on."""
        self.skips &= reason is Spoiled.UNCLEAN
        if reason is Spoiled.IRREGULAR:
            self._media.strict = False
        elif reason is Spoiled.UNCLEAN:
            self._unclean = True
        elif reason is Spoiled.UNORDERED:
            self._best_effort = self._new_best_effort()

    def send(self, held: Held, needs: Callable[[int], bool]) -> None:
        """Decode a packet, unless nothing refers to it and its time is not one that `needs` it.

        Raises `SpoiledError`.
        """
        packet = held.packet
        if packet.is_corrupt:
            self._stop_skipping()  # something is missing before it
        if self.skips and packet.pts is not None and self._media.is_disposable(packet) and not needs(packet.pts):
            self.skipped.append(packet.pts)
            return
        if self._dirty and held.access is Access.RESET:  # a decoder that knows nothing of the damage goes on here
            self._decode(None)
            self._context.flush_buffers()
        sent = packet.opaque = Sent(self._run, packet.pts, held.access, held.first)
        self._sent.append(sent)
        self._start = self._start or sent
        self._starts += sent.access >= Access.CLEAN
        self._judge(sent)
        if packet.is_corrupt and self._media.format_name not in DISCONTINUOUS:
            self._damage(sent)  # it is cut short, which some decoders do not notice
            return
        self._budget.spend()
        self._decode(packet, sent)

    def _stop_skipping(self) -> None:
        self.skips = False
        if self.skipped:
            raise SpoiledError(Spoiled.SKIPPED)

    def _judge(self, sent: Sent) -> None:
        """Settle whether a packet is spoiled by damage before it."""
        if self._dirty and sent.access >= Access.ALONE and not sent.damaged:
            self._dirty = False
            self._good_from = sent.pts
        leading = sent.pts is not None and self._good_from is not None and sent.pts < self._good_from
        sent.spoiled |= self._dirty or leading

    def drain(self) -> None:
        """Get the frames that the decoder holds back, at the end of the stream. Raises `SpoiledError`."""
        self.drained = True
        self._decode(None)
        self._release(0)

    def _decode(self, packet: VideoPacket | None, sent: Sent | None = None) -> None:
        try:
            frames = self._context.decode(packet)
        except av.error.FFmpegError as error:
            self._media.check_refusal(error)
            if packet is not None and sent is not None and sent.first:
                self._check_rules(packet)
            self._damage(sent)
            if self._best_effort is not None and packet is not None and packet.dts is None:
                self._best_effort.time(None, None)  # what is lost takes its time
            return
        if sent is not None:
            sent.aspect = coded_aspect(self._context)
        for frame in frames:
            self._accept(frame)

    def _damage(self, sent: Sent | None) -> None:
        """Spoil a packet, None where it is not known which, and what was sent after it up to the next keyframe."""
        if self._only_misses_past(sent):
            return
        self.damaged += 1
        self._stop_skipping()  # what nothing seems to refer to may only seem so
        self._dirty = True
        self._good_from = None
        if sent is not None:
            sent.damaged = sent.spoiled = True
        later = False
        for each in self._sent:
            if later:
                self._judge(each)
            later |= each is sent

    def _only_misses_past(self, sent: Sent | None) -> bool:
        """Tell whether a packet fails only since it needs what came before the keyframe that was started at.

        One that is shown before that keyframe does, and nothing after it needs it. If another of H.264 fails, or the
        keyframe itself, which may say of earlier pictures that they are no longer needed, the start may be the reason:
        raises `SpoiledError`. A file that was cut there has no earlier start, and what fails so is no damage.
        """
        start = self._start
        if start is None or start.access is not Access.CLEAN:
            return False
        if sent is not None and sent.pts is not None and start.pts is not None and sent.pts < start.pts:
            sent.spoiled = True
            return True
        if not self.may_miss_past:
            return False
        if start.first and self._media.strict and self._starts <= FORGETTING_STARTS:
            raise SpoiledError(Spoiled.IRREGULAR)
        if not self._unclean:
            raise SpoiledError(Spoiled.UNCLEAN)
        return False

    def _check_rules(self, packet: VideoPacket) -> None:
        """Raise `SpoiledError` if the file's first packet, which failed strictly, decodes with no damage noticed."""
        lenient = self._media.lenient_decoder() if self._media.strict else None
        if lenient is None:
            return
        with suppress(av.error.FFmpegError):
            frames = [*lenient.decode(packet), *lenient.decode(None)]
            if frames and not any(frame.is_corrupt for frame in frames):
                raise SpoiledError(Spoiled.IRREGULAR)

    def _accept(self, frame: VideoFrame) -> None:
        if frame.interlaced_frame and not self.fields:
            self.fields, self.skips = True, False
            if self.skipped or self.drained:
                raise SpoiledError(Spoiled.SKIPPED)
        sent = frame.opaque
        if not isinstance(sent, Sent) or sent.run != self._run:
            return  # stale: from before the last restart
        if self._best_effort is not None:
            frame.pts = self._best_effort.time(frame.pts, frame.dts)
        if frame.is_corrupt:
            self._damage(sent)
        elif self._in_order(frame):
            self._newest = frame.pts
            self._held.append((frame, sent))
        self._release(0 if self._media.strict else HELD_FRAMES)

    def _release(self, keep: int) -> None:
        """Let frames go that nothing can spoil any more."""
        while len(self._held) > keep:
            frame, sent = self._held.popleft()
            if sent.spoiled:
                self.damaged += 1
            else:
                self.ready.append(frame)

    def _in_order(self, frame: VideoFrame) -> bool:
        """Tell whether a frame's time is not before the last frame's.

        Damage upsets the order: then frames are left out. Otherwise it is the file's times that are wrong.
        """
        if frame.pts is None:
            raise SpoiledError(Spoiled.UNORDERED)
        if self._newest is None or frame.pts >= self._newest:
            return True
        if not self.damaged:
            raise SpoiledError(Spoiled.UNORDERED)
        return False

    def alone(self, packets: list[VideoPacket]) -> VideoFrame | None:
        """Decode the first of `packets`, and further fields of its picture, with nothing before; None if that fails."""
        frames: list[VideoFrame] = []
        sent = packets[0].opaque = Sent(self._run, packets[0].pts, Access.ALONE, first=False)
        self._budget.spend()
        with suppress(av.error.FFmpegError):
            for packet in (*packets, None):
                frames += self._context.decode(packet)
        sent.aspect = coded_aspect(self._context)
        self.restart()
        return next((frame for frame in frames if frame.pts == packets[0].pts and not frame.is_corrupt), None)


def sent_as(frame: VideoFrame) -> Sent:
    """Tell what is known of the packet of a frame that was given."""
    assert isinstance(frame.opaque, Sent), "frames of packets that were sent"  # noqa: S101
    return frame.opaque
