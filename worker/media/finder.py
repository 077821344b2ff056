"""From one frame of an open file to another, forwards, bit for bit as a decode from the file's start, at less decoding.

How it works. Wanted times only ever grow. `ReadAhead` finds the last clean keyframe at or before a wanted time; from
there `Decoder` decodes up to the wanted frame, without the H.264 and H.265 pictures on the way that nothing refers to.
Where that gives no good frame, since the file is damaged there, it is done again from an earlier keyframe. Where
packets carry no times, or times that do not grow in the order of the frames, everything is decoded in order from the
file's start.

Counts in the ticks of the stream; knows nothing of seconds and of what frames are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from av.video.frame import VideoFrame

from worker.errors import Code, TaskError
from worker.media.access import Access
from worker.media.ahead import ReadAhead
from worker.media.budget import Budget
from worker.media.container import Media
from worker.media.decoder import Decoder, Spoiled, SpoiledError
from worker.media.timeline import has_order, indexed_end, latest_pts

HIDDEN = frozenset({"vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d"})
"""Codecs with packets that show no frame: a packet's time does not promise one."""


class FrameFinder:
    """Demuxes and decodes an open `Media`. `current` is the frame last found, `origin_pts` the first frame's time.

    A threshold is a wanted time, given as the greatest pts that counts as at or before it.
    """

    def __init__(self, media: Media, budget: Budget, origin_pts: int | None) -> None:
        """Start at the file's beginning, whose first frame is decoded at once where `origin_pts` is not known."""
        self.current: VideoFrame | None = None
        self.decoder = Decoder(media, budget)
        self._media = media
        self._exact = media.stream.codec_context.name not in HIDDEN
        timed = has_order(media)
        self._latest_pts = latest_pts(media) if timed else None
        self._end_pts: Fraction | None = None
        self._ahead = ReadAhead(media, timed=timed, exact=self._exact, latest_pts=self._latest_pts)
        self._ahead.fields = self.decoder.fields
        self._parted = False
        if not timed:
            self.decoder.change(Spoiled.UNORDERED)
        self.origin_pts = self._ahead.origin_pts = self._first_pts() if origin_pts is None else origin_pts

    def _first_pts(self) -> int:
        while True:
            try:
                self._decode_next()
            except SpoiledError as spoiled:
                self.again(spoiled)
                continue
            if not self.decoder.ready:
                raise self.nothing()
            return pts_of(self.decoder.ready[0])

    @property
    def timed(self) -> bool:
        """Whether packets carry times to be trusted."""
        return self._ahead.timed

    @property
    def astray(self) -> bool:
        """Whether a start turned out to need what came before it."""
        return self._ahead.trusted is Access.RESET

    @property
    def is_begun(self) -> bool:
        """Whether anything was decoded."""
        return self.current is not None or bool(self.decoder.ready)

    @property
    def is_at_last(self) -> bool:
        """Whether no frame is shown after the current one, as far as that is known by now."""
        if self.current is None or self.decoder.ready or not self.decoder.drained:
            return False
        return self._ahead.is_last(pts_of(self.current))

    def last_end(self, frame: VideoFrame) -> Fraction:
        """Tell where the last frame ends, in ticks."""
        # Of a frame whose second half is a packet of its own, FFmpeg tells how long the first half is shown.
        told = self._ahead.end_pts if self.decoder.fields else None
        return told if told is not None else pts_of(frame) + self._media.shown_for(frame.duration)

    def nothing(self) -> TaskError:
        """Make the error of a file of which nothing decodes."""
        message = f"no frame of the video could be decoded ({self.decoder.damaged} damaged packets)"
        return TaskError(Code.CORRUPT_MEDIA, message)

    # --- what is asked

    def aim(self, thresholds: Sequence[int], *, more: bool) -> None:
        """Set what is wanted next, in order; with `more`, later times may follow."""
        self._ahead.aim(thresholds, more=more)

    def go_to(self, threshold: int) -> None:
        """Make the last good frame at or before `threshold` the current one, else the first good one."""
        self._expect(threshold)
        limit = threshold
        while True:
            try:
                self._decode_to(threshold, limit)
                self._check_found()
            except SpoiledError as spoiled:
                self.again(spoiled)
                continue
            run_pts = self._ahead.run_pts
            if run_pts is None or (self.current is not None and run_pts <= pts_of(self.current) <= threshold):
                return
            limit = run_pts - 1
            if self.current is not None and limit <= pts_of(self.current) <= threshold:
                return
            self.rewind()

    def ended_by(self, threshold: int) -> Fraction | None:
        """Tell where the last frame ends, if packets show that before the frame at `threshold` is decoded."""
        if not self._exact or self.decoder.damaged:
            return None
        try:
            if self._reached(threshold):
                return None
            self._expect(self._latest_pts)
            end_pts = self._indexed_end(threshold)
            if end_pts is None:
                self._read_on(threshold)
                end_pts = self._ahead.end_pts
        except SpoiledError as spoiled:
            self.again(spoiled)
            return None
        return None if self._media.read_errors else end_pts

    def go_on(self) -> bool:
        """Make the frame after the current one the current one; False at the end."""
        if self._parted:
            self.rewind()
            return self._go_on_again()
        given = self.current
        try:
            self._decode_next()
            if not self.decoder.ready:
                return False
            self.current = self.decoder.ready.popleft()
            self._decode_next()  # one more tells whether this is the last
        except SpoiledError as spoiled:
            self.again(spoiled)
            self.current = given
            return self._go_on_again()
        return True

    def _go_on_again(self) -> bool:
        """Find the frame after the current one, after another start."""
        given, self.current = self.current, None
        if given is None:
            return self.go_on()
        self._ahead.aim((pts_of(given),), more=True)
        self.go_to(pts_of(given))
        return (self.current is not None and pts_of(self.current) > pts_of(given)) or self.go_on()

    def again(self, spoiled: SpoiledError) -> None:
        """Go back to the start, to decode in the way that avoids what was spoiled."""
        self.decoder.change(spoiled.reason)
        self._ahead.timed &= spoiled.reason is not Spoiled.UNORDERED
        if spoiled.reason is Spoiled.UNCLEAN:
            self._ahead.trusted = Access.RESET
        self.rewind()

    def rewind(self) -> None:
        """Go back to the start."""
        self._ahead.rewind()
        self._restart()

    # --- the way to a frame

    def _expect(self, limit: int | None) -> None:
        """Announce what has to be read: for all that is wanted but what may lie past the end, unless up to `limit`."""
        ends = [pts for pts in (self._latest_pts, limit) if pts is not None]
        wanted = self._ahead.wanted
        self._media.expect([pts for pts in wanted if pts <= max(ends)] if ends else wanted)

    def _indexed_end(self, threshold: int) -> Fraction | None:
        """Find the end from the last packets, once a time is wanted that is hardly before it."""
        if self._end_pts is None and self._latest_pts is not None and self._latest_pts <= threshold:
            self._end_pts = indexed_end(self._media)
            if self._end_pts is None:  # and it need not be looked for again
                self._latest_pts = None
                self._ahead.back_up(threshold)
                self._restart()
            else:
                self._ahead.lose_place()
                self._parted = True
        return self._end_pts

    def _decode_to(self, threshold: int, limit: int) -> None:
        if self._approach(threshold, limit):
            return
        while True:
            if self._ahead.fill(limit, anew=False):
                self._restart()
            if self._reached(threshold):
                return
            if not self.decoder.damaged and self._ahead.is_parting():
                self.decoder.drain()
                self._parted = True
                self._reached(threshold)
                return
            self._decode_one()

    def _check_found(self) -> None:
        """Raise `SpoiledError` where the frame is not the one that packets tell of, and no damage says why."""
        if self.decoder.damaged or not self._ahead.complete:
            return
        target, start, frame = self._ahead.target, self._ahead.run_pts, self.current
        if target is None or (start is not None and target < start) or (frame is not None and pts_of(frame) == target):
            return
        if frame is None or not frame.interlaced_frame:  # half of a picture may be a packet with a time of its own
            raise SpoiledError(Spoiled.SKIPPED if self.decoder.skips else Spoiled.UNORDERED)

    def _approach(self, threshold: int, limit: int) -> bool:
        """Read on until packets tell the frame, and start where it has to be started; tell whether it is there."""
        if self._reached(threshold):
            return True
        self._read_on(limit)
        if self._ahead.doubled:
            raise SpoiledError(Spoiled.UNORDERED)
        if self._parted or (self._ahead.complete and self._ahead.target in self.decoder.skipped):
            self._ahead.back_up(limit)
            self._restart()
        return False

    def _read_on(self, limit: int) -> None:
        begun = self._ahead.seek(limit)
        begun |= self._ahead.fill(limit, anew=self._parted)
        if begun:
            self._restart()

    def _reached(self, threshold: int) -> bool:
        """Move to the last ready frame at or before `threshold`; tell whether no later one can be."""
        ready = self.decoder.ready
        while ready and (self.current is None or pts_of(ready[0]) <= threshold):
            self.current = ready.popleft()
        if self._ahead.complete:
            target = self._ahead.target
            if self.current is not None and pts_of(self.current) == target:
                return True
            if target in self.decoder.skipped:
                return False
        if self._parted:
            return self._ahead.is_taken(threshold)
        if ready or self.decoder.drained:
            return True
        return self.current is not None and pts_of(self.current) > threshold

    def _decode_one(self) -> None:
        held = self._ahead.take()
        if held is None:
            self.decoder.drain()
        else:
            self.decoder.send(held, self._ahead.needs)
            self._ahead.fields = self.decoder.fields

    def _decode_next(self) -> None:
        self._ahead.aim((), more=True)
        if self.current is not None:
            self._ahead.forget_before(pts_of(self.current))
        while not self.decoder.ready and not self.decoder.drained:
            self._decode_one()

    def _restart(self) -> None:
        self.decoder.restart()
        self._ahead.fields = self.decoder.fields
        self._parted = False


def pts_of(frame: VideoFrame) -> int:
    """Give the time of a frame that the decoder let through."""
    assert frame.pts is not None, "accepted frames have a pts"  # noqa: S101
    return frame.pts
