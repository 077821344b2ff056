"""The parts of a capture, joined: exactly what one capture of everything gives.

Owns what only all parts together can tell: an entry's numbering, its bounds and its best, and whether it came to
anything. Pure: knows no processes, pixels or codecs.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from worker.errors import Code, TaskError, over_limit
from worker.media.bounds import JOINED_BYTES, Held, check_number, damaged_message, no_image, ranked
from worker.media.plan import (
    CaptureEvent,
    CapturePlan,
    Cuts,
    EntryPlan,
    EntryReport,
    Image,
    Limits,
    Mode,
    Part,
    PartEvent,
    Progress,
    Report,
    Warn,
)
from worker.media.select import score

MAX_PARTS = 1000


def are_sound(cuts: Cuts) -> bool:
    """Tell whether there are cuts, not too many, and in order: they come from a decoder."""
    times_s = (Fraction(0), *cuts.times_s)
    return 1 < len(times_s) <= MAX_PARTS and all(before < after for before, after in pairwise(times_s))


def parts_of(cuts: Cuts) -> list[Part]:
    """Make the parts that lie between the cuts, in order."""
    borders = [Fraction(0), *cuts.times_s, None]
    return [Part(start_s or Fraction(0), end_s, cuts.video_end_s) for start_s, end_s in pairwise(borders)]


class Joined:
    """Feed it the events of all parts, part after part, with `add`; then `finish`."""

    def __init__(self, plan: CapturePlan) -> None:
        held = Held(JOINED_BYTES)
        self._entries = [_Entry(entry, plan.limits, held) for entry in plan.entries]
        self._limits = plan.limits
        self._told = 0.0
        self._reports: list[Report] = []

    @property
    def is_complete(self) -> bool:
        """Whether no entry needs anything more. Not before the first part has ended, which tells what the source is."""
        return bool(self._reports) and all(entry.is_complete for entry in self._entries)

    def add(self, event: PartEvent) -> Iterator[CaptureEvent]:
        """Take one event in, and yield what it comes to. Raises `LimitExceeded` for what all parts come to."""
        match event:
            case Image():
                yield from self._entries[event.entry].take(event)
            case Progress() if event.fraction > self._told:
                self._told = event.fraction
                yield event
            case Report():
                self._reports.append(event)
                for entry, report in zip(self._entries, event.entries, strict=True):
                    entry.end_part(report)
                self._check_decoded()

    def _check_decoded(self) -> None:
        limit = self._limits.max_decoded_frames
        if sum(report.frames_decoded for report in self._reports) > limit:
            raise over_limit(f"more than {limit} frames would have to be decoded", "LIMITS__DECODED_FRAMES", limit)

    def finish(self) -> Iterator[CaptureEvent]:
        """Yield the images that had to wait for the last part, and the one report."""
        for entry in self._entries:
            yield from entry.finish()
        stages: Counter[str] = Counter()
        for report in self._reports:
            stages.update(report.stage_s)
        damaged = sum(report.damaged for report in self._reports)
        yield replace(
            self._reports[0],
            entries=tuple(entry.report(damaged) for entry in self._entries),
            frames_decoded=sum(report.frames_decoded for report in self._reports),
            packets_read=sum(report.packets_read for report in self._reports),
            seeks=sum(report.seeks for report in self._reports),
            stage_s=dict(stages),
            damaged=damaged,
        )


class _Entry:
    """One entry over all parts."""

    def __init__(self, plan: EntryPlan, limits: Limits, held: Held) -> None:
        self._selection = plan.selection
        self._limits = limits
        self._count = 0
        self._error: TaskError | None = None
        self._warnings: dict[str, str] = {}
        self._hash: int | None = None
        self._last_pts: int | None = None
        self._best = ranked(plan.selection, held)

    @property
    def is_complete(self) -> bool:
        number = self._selection.number
        return self._error is not None or bool(number and self._best is None and self._count >= number)

    def take(self, image: Image) -> Iterator[Image]:
        """Take an image of the present part; yields it, as it is in the whole, unless it has to wait or go."""
        if self.is_complete:
            return
        try:
            kept = self._judged(image)
            if kept is not None and self._best is None:
                yield self._numbered(kept)
            elif kept is not None and kept.score is not None and self._best and self._best.admits(kept.score):
                self._best.add(kept.score, kept)
        except TaskError as error:
            self._error = error

    def _judged(self, image: Image) -> Image | None:
        """Score a part's first sample, and notice a frame that the part before has given too."""
        if self._selection.mode is Mode.DHASH:
            if image.score is None and image.dhash is not None:
                image = replace(image, score=score(image.dhash, self._hash))
            return image if image.score is not None and image.score > self._selection.threshold else None
        is_same, self._last_pts = image.source_pts == self._last_pts, image.source_pts
        if is_same and self._selection.mode is not Mode.INTERVAL:
            return None
        return replace(image, repeated=is_same)

    def _numbered(self, image: Image) -> Image:
        check_number(self._count, self._limits.max_frames_per_entry)
        self._count += 1
        return replace(image, index=self._count)

    def end_part(self, report: EntryReport) -> None:
        """Note how the entry ended in the present part."""
        if report.last_dhash is not None:
            self._hash = report.last_dhash
        for warning in report.warnings:
            self._warnings.setdefault(warning.code, warning.message)
        if report.error_code and not self.is_complete:
            self._error = TaskError(Code(report.error_code), report.error_message)

    def finish(self) -> Iterator[Image]:
        """Yield the best, and settle whether the entry came to anything."""
        try:
            if self._best is not None and self._error is None:
                for image in self._best.in_order():
                    yield self._numbered(image)
        except TaskError as error:
            self._error = error
        if self._error is None and not self._count:
            self._error = no_image(self._selection)

    def report(self, damaged: int) -> EntryReport:
        """Tell how the entry ended."""
        if "FrameDamaged" in self._warnings:
            self._warnings["FrameDamaged"] = damaged_message(damaged)
        warnings = tuple(Warn(code, message) for code, message in self._warnings.items())
        code, message = ("", "") if self._error is None else (self._error.code, self._error.message)
        return EntryReport(self._count, self._selection.number, warnings, code, message, self._hash)
