"""The frame on screen at each wanted time, bit for bit as a decode from the file's start gives it, at less decoding.

How it works. Wanted times only ever grow. `ReadAhead` finds the last clean keyframe at or before a wanted time; from
there `Decoder` decodes up to the wanted frame, without the H.264 pictures on the way that nothing refers to. Where that
gives no good frame, since the file is damaged there, it is done again from an earlier keyframe. Where packets carry no
times, or times that do not grow in the order of the frames, everything is decoded in order from the file's start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame

from worker.errors import Code, TaskError
from worker.media.access import Access
from worker.media.ahead import SEEK_AHEAD_S, ReadAhead
from worker.media.container import Media, VideoPacket, check_size
from worker.media.decoder import Decoder, Spoiled, SpoiledError, sent_as
from worker.media.geometry import NO_MARGINS, Margins
from worker.media.plan import Limits
from worker.media.timeline import has_order, indexed_end, key_packets, latest_pts

TOLERANCE_S = Fraction(1, 1000)
"""Containers that count in milliseconds round times; at most half a frame."""

HIDDEN = frozenset({"vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d"})
"""Codecs with packets that show no frame: a packet's time does not promise one."""

UNMARKED = frozenset({"libvpx", "libvpx-vp9"})
"""Decoders that do not say which frames are keyframes."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A decoded frame, its `pts` in stream ticks and `time_s` from the first frame.

    `end_s` is where the stream ends, told only by its last frame, else None. `aspect` is the width of a pixel by its
    height, `margins` what is not to be shown.
    """

    frame: VideoFrame
    pts: int
    time_s: Fraction
    key_frame: bool
    end_s: Fraction | None
    aspect: Fraction = Fraction(1)
    margins: Margins = NO_MARGINS


class FrameReader:
    """Finds frames by time, forwards. Owns demuxing and decoding of an open `Media`; `origin_pts` is time 0."""

    def __init__(self, media: Media, limits: Limits, origin_pts: int | None = None) -> None:
        """Start at the file's beginning; without `origin_pts` the first frame's pts, decoded at once, is time 0."""
        self.tolerance_s = min(TOLERANCE_S, media.frame_interval_s() / 2)
        self._media = media
        self._limits = limits
        self._time_base = media.time_base
        self._exact = media.stream.codec_context.name not in HIDDEN
        timed = has_order(media)
        self._latest_pts = latest_pts(media) if timed else None
        self._ahead = ReadAhead(media, timed=timed, exact=self._exact, latest_pts=self._latest_pts)
        self._decoder = Decoder(media, limits)
        self._current: VideoFrame | None = None
        self._parted = False
        self._end_pts: Fraction | None = None
        if not self._ahead.timed:
            self._decoder.change(Spoiled.UNORDERED)
        self.origin_pts = self._first_pts() if origin_pts is None else origin_pts

    @property
    def decoded(self) -> int:
        """How many frames were decoded."""
        return self._decoder.decoded

    @property
    def damaged(self) -> int:
        """How many packets and frames were left out because they are damaged."""
        return self._decoder.damaged

    @property
    def astray(self) -> bool:
        """Whether a start turned out to need what came before it."""
        return self._ahead.trusted is Access.RESET

    def _first_pts(self) -> int:
        try:
            self._decode_next()
        except SpoiledError as spoiled:
            self._again(spoiled)
            return self._first_pts()
        if not self._decoder.ready:
            raise self._nothing()
        return _pts(self._decoder.ready[0])

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

    def at(self, time_s: Fraction, then_s: Sequence[Fraction] = (), *, more: bool = True) -> Shot:
        """Return the frame on screen at `time_s`, which must not be less than before.

        Before the first frame: the first; after the end: the last. `then_s` are the times that are wanted next, as far
        as they are known, in order; without `more` they are all. Raises `CorruptMedia` when nothing decodes.
        """
        threshold = self._aim(time_s, then_s, more=more)
        self._expect(threshold)
        self._go_to(threshold)
        return self.current()

    def ended_by(self, time_s: Fraction, then_s: Sequence[Fraction] = (), *, more: bool = True) -> Fraction | None:
        """Tell where the video ends, in seconds, if packets show that it is not after `time_s`; decodes nothing.

        To be asked before `at`, with the same arguments.
        """
        if not self._exact or self.damaged:
            return None
        threshold = self._aim(time_s, then_s, more=more)
        try:
            if self._reached(threshold):
                return None
            self._expect(self._latest_pts)
            end_pts = self._indexed_end(threshold)
            if end_pts is None:
                self._read_on(threshold)
                end_pts = self._ahead.end_pts
        except SpoiledError as spoiled:
            self._again(spoiled)
            return None
        if end_pts is None or self._media.read_errors or time_s + self.tolerance_s < self.seconds(end_pts):
            return None
        return self.seconds(end_pts)

    def _indexed_end(self, threshold: int) -> Fraction | None:
        """Find the end from the last packets, once a time is wanted that is hardly before it."""
        if self._end_pts is None and self._latest_pts is not None and self._latest_pts <= threshold:
            self._end_pts = indexed_end(self._media)
            if self._end_pts is None:  # and it need not be looked for again
                self._latest_pts = None
                self._ahead.back_up(threshold, self.origin_pts)
                self._restart()
            else:
                self._ahead.lose_place()
                self._parted = True
        return self._end_pts

    def _expect(self, limit: int | None) -> None:
        """Announce what has to be read: for all that is wanted but what may lie past the end, unless up to `limit`."""
        ends = [pts for pts in (self._latest_pts, limit) if pts is not None]
        wanted = self._ahead.wanted
        self._media.expect([pts for pts in wanted if pts <= max(ends)] if ends else wanted)

    def _aim(self, time_s: Fraction, then_s: Sequence[Fraction], *, more: bool) -> int:
        wanted = [self.threshold(each) for each in (time_s, *then_s)]
        self._ahead.aim(wanted, more=more)
        return wanted[0]

    def following(self) -> Shot | None:
        """Return the frame after the one last given, or None at the end."""
        if self._parted:
            self._rewind()
            return self._following_again()
        given = self._current
        try:
            self._decode_next()
            if not self._decoder.ready:
                return None
            self._current = self._decoder.ready.popleft()
            self._decode_next()  # one more tells whether this is the last
        except SpoiledError as spoiled:
            self._again(spoiled)
            self._current = given
            return self._following_again()
        return self.current()

    def _following_again(self) -> Shot | None:
        """Find the frame after the one last given, after another start."""
        last = None if self._current is None else _pts(self._current)
        self._current = None
        if last is None:
            return self.following()
        self._ahead.aim((last,), more=True)
        self._go_to(last)
        shot = self.current()
        return shot if shot.pts > last else self.following()

    def keyframes(self, start_s: Fraction) -> Iterator[Shot]:
        """Yield each frame from `start_s` on that decodes on its own: from its packet alone, where that works."""
        first = self.origin_pts + -int((self.tolerance_s - start_s) // self._time_base)
        if self._decoder.decoded:
            self._rewind()
        while True:
            try:
                for shot in self._keyframes_from(first):
                    yield shot
                    first = shot.pts + 1
                return
            except SpoiledError as spoiled:
                self._again(spoiled)

    def _keyframes_from(self, first: int) -> Iterator[Shot]:
        if not self._ahead.timed or self.astray:
            yield from self._marked_keyframes(first)
            return
        far = (first - self.origin_pts) * self._time_base > SEEK_AHEAD_S
        for packet in key_packets(self._media, first if far else None):
            access = self._media.access(packet)
            if packet.pts is None or packet.pts < first or access < Access.ALONE:
                continue
            frame = self._alone(packet)
            if frame is None and access is Access.CLEAN:  # it may only say of earlier pictures to forget them
                raise SpoiledError(Spoiled.UNCLEAN)
            self._decoder.damaged += frame is None
            if frame is not None:
                yield self._shot(frame, key_frame=True, end_s=None)

    def _alone(self, packet: VideoPacket) -> VideoFrame | None:
        frame = self._decoder.alone([packet])
        if not self._media.seekable and self._may_be_field(frame):
            second = self._media.read()
            if second is not None:
                self._media.unread([second])
                if second.pts is None or packet.pts is None or second.pts >= packet.pts:
                    frame = self._decoder.alone([packet, second])
        return frame

    def _may_be_field(self, frame: VideoFrame | None) -> bool:
        """Tell whether the other half of a picture may be in the next packet."""
        context = self._media.stream.codec_context
        return context.name == "h264" and (frame.interlaced_frame if frame else context.field_order > 1)

    def _marked_keyframes(self, first: int) -> Iterator[Shot]:
        self._ahead.aim((first,), more=True)
        self._go_to(first)
        shot: Shot | None = self.current()
        while shot is not None:
            if shot.key_frame and shot.pts >= first:
                yield shot
            shot = self.following()

    # --- the way to a frame

    def _go_to(self, threshold: int) -> None:
        """Make the last good frame at or before `threshold` the current one, else the first good one."""
        limit = threshold
        while True:
            try:
                self._decode_to(threshold, limit)
            except SpoiledError as spoiled:
                self._again(spoiled)
                continue
            run_pts = self._ahead.run_pts
            if run_pts is None or (self._current is not None and run_pts <= _pts(self._current) <= threshold):
                return
            limit = run_pts - 1
            if self._current is not None and limit <= _pts(self._current) <= threshold:
                return
            self._rewind()

    def _decode_to(self, threshold: int, limit: int) -> None:
        if self._approach(threshold, limit):
            return
        while True:
            if self._ahead.fill(limit, anew=False):
                self._restart()
            if self._reached(threshold):
                return
            if not self.damaged and self._ahead.is_parting(self.origin_pts):
                self._decoder.drain()
                self._parted = True
                self._reached(threshold)
                return
            self._decode_one()

    def _approach(self, threshold: int, limit: int) -> bool:
        """Read on until packets tell the frame, and start where it has to be started; tell whether it is there."""
        if self._reached(threshold):
            return True
        self._read_on(limit)
        if self._ahead.doubled:
            raise SpoiledError(Spoiled.UNORDERED)
        if self._parted or (self._ahead.complete and self._ahead.target in self._decoder.skipped):
            self._ahead.back_up(limit, self.origin_pts)
            self._restart()
        return False

    def _read_on(self, limit: int) -> None:
        begun = self._ahead.seek(limit, self.origin_pts)
        begun |= self._ahead.fill(limit, anew=self._parted)
        if begun:
            self._restart()

    def _reached(self, threshold: int) -> bool:
        """Move to the last ready frame at or before `threshold`; tell whether no later one can be."""
        ready = self._decoder.ready
        while ready and (self._current is None or _pts(ready[0]) <= threshold):
            self._current = ready.popleft()
        complete = self._ahead.complete
        if complete and self._current is not None and _pts(self._current) == self._ahead.target:
            return True
        if complete and self._ahead.target in self._decoder.skipped:
            return False
        if self._parted:
            return self._ahead.is_taken(threshold)
        if ready or self._decoder.drained:
            return True
        return self._current is not None and _pts(self._current) > threshold

    def _decode_one(self) -> None:
        held = self._ahead.take()
        if held is None:
            self._decoder.drain()
        else:
            self._decoder.send(held, self._ahead.needs)

    def _decode_next(self) -> None:
        self._ahead.aim((), more=True)
        while not self._decoder.ready and not self._decoder.drained:
            self._decode_one()

    def _again(self, spoiled: SpoiledError) -> None:
        self._decoder.change(spoiled.reason)
        self._ahead.timed &= spoiled.reason is not Spoiled.UNORDERED
        if spoiled.reason is Spoiled.UNCLEAN:
            self._ahead.trusted = Access.RESET
        self._rewind()

    def _rewind(self) -> None:
        self._ahead.rewind()
        self._restart()

    def _restart(self) -> None:
        self._decoder.restart()
        self._parted = False

    # --- what is given

    def current(self) -> Shot:
        """Return the frame last given again, with the stream's end if that is known by now."""
        frame = self._current
        if frame is None:
            raise self._nothing()
        check_size(frame.width, frame.height, self._limits)
        pts = _pts(frame)
        last = self._decoder.drained and not self._decoder.ready and self._ahead.is_last(pts)
        end_s = self.seconds(pts + self._media.shown_for(frame.duration)) if last else None
        marked = sent_as(frame).access >= Access.ALONE if self._media.context.name in UNMARKED else frame.key_frame
        return self._shot(frame, key_frame=bool(marked), end_s=end_s)

    def _shot(self, frame: VideoFrame, *, key_frame: bool, end_s: Fraction | None) -> Shot:
        shown = self._media.presentation
        aspect = shown.aspect_of(sent_as(frame).aspect)
        return Shot(frame, _pts(frame), self.seconds(_pts(frame)), key_frame, end_s, aspect, shown.margins)

    def _nothing(self) -> TaskError:
        return TaskError(Code.CORRUPT_MEDIA, f"no frame of the video could be decoded ({self.damaged} damaged packets)")


def _pts(frame: VideoFrame) -> int:
    assert frame.pts is not None, "accepted frames have a pts"  # noqa: S101
    return frame.pts
