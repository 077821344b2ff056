"""Packets that were read and are still to be decoded, in order."""

from collections import Counter, deque
from collections.abc import Iterator

from worker.media.decoder import Held


class Waiting:
    """A queue of packets that knows how large it is, `size_bytes`, and which times are in it."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._queue: deque[Held] = deque()
        self._times: Counter[int | None] = Counter()

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._queue)

    def has(self, pts: int) -> bool:
        """Tell whether a packet of that time is waiting."""
        return pts in self._times

    def put(self, held: Held) -> None:
        """Add a packet behind all others."""
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
        return held

    def clear(self) -> None:
        """Remove all."""
        self._queue.clear()
        self._times.clear()
        self.size_bytes = 0
