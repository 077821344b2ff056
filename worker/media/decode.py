"""The frame on screen at each wanted time: from seconds to frames, and what is told of them.

Knows no packets; how frames are found is `worker.media.finder`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame

from worker.media.access import Access
from worker.media.ahead import SEEK_AHEAD_S
from worker.media.budget import Budget
from worker.media.container import Media, check_size
from worker.media.decoder import SpoiledError, sent_as
from worker.media.finder import FrameFinder, pts_of
from worker.media.geometry import NO_MARGINS, Margins
from worker.media.keyframes import lone_keyframes
from worker.media.plan import Limits

TOLERANCE_S = Fraction(1, 1000)
"""Containers that count in milliseconds round times; at most half a frame."""

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

    def __init__(
        self, media: Media, limits: Limits, origin_pts: int | None = None, budget: Budget | None = None
    ) -> None:
        """Start at the file's beginning; without `origin_pts` the first frame's pts, decoded at once, is time 0.

        `budget` is what may be decoded for the source as a whole, by default for this reader.
        """
        self.tolerance_s = min(TOLERANCE_S, media.frame_interval_s() / 2)
        self._media = media
        self._limits = limits
        self._time_base = media.time_base
        self._finder = FrameFinder(media, budget or Budget(limits), origin_pts)
        self.origin_pts = self._finder.origin_pts

    @property
    def damaged(self) -> int:
        """How many packets and frames were left out because they are damaged."""
        return self._finder.decoder.damaged

    @property
    def astray(self) -> bool:
        """Whether a start turned out to need what came before it."""
        return self._finder.astray

    @property
    def position_s(self) -> Fraction:
        """The time of the frame last given, for telling progress."""
        frame = self._finder.current
        return Fraction(0) if frame is None else self._seconds(pts_of(frame))

    def _seconds(self, pts: int | Fraction) -> Fraction:
        return (pts - self.origin_pts) * self._time_base

    def _threshold(self, time_s: Fraction) -> int:
        """The greatest pts that counts as at or before `time_s`."""
        return self.origin_pts + int((time_s + self.tolerance_s) // self._time_base)

    def at(self, time_s: Fraction, then_s: Sequence[Fraction] = (), *, more: bool = True) -> Shot:
        """Return the frame on screen at `time_s`, which must not be less than before.

        Before the first frame: the first; after the end: the last. `then_s` are the times that are wanted next, as far
        as they are known, in order; without `more` they are all. Raises `CorruptMedia` when nothing decodes.
        """
        self._finder.go_to(self._aim(time_s, then_s, more=more))
        return self.current()

    def ended_by(self, time_s: Fraction, then_s: Sequence[Fraction] = (), *, more: bool = True) -> Fraction | None:
        """Tell where the video ends, in seconds, if packets show that it is not after `time_s`; decodes nothing.

        To be asked before `at`, with the same arguments.
        """
        end_pts = self._finder.ended_by(self._aim(time_s, then_s, more=more))
        if end_pts is None or time_s + self.tolerance_s < self._seconds(end_pts):
            return None
        return self._seconds(end_pts)

    def _aim(self, time_s: Fraction, then_s: Sequence[Fraction], *, more: bool) -> int:
        wanted = [self._threshold(each) for each in (time_s, *then_s)]
        self._finder.aim(wanted, more=more)
        return wanted[0]

    def following(self) -> Shot | None:
        """Return the frame after the one last given, or None at the end."""
        return self.current() if self._finder.go_on() else None

    def keyframes(self, start_s: Fraction) -> Iterator[Shot]:
        """Yield each frame from `start_s` on that decodes on its own: from its packet alone, where that works."""
        first = self.origin_pts + -int((self.tolerance_s - start_s) // self._time_base)
        if self._finder.is_begun:
            self._finder.rewind()
        while True:
            try:
                for shot in self._keyframes_from(first):
                    yield shot
                    first = shot.pts + 1
                return
            except SpoiledError as spoiled:
                self._finder.again(spoiled)

    def _keyframes_from(self, first: int) -> Iterator[Shot]:
        if not self._finder.timed or self.astray:
            yield from self._marked_keyframes(first)
            return
        start = first if self._seconds(first) > SEEK_AHEAD_S else None
        for frame in lone_keyframes(self._media, self._finder.decoder, first, start):
            yield self._shot(frame, key_frame=True, end_s=None)

    def _marked_keyframes(self, first: int) -> Iterator[Shot]:
        self._finder.aim((first,), more=True)
        self._finder.go_to(first)
        shot: Shot | None = self.current()
        while shot is not None:
            if shot.key_frame and shot.pts >= first:
                yield shot
            shot = self.following()

    def current(self) -> Shot:
        """Return the frame last given again, with the stream's end if that is known by now."""
        frame = self._finder.current
        if frame is None:
            raise self._finder.nothing()
        check_size(frame.width, frame.height, self._limits)
        end_s = None
        if self._finder.is_at_last:
            end_s = self._seconds(self._finder.last_end(frame))
        marked = sent_as(frame).access >= Access.ALONE if self._media.context.name in UNMARKED else frame.key_frame
        return self._shot(frame, key_frame=bool(marked), end_s=end_s)

    def _shot(self, frame: VideoFrame, *, key_frame: bool, end_s: Fraction | None) -> Shot:
        shown = self._media.presentation
        pts = pts_of(frame)
        aspect = shown.aspect_of(sent_as(frame).aspect)
        return Shot(frame, pts, self._seconds(pts), key_frame, end_s, aspect, shown.margins)
