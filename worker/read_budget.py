"""How much may be read of one source in an attempt, over all its objects. Knows only numbers."""

from worker.errors import over_limit
from worker.limits import MIB

FREE_BYTES = 64 * MIB
"""Bytes that may be read of any source: a small one may be read often, since that costs little."""


class ReadBudget:
    """Counts the `requests` to the store, and the `bytes` that they asked for.

    `ratio` times the size of all that was opened may be read, or `FREE_BYTES` where that is more.
    """

    def __init__(self, ratio: float, max_requests: int) -> None:
        self.requests = 0
        self.bytes = 0
        self._size = 0
        self._ratio = ratio
        self._max_requests = max_requests

    def open(self, size: int) -> None:
        """Note that an object of `size` bytes is a part of the source."""
        self._size += size

    def spend(self, size: int) -> None:
        """Count a request for `size` bytes, about to be made. Raises `LimitExceeded`."""
        self.requests += 1
        self.bytes += size
        if self.requests > self._max_requests:
            what = f"the source would be read in {self.requests} requests"
            raise over_limit(what, "LIMITS__READ_REQUESTS", self._max_requests)
        if self.bytes > max(self._ratio * self._size, FREE_BYTES):
            what = f"{self.bytes} bytes would be read of a source of {self._size}, again and again"
            raise over_limit(what, "LIMITS__READ_RATIO", f"{self._ratio:g}")
