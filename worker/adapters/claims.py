"""What a decoder may say of a capture: each message judged by the plan that it was given.

A decoder works on hostile media, and one that a file has taken over says what it likes. What passes here can be stored,
told and counted as it is; whether a picture is the right one cannot be judged. Pure: knows no processes and no slots.
"""

import re
from collections.abc import Callable
from typing import Any

from worker.adapters import wire
from worker.adapters.wire import WireError
from worker.errors import Code
from worker.media.parts import are_sound
from worker.media.plan import (
    CapturePlan,
    Cuts,
    EntryPlan,
    EntryReport,
    Image,
    Mode,
    PartEvent,
    Progress,
    Report,
    ScaleType,
    Warn,
)

HASHES = 2**64
MAX_COUNT = 2**63  # also of ticks, which containers count in 64 bits
MAX_SIDE = 2**31
MAX_NAME = 100
MAX_MESSAGE = 2000
MAX_WARNINGS = 8
STAGES = frozenset({"probe", "decode", "encode"})
_FINAL = frozenset({
    Code.INVALID_ARGUMENT, Code.LIMIT_EXCEEDED, Code.RESOURCE_NOT_FOUND, Code.UNSUPPORTED_MEDIA, Code.CORRUPT_MEDIA,
})  # fmt: skip
_OWN = frozenset({Code.TIMEOUT, Code.INTERNAL_ERROR})  # of the decoder itself: another try may go better
_SHA256 = re.compile("[0-9a-f]{64}")
_WARNING = re.compile("[A-Za-z]{1,64}")

Said = PartEvent | wire.Read | wire.Expect | wire.Failure


class Claims:
    """Judges what one decoder says of one capture, or of a part of one, in the order in which it says it.

    `longest_s` is more than it can have been at work.
    """

    def __init__(self, plan: CapturePlan, source_bytes: int, longest_s: float) -> None:
        self.max_image_bytes = plan.limits.max_image_bytes
        self._source_bytes = source_bytes
        self._longest_s = longest_s
        self._max_decoded = 2 * plan.limits.max_decoded_frames + MAX_NAME  # it stops soon after the limit, not at it
        self._may_cut = plan.may_split
        most, continues = plan.limits.max_frames_per_entry, plan.part.start_s > 0
        self._entries = [_Entry(entry, most, continues=continues) for entry in plan.entries]
        self._checks: dict[type[Any], Callable[[Any], None]] = {
            Image: self._image,
            Progress: self._progress,
            Cuts: self._cuts,
            Report: self._report,
            wire.Read: self._read,
            wire.Expect: self._expect,
            wire.Failure: _failure,
        }

    def check(self, message: wire.FromDecoder) -> Said:
        """Give the message back if a sound decoder could say it now. Raises `WireError` for any other."""
        if isinstance(message, wire.Ready | wire.Started | wire.Alive):
            raise WireError("a second start")
        self._checks[type(message)](message)
        return message

    def _image(self, image: Image) -> None:
        self._may_cut = False
        if not 0 <= image.entry < len(self._entries):
            raise WireError(f"an image of entry {image.entry} of {len(self._entries)}")
        self._entries[image.entry].check(image)

    def _progress(self, progress: Progress) -> None:
        self._may_cut = False
        if not 0 <= progress.fraction <= 1:
            raise WireError(f"progress {progress.fraction}, which goes from 0 to 1")

    def _cuts(self, cuts: Cuts) -> None:
        if not (self._may_cut and are_sound(cuts) and (cuts.video_end_s is None or cuts.video_end_s >= 0)):
            raise WireError(f"{len(cuts.times_s)} cuts")
        self._may_cut = False  # told once

    def _read(self, wanted: wire.Read) -> None:
        if not (0 < wanted.size <= wire.MAX_READ_BYTES and 0 <= wanted.offset <= self._source_bytes - wanted.size):
            raise WireError(f"a read of {wanted.size} bytes at {wanted.offset} of {self._source_bytes}")

    def _expect(self, told: wire.Expect) -> None:
        count, ranges = len(told.offsets), list(zip(told.offsets, told.sizes, strict=False))
        inside = all(size > 0 and 0 <= offset <= self._source_bytes - size for offset, size in ranges)
        if not (len(told.sizes) == count <= wire.MAX_RANGES and inside):
            raise WireError(f"{count} ranges to read of {self._source_bytes} bytes: {ranges!r:.80}")

    def _report(self, report: Report) -> None:
        if len(report.entries) != len(self._entries):
            raise WireError(f"a report on {len(report.entries)} of {len(self._entries)} entries")
        for entry, claimed in zip(self._entries, report.entries, strict=True):
            entry.check_report(claimed)
        counts = (report.width, report.height, report.packets_read, report.seeks, report.damaged, report.frames_decoded)
        if min(counts) < 0 or max(counts) >= MAX_COUNT or report.frames_decoded > self._max_decoded:
            raise WireError(f"a report with the counts {counts!r:.200}")
        if not (_is_name(report.container) and _is_name(report.codec)):
            raise WireError(f"a report on {report.container!r:.80} with {report.codec!r:.80}")
        times_s = report.stage_s.values()
        if not (report.stage_s.keys() <= STAGES and all(0 <= spent_s <= self._longest_s for spent_s in times_s)):
            raise WireError(f"a report with the times {report.stage_s!r:.200}")


class _Entry:
    """One entry of the plan. `continues`: an earlier part has begun with it."""

    def __init__(self, plan: EntryPlan, max_frames: int, *, continues: bool) -> None:
        number = plan.selection.number
        self._requested = (number, 1)  # 1 of a cover
        self._most = min(number or max_frames, max_frames)
        self._hashes = plan.selection.mode is Mode.DHASH
        self._may_be_unscored = continues and self._hashes  # the first sample, which has no number then
        self._last_only = plan.last_only
        self._last = 0
        self._rendition = plan.rendition

    def check(self, image: Image) -> None:
        if not self._is_next(image.index):
            raise WireError(f"an image {image.index} after {self._last}, where at most {self._most} are asked for")
        fits, wanted = self._rendition.scale_type is ScaleType.FIT, self._rendition
        if not (_is_side(image.width, wanted.width, fits) and _is_side(image.height, wanted.height, fits)):
            raise WireError(f"an image of {image.width}x{image.height} pixels")
        if not (image.data and _SHA256.fullmatch(image.sha256)):
            raise WireError(f"an image of {len(image.data)} bytes with the checksum {image.sha256!r:.80}")
        if image.time_s.numerator < 0 or not -MAX_COUNT <= image.source_pts < MAX_COUNT:
            raise WireError(f"an image at {image.time_s!s:.80} s, tick {image.source_pts}")
        scored = image.score is None or 0 <= image.score <= 100
        if not (_is_hash(image.dhash) and scored) or (not self._hashes and (image.dhash, image.score) != (None, None)):
            raise WireError(f"an image with the hash {image.dhash!s:.80} and the score {image.score!s:.80}")

    def _is_next(self, index: int) -> bool:
        """Tell whether it is the next image's number; of one that stands for all the highest, which is not known."""
        first, self._may_be_unscored = self._may_be_unscored, False
        if index == 0 and first:
            return True
        if not (1 <= index <= self._most and (self._last == 0 if self._last_only else index == self._last + 1)):
            return False
        self._last = index
        return True

    def check_report(self, claimed: EntryReport) -> None:
        if not (claimed.requested in self._requested and 0 <= claimed.count <= self._most):
            raise WireError(f"a report of {claimed.count} images of {claimed.requested}")
        if not _is_hash(claimed.last_dhash):
            raise WireError(f"a report with the hash {claimed.last_dhash!s:.80}")
        if claimed.error_code not in _FINAL | {""} or len(claimed.error_message) > MAX_MESSAGE:
            raise WireError(f"a report with the error {claimed.error_code}: {claimed.error_message:.80}")
        if len(claimed.warnings) > MAX_WARNINGS or not all(map(_is_warning, claimed.warnings)):
            raise WireError(f"a report with the warnings {claimed.warnings!r:.200}")


def _failure(failure: wire.Failure) -> None:
    if failure.code not in (_OWN if failure.retryable else _FINAL | _OWN):
        raise WireError(f"a failure {failure.code}, retryable {failure.retryable}: {failure.message:.80}")


def _is_side(side: int, wanted: object, fits: bool) -> bool:  # noqa: FBT001
    if not isinstance(wanted, int):  # a share of what only the decoder has seen
        return 1 <= side < MAX_SIDE
    return 1 <= side <= wanted if fits else side == wanted


def _is_hash(bits: int | None) -> bool:
    return bits is None or 0 <= bits < HASHES


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and text.isprintable()


def _is_warning(warning: Warn) -> bool:
    return _WARNING.fullmatch(warning.code) is not None and len(warning.message) <= MAX_MESSAGE // 2
