"""How many images an entry may give and keep back, and what is said of them: the same for a capture and for its parts.

Knows no pixels, containers or codecs.
"""

from fractions import Fraction

from worker.errors import Code, TaskError, over_limit
from worker.media.plan import Image, Mode, Selection
from worker.media.select import Best

HELD_BYTES = 256 * 2**20
"""Images that the entries of a capture keep back until the best of them are known, at most, all together."""

JOINED_BYTES = 32 * 2**20
"""The same of a capture in parts, whose images are kept back by the process that all captures share."""


class Held:
    """The bytes of images that several entries keep back, of which `max_bytes` are allowed."""

    def __init__(self, max_bytes: int | None = None) -> None:
        self.max_bytes = HELD_BYTES if max_bytes is None else max_bytes
        self.size_bytes = 0


class BestImages:
    """The `number` images of highest score, in the memory that is `held` by several entries."""

    def __init__(self, number: int, held: Held) -> None:
        self._number = number
        self._best: Best[Image] = Best(number)
        self._bytes = 0
        self._held = held

    def admits(self, score: Fraction) -> bool:
        """Whether an image of this score, coming now, belongs to the best so far."""
        return self._best.admits(score)

    def add(self, score: Fraction, image: Image) -> None:
        """Keep an image that `admits` let through.

        Raises `LimitExceeded`, and lets all go, where those of all entries take too much memory.
        """
        dropped = self._best.add(score, image)
        self._grow(len(image.data) - (len(dropped.data) if dropped else 0))
        if self._held.size_bytes > self._held.max_bytes:
            self._grow(-self._bytes)
            self._best = Best(self._number)
            message = (
                f"with the {self._number} best images of this entry, all entries keep more than "
                f"{self._held.max_bytes >> 20} MiB while they choose; a smaller Number, Width, Height or Quality "
                "takes less"
            )
            raise TaskError(Code.LIMIT_EXCEEDED, message)

    def _grow(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        self._held.size_bytes += size_bytes

    def in_order(self) -> list[Image]:
        """Return what is kept, in the order it came."""
        return self._best.in_order()


def is_ranked(selection: Selection) -> bool:
    """Tell whether an entry gives its images only once the best are known."""
    return selection.mode is Mode.DHASH and selection.number > 0


def ranked(selection: Selection, held: Held) -> BestImages | None:
    """Make the ranking of an entry that needs one; None for all others. `held` is for all entries."""
    return BestImages(selection.number, held) if is_ranked(selection) else None


def check_number(found: int, max_frames: int) -> None:
    """Raise `LimitExceeded` where an entry that has `found` images already comes to another."""
    if found >= max_frames:
        what = f"the entry gives more than {found} frames, of which the first are stored"
        raise over_limit(what, "LIMITS__FRAMES_PER_ENTRY", max_frames)


def damaged_message(number: int) -> str:
    """Say what the warning `FrameDamaged` is about."""
    return f"{number} damaged packets or frames were skipped for the nearest good ones"


def no_image(selection: Selection) -> TaskError:
    """Make the error of an entry that came to no image."""
    return TaskError(Code.INVALID_ARGUMENT, _why_empty(selection))


def _why_empty(selection: Selection) -> str:
    if selection.mode is Mode.DHASH:
        return f"no sample changed by more than Threshold {selection.threshold} percent; a lower one keeps some"
    if selection.mode is Mode.KEYFRAME:
        return f"no frame decodes on its own at or after StartTime {float(selection.start_s):g} s"
    return "the entry gave no frame"
