"""From chosen frames to numbered images: drawing, encoding, and what several frames under one key come to."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from time import perf_counter

from worker.errors import over_limit
from worker.media.bounds import BestImages, check_number
from worker.media.decode import Shot
from worker.media.encode import encode, size_of
from worker.media.plan import EntryPlan, Image, Limits
from worker.media.raster import Renderer


@dataclass(frozen=True, slots=True)
class Choice:
    """A frame that an entry chose, the media time that asked for it, and with dhash its hash and score."""

    shot: Shot
    asked_s: Fraction
    dhash: int | None = None
    score: Fraction | None = None


class Output:
    """The images of one entry, numbered from 1 in the order they are chosen.

    `start_s` is where the trimmed timeline starts. `encode_s` adds up the wall seconds of conversion and encoding.
    """

    def __init__(self, entry: int, plan: EntryPlan, limits: Limits, start_s: Fraction) -> None:
        self.stored = 0
        self.found = 0
        self.encode_s = 0.0
        self._entry = entry
        self._plan = plan
        self._limits = limits
        self._start_s = start_s
        self._renderer = Renderer(plan.rendition)
        self._last: tuple[Fraction, Image] | None = None
        self._held: Choice | None = None

    @property
    def aspect_changed(self) -> bool:
        """Whether a picture was distorted by giving one side alone."""
        return self._renderer.aspect_changed

    def add(self, choice: Choice) -> Iterator[Image]:
        """Yield the next image, or hold the frame back where only the last is stored. Raises `LimitExceeded`."""
        self._number()
        if self._plan.last_only:
            self._held = choice
            return
        if self._last is not None and self._last[0] == choice.shot.time_s:
            image = replace(self._last[1], requested_s=choice.asked_s - self._start_s, repeated=True)
        else:
            image = self.draw(choice)
        self._last = (choice.shot.time_s, image)
        self.stored += 1
        yield replace(image, index=self.found)

    def hold(self, choice: Choice, score: Fraction, best: BestImages) -> None:
        """Draw a frame that is among the best so far. Raises `LimitExceeded` where those take too much memory."""
        best.add(score, self.draw(choice))

    def best(self, best: BestImages) -> Iterator[Image]:
        """Yield the images that were ranked highest, in time order."""
        for image in best.in_order():
            self._number()
            if not self._plan.last_only:
                self.stored += 1
                yield replace(image, index=self.found)
        if self._plan.last_only and self.found:
            self.stored = 1
            yield replace(best.in_order()[-1], index=self.found)

    def finish(self) -> Iterator[Image]:
        """Yield the frame that was held back."""
        if self._held is not None:
            self.stored = 1
            yield replace(self.draw(self._held), index=self.found)

    def _number(self) -> None:
        check_number(self.found, self._limits.max_frames_per_entry)
        self.found += 1

    def draw(self, choice: Choice) -> Image:
        """Convert, scale and encode a frame; its index is still to be set."""
        started = perf_counter()
        shot, rendition = choice.shot, self._plan.rendition
        pixels = self._renderer.render(shot.frame, shot.aspect, shot.margins)
        data = encode(pixels, rendition.format, rendition.quality)
        if len(data) > self._limits.max_image_bytes:
            raise over_limit(f"an image has {len(data)} bytes", "LIMITS__IMAGE_BYTES", self._limits.max_image_bytes)
        width, height = size_of(pixels)
        sha256 = hashlib.sha256(data).hexdigest()
        self.encode_s += perf_counter() - started
        return Image(
            self._entry, 0, max(shot.time_s - self._start_s, Fraction(0)), choice.asked_s - self._start_s, shot.pts,
            shot.key_frame, width, height, data, sha256, choice.dhash, choice.score,
        )  # fmt: skip
