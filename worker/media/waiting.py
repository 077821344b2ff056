"""Packets that were read and are still to be decoded, in order."""

from collections import Counter, deque
from collections.abc import Iterator
from fractions import Fraction

from worker.media.decoder import Held


class Waiting:
    """A queue of packets that knows how large it is, `size_bytes`, and which times and accesses are in it."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._queue: deque[Held] = deque()
        self._times: Counter[int | None] = Counter()
        self._taken = 0
        self._newest: int | None = None  # the time of the packet last taken
        self._accesses: deque[tuple[int, Held]] = deque()  # numbered by all that was put in

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._queue)

    def has(self, pts: int) -> bool:
        """Tell whether a packet of that time is waiting."""
        return pts in self._times

    def has_other_half(self, pts: int, ticks: Fraction) -> bool:
        """Tell whether the other half of the frame of `pts` may be waiting, or unread, as a packet of its own.

        It stands right behind the first half, and is shown at most `ticks` later.
        """
        if self._newest != pts:
            return False
        second = self._queue[0].packet.pts if self._queue else pts
        return second is not None and 0 <= second - pts <= ticks

    def accesses(self) -> Iterator[tuple[int, Held]]:
        """Yield the places and packets from which anything can be decoded: few, where many may be waiting."""
        return ((number - self._taken, held) for number, held in self._accesses)

    def put(self, held: Held) -> None:
        """Add a packet behind all others."""
        if held.access:
            self._accesses.append((self._taken + len(self._queue), held))
        self._queue.append(held)
        self._times[held.packet.pts] += 1
        self.size_bytes += held.packet.size

    def take(self) -> Held:
        """Remove the first packet and return it. Raises `IndexError` when there is none."""
        held = self._queue.popleft()
        pts = self._newest = held.packet.pts
        if self._times[pts] == 1:
            del self._times[pts]
        else:
            self._times[pts] -= 1
        self.size_bytes -= held.packet.size
        if self._accesses and self._accesses[0][0] == self._taken:
            self._accesses.popleft()
        self._taken += 1
        return held

    def clear(self) -> None:
        """Remove all."""
        self._queue.clear()
        self._times.clear()
        self._accesses.clear()
        self._taken = self.size_bytes = 0
        self._newest = None
