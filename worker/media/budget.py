"""How many frames may be decoded for one source, over all its openings. Knows only numbers."""

from worker.errors import over_limit
from worker.media.plan import Limits


class Budget:
    """Counts the frames that are decoded for one source, `spent`, however often it is opened on the way."""

    def __init__(self, limits: Limits) -> None:
        self.spent = 0
        self._limit = limits.max_decoded_frames

    def spend(self) -> None:
        """Count one more. Raises `LimitExceeded` above the limit."""
        self.spent += 1
        if self.spent > self._limit:
            what = f"more than {self._limit} frames would have to be decoded"
            raise over_limit(what, "LIMITS__DECODED_FRAMES", self._limit)
