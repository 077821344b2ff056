"""A run: media whose timestamps go on by themselves, which is a whole file, or segments without a discontinuity.

Owns where a run begins and ends, and at which of its segments to start so that only those that are needed are read.
A file that is one piece is always opened at its start. Knows nothing of other runs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from typing import BinaryIO, cast

from worker.errors import Code, TaskError
from worker.media.access import Access
from worker.media.budget import Budget
from worker.media.container import Media, VideoPacket
from worker.media.decode import TOLERANCE_S, FrameReader
from worker.media.plan import Limits
from worker.media.segments import Segment, SegmentStream, read_table
from worker.media.timeline import end_pts, first_pts, has_order, key_pts

WRAP = 2**33
"""MPEG-TS counts time in 33 bits: after 26.5 hours it starts at 0 again."""

MISLED_S = 1
MISLED_SHARE = 0.01
MISLED_MAX_S = 5
"""How far a segment may lie from where the durations before it put it: seconds, and a share of those durations for

rounding, together less than a jump of the clock that `Continuity` takes out.
"""


def runs_of(file: BinaryIO, limits: Limits, *, segmented: bool) -> tuple[Run, ...]:
    """Split a source into its runs; `segmented` says that it has the layout of `worker.media.segments`."""
    budget = Budget(limits)
    if not segmented:
        return (Run(file, limits, budget),)
    groups = groupby(read_table(file), lambda segment: segment.run)
    return tuple(Run(file, limits, budget, tuple(segments)) for _, segments in groups)


class SegmentMedia(Media):
    """A run opened at one of its segments; with `near_pts`, set before reading, elsewhere than at the run's start.

    `near_pts` is where the segment plays at about: an MPEG-TS clock of 33 bits is brought to the multiple of `WRAP`
    that is nearest. Without it, times are as they are.
    """

    def __init__(self, stream: SegmentStream, limits: Limits, trusted: Access) -> None:
        self.near_pts: int | None = None
        self._trusted = trusted
        self._stream = stream
        super().__init__(cast("BinaryIO", stream), limits)

    def _open(self) -> None:
        super()._open()
        self.seekable = False
        self._shift: int | None = None

    @property
    def place(self) -> int:
        """The index of the segment that was read last."""
        return self._stream.place

    @property
    def truncated(self) -> bool:
        """No: segments are given as wholes."""
        return False

    def seek(self, pts: int) -> bool:  # noqa: ARG002
        """Do nothing: what lies ahead is come to by reading on."""
        return True

    def rewind(self) -> None:
        """Go back to where reading started."""
        super().rewind()
        if self.near_pts is not None:
            self.skip_to_start()

    def skip_to_start(self) -> VideoPacket | None:
        """Move to the next keyframe worth a start and return it, to be read again; None if there is none."""
        while (packet := self.read()) is not None:
            if packet.pts is not None and not packet.is_discard and self.access(packet) >= self._trusted:
                self.unread([packet])
                return packet
        return None

    def _join(self, packet: VideoPacket) -> VideoPacket:
        packet = super()._join(packet)
        time = packet.pts if packet.dts is None else packet.dts
        if self._shift is None and time is not None:
            wraps = self.near_pts is not None and self.format_name == "mpegts"
            self._shift = ((self.near_pts or 0) - time + WRAP // 2) // WRAP * WRAP if wraps else 0
        if self._shift:
            packet.pts = None if packet.pts is None else packet.pts + self._shift
            packet.dts = None if packet.dts is None else packet.dts + self._shift
        return packet


class Run:
    """One run of a source; `segments` is empty for a file that is one piece. Times are seconds from its first frame.

    `trusted` is what a packet must be worth to start at it amid the run; `budget` counts what is decoded of all runs.
    """

    def __init__(self, file: BinaryIO, limits: Limits, budget: Budget, segments: Sequence[Segment] = ()) -> None:
        self.trusted = Access.CLEAN
        self.budget = budget
        self._file = file
        self._limits = limits
        self._segments = segments
        self._origin_pts: int | None = None
        self._timed = True
        self._starts_s = [segment.start_s - segments[0].start_s for segment in segments]
        self.nominal_s = sum(segment.duration_s for segment in segments)

    def open(self, place: int = 0) -> Media:
        """Open the run at a segment. Raises what `Media` does."""
        return self._open(place) if self._segments else Media(self._file, self._limits)

    def _open(self, place: int) -> SegmentMedia:
        media = SegmentMedia(SegmentStream(self._file, self._segments, place), self._limits, self.trusted)
        if place and media.video is not None:
            media.near_pts = self.origin_pts + int(Fraction(self._starts_s[place]) / media.time_base)
        return media

    def reader(self, media: Media) -> FrameReader:
        """Make the reader of media of this run that has just been opened; notes where time 0 is."""
        if self._origin_pts is None:
            self._timed = has_order(media)
            self._origin_pts = first_pts(media)
        reader = FrameReader(media, self._limits, self._origin_pts, self.budget)
        self._origin_pts = reader.origin_pts
        return reader

    @property
    def origin_pts(self) -> int:
        """The pts of the first frame, from packets where they tell, else decoded."""
        if self._origin_pts is None:
            with self.open() as media:
                return self.reader(media).origin_pts
        return self._origin_pts

    # --- where to start

    def land(self, time_s: Fraction, media: Media) -> Media | None:
        """Open the run at a clean keyframe at or before `time_s`, if that saves reading segments.

        None where `media`, which is open, is best read on. Segments are found by their nominal durations, so what is
        found there is checked.
        """
        place, step = max(bisect_right(self._starts_s, time_s) - 1, 0), 1
        while isinstance(media, SegmentMedia) and self._timed and place > media.place + 1:
            with suppress(TaskError):  # a segment that cannot be opened alone may still be read through
                landed = self._open(place)
                if self._is_start(landed, place, time_s):
                    return landed
                landed.container.close()
            place, step = place - step, 2 * step
        return None

    def _is_start(self, media: SegmentMedia, place: int, time_s: Fraction) -> bool:
        start = None if media.video is None else media.skip_to_start()
        if start is None or start.pts is None:
            return False
        start_s = (start.pts - self.origin_pts) * media.time_base
        return start_s <= time_s and self._is_plausible(place, start_s)

    def _is_plausible(self, place: int, start_s: Fraction) -> bool:
        """Tell whether a segment starts about where the playlist says.

        Otherwise the playlist misleads, or hides a discontinuity, and only reading from the start on tells the truth.
        """
        nominal_s = self._starts_s[place]
        return abs(float(start_s) - nominal_s) <= min(MISLED_S + MISLED_SHARE * nominal_s, MISLED_MAX_S)

    # --- facts

    @cached_property
    def is_dead(self) -> bool:
        """Whether not one frame of the run can be decoded. Raises what storage raises."""
        try:
            with self.open() as media:
                if media.video is not None:
                    self.reader(media).at(Fraction(0))
                return media.video is None
        except TaskError as error:
            if error.code not in (Code.CORRUPT_MEDIA, Code.UNSUPPORTED_MEDIA):
                raise
            return True

    @cached_property
    def length_s(self) -> Fraction:
        """Seconds to the end of the last frame, from packets where they carry times, else decoded."""
        if self._segments and self.is_dead:
            return Fraction(self.nominal_s)
        origin_pts = self.origin_pts  # asked before anything is open: two cannot read one file in turns
        for place in range(len(self._segments) - 1, 0, -1):
            with suppress(TaskError), self.open(place) as media:
                if media.video is not None and (end := end_pts(media)) is not None:
                    return (end - origin_pts) * media.time_base
        with self.open() as media:
            if (end := end_pts(media)) is not None:
                return (end - origin_pts) * media.time_base
        with self.open() as media:
            return _decoded_length_s(self.reader(media))

    def key_times(self, start_s: Fraction, end_s: Fraction | None = None) -> list[Fraction]:
        """List where the keyframes are that decode on their own, from `start_s` on; it may end at `end_s`."""
        origin_pts = self.origin_pts
        with self.open() as media, self.land(start_s, media) or media as start:
            if not has_order(start):
                return [shot.time_s for shot in self.reader(start).keyframes(start_s)]
            first = origin_pts + int((start_s - TOLERANCE_S) // start.time_base)
            last = None if end_s is None else origin_pts + int(end_s // start.time_base)
            return [(pts - origin_pts) * start.time_base for pts in key_pts(start, first, last)]


def _decoded_length_s(reader: FrameReader) -> Fraction:
    reader.at(Fraction(0))
    while reader.following() is not None:
        pass
    end_s = reader.current().end_s
    if end_s is None:
        raise TaskError(Code.CORRUPT_MEDIA, "the end of the video cannot be found")
    return end_s
