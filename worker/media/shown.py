"""When the frames of a run are shown, as far as its packets were read: which frame is on screen at a time.

Knows no packets' contents, no decoder and no seeks.
"""

from bisect import bisect_right, insort
from fractions import Fraction

REORDERED = 16
"""Frames that may be decoded before one that is shown earlier: no decoder keeps more (max_dec_frame_buffering)."""


class ShownTimes:
    """The times of a run's frames, in ticks, from its packets in decoding order.

    `ended` says that no packet follows. A wanted time is given as the greatest pts that counts as at or before it.
    Where nothing but a guess of FFmpeg's says when packets are decoded, `counts` is set: frames then count that are
    shown later, since no more of them than `REORDERED` can be decoded before one that is shown earlier.
    """

    def __init__(self, *, counts: bool = False) -> None:
        self._counts = counts
        self.ended = False
        self.last_dts: int | None = None
        self._times: list[int] = []  # in order
        self._end = Fraction(0)

    def clear(self) -> None:
        """Forget all times: another run begins."""
        self._times.clear()
        self.last_dts = None

    def forget_before(self, wanted: int) -> None:
        """Forget the times that no frame at `wanted` or later has."""
        del self._times[: max(bisect_right(self._times, wanted) - 2, 0)]

    def note(self, dts: int | None, pts: int | None, duration: Fraction) -> None:
        """Take in a packet; `pts` is None where it tells none, `duration` how long its frame is shown."""
        if dts is not None:
            self.last_dts = dts
        if pts is not None:
            insort(self._times, pts)
            if self._times[-1] == pts:
                self._end = pts + duration

    @property
    def end(self) -> Fraction | None:
        """Where the frame ends that is shown last, once all packets were read."""
        return self._end if self.ended and self._times else None

    def target(self, wanted: int) -> int | None:
        """The time of the frame at a wanted time, as far as packets tell."""
        place = bisect_right(self._times, wanted)
        return self._times[place - 1] if place else None

    def is_known(self, wanted: int) -> bool:
        """Tell whether no packet that is still to be read can belong at or before a time."""
        if self.ended or not self._times:
            return bool(self._times)
        if self._counts:
            return len(self._times) - bisect_right(self._times, wanted) > REORDERED
        return self.last_dts is not None and self.last_dts > wanted

    def is_last(self, pts: int) -> bool:
        """Tell whether no frame that is known is shown after `pts`."""
        return bool(self._times) and self._times[-1] == pts

    def is_doubled(self, wanted: int) -> bool:
        """Tell whether several frames are at the time of `target`, or so their packets say."""
        place = bisect_right(self._times, wanted)
        return place > 1 and self._times[place - 2] == self._times[place - 1]
