"""Times of packets and frames where the file's own cannot be taken as they are. Numbers only: no library, no media.

Both rules are FFmpeg's, so that a frame has the time that FFmpeg's tools show it at.
"""

from fractions import Fraction

MAX_JUMP_S = 10
MAX_STEP_BACK_S = Fraction(1, 10)


class Continuity:
    """Joins the clocks of a stream that was cut together from several, as `ts_discontinuity_process` of ffmpeg does."""

    def __init__(self, time_base: Fraction) -> None:
        """Times are in ticks of `time_base` seconds."""
        self._time_base = time_base
        self._offset = 0
        self._last: int | None = None
        self._next = 0

    def offset(self, dts: int | None, duration: int) -> int:
        """Take the next packet in decoding order; return the ticks to add to its times."""
        if dts is None:
            return self._offset
        if self._last is not None:
            jump = dts + self._offset - self._next
            back = self._last - (dts + self._offset)
            if abs(jump) * self._time_base > MAX_JUMP_S or back * self._time_base > MAX_STEP_BACK_S:
                self._offset -= jump
        self._last = dts + self._offset
        self._next = self._last + duration
        return self._offset


class BestEffort:
    """Times of frames in the order they are shown, never falling: `guess_correct_pts` of libavcodec, clamped.

    Frames have no pts in raw streams, and a wrong one where a container has lost the reordering of B-frames.
    """

    def __init__(self, interval: int) -> None:
        """`interval`: the ticks from one frame to the next where nothing else tells."""
        self._interval = interval
        self._last: int | None = None
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = 0
        self._faulty_dts = 0

    def time(self, pts: int | None, dts: int | None) -> int:
        """Give the time of the next frame."""
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        guess = pts if pts is not None and (dts is None or self._faulty_pts <= self._faulty_dts) else dts
        if self._last is None:
            self._last = 0 if guess is None else guess
        elif guess is None:
            self._last += self._interval
        else:
            self._last = max(guess, self._last)
        return self._last
