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
        self._accesses: deque[tuple[int, Held]] = deque()  # numbered by all that was put in

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._queue)

    def has(self, pts: int, ticks: Fraction | int = 1) -> bool:
        """Tell whether a packet of that time, or of those `ticks` from it on, is waiting."""
        if ticks == 1:
            return pts in self._times
        return any(each is not None and 0 <= each - pts < ticks for each in self._times)

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
        pts = held.packet.pts
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
