"""Which times and which scores: numbers in, chosen numbers out. Knows no pixels, containers or codecs."""

import heapq
from collections.abc import Iterator
from fractions import Fraction
from itertools import count, dropwhile, islice, takewhile
from math import ceil
from typing import Generic, TypeVar

Item = TypeVar("Item")


def grid(start_s: Fraction, interval_s: Fraction, number: int, first_s: Fraction | None = None) -> Iterator[Fraction]:
    """Yield start, start + interval, …: `number` times, or without end where it is 0. Exact: no error adds up.

    Of those, only the ones from `first_s` on.
    """
    skipped = 0
    if first_s is not None and interval_s > 0:
        skipped = max(ceil((first_s - start_s) / interval_s), 0)
    times = (start_s + k * interval_s for k in count(skipped))
    return islice(times, max(number - skipped, 0)) if number else times


def spread(start_s: Fraction, end_s: Fraction, number: int) -> Iterator[Fraction]:
    """Yield `number` times that divide [start, end) evenly, the first at the start."""
    return grid(start_s, (end_s - start_s) / number, number)


def within(times_s: Iterator[Fraction], first_s: Fraction, end_s: Fraction | None) -> Iterator[Fraction]:
    """Yield of growing times those in [first, end); `end_s` None means all from `first_s` on."""
    later = dropwhile(lambda time_s: time_s < first_s, times_s)
    return later if end_s is None else takewhile(lambda time_s: time_s < end_s, later)


def score(bits: int, previous: int | None) -> Fraction:
    """Percent of 64 hash bits that differ from the previous sample's; the first sample scores 100."""
    return Fraction(100) if previous is None else Fraction(100 * (bits ^ previous).bit_count(), 64)


class Best(Generic[Item]):
    """The `number` items of highest score, ties to the earlier, given back in the order they came.

    `admits` tells before the item is made whether it would be among the best so far, since making it is dear.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._heap: list[tuple[Fraction, int, Item]] = []
        self._seen = 0

    def admits(self, value: Fraction) -> bool:
        """Whether an item of this score, coming now, belongs to the best so far."""
        return len(self._heap) < self._number or value > self._heap[0][0]

    def add(self, value: Fraction, item: Item) -> Item | None:
        """Take in an item that `admits` let through; the worst leaves when there are too many, and is returned."""
        self._seen += 1
        heapq.heappush(self._heap, (value, -self._seen, item))
        return heapq.heappop(self._heap)[2] if len(self._heap) > self._number else None

    def in_order(self) -> list[Item]:
        """Return what is kept, in the order it came."""
        return [item for _, _, item in sorted(self._heap, key=lambda entry: -entry[1])]
