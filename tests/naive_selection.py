"""Which frames a capture has to give: the specification's section 3, written straight from its text.

Shares no code with the worker but its plain values, and the luma of a frame, which has tests of its own.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np

from tests.naive import Naive
from worker.media.plan import EntryPlan, Mode
from worker.media.scaler import luma


@dataclass
class Wanted:
    """A frame that an entry has to give."""

    index: int
    asked_s: Fraction
    repeated: bool = False
    hash: int | None = None
    score: Fraction | None = None


@dataclass
class Expected:
    """What an entry has to come to. Times count from the file's first frame."""

    frames: list[Wanted]
    error: str = ""
    warnings: set[str] = field(default_factory=set)


def expect(video: Naive, entry: EntryPlan, trim_start_s=Fraction(0), trim_duration_s=Fraction(0)) -> Expected:
    """Apply section 3 to one entry."""
    selection = entry.selection
    end_s = min(video.end_s, trim_start_s + trim_duration_s) if trim_duration_s else video.end_s
    start_s = trim_start_s + selection.start_s
    tolerance_s = video.tolerance_s
    if start_s + tolerance_s >= end_s and selection.mode is not Mode.KEYFRAME:
        if selection.mode is Mode.INTERVAL and selection.number == 1:
            return Expected([Wanted(video.on_screen(end_s - 2 * tolerance_s), start_s)], "", {"StartTimeClamped"})
        return Expected([], "InvalidArgument")
    wanted = _candidates(video, selection, start_s, end_s)
    if selection.mode is Mode.DHASH:
        wanted = _changes(video, selection, wanted)
    elif selection.number:
        wanted = wanted[: selection.number]
    for before, after in pairwise(wanted):
        after.repeated = before.index == after.index
    warnings = set()
    if entry.last_only and len(wanted) > 1:
        wanted, warnings = wanted[-1:], {"OutputOverwritten"}
        wanted[0].repeated = False
    return Expected(wanted, "" if wanted else "InvalidArgument", warnings)


def _candidates(video, selection, start_s, end_s):
    tolerance_s = video.tolerance_s
    times_s = video.times_s
    if selection.mode is Mode.KEYFRAME:
        return [
            Wanted(i, times_s[i])
            for i in sorted(video.keys)
            if start_s - tolerance_s <= times_s[i] and times_s[i] + tolerance_s < end_s
        ]
    if selection.mode is Mode.AVERAGE:
        wanted = []
        for k in range(selection.number):
            time_s = start_s + k * (end_s - start_s) / selection.number
            index = video.on_screen(time_s)
            if time_s + tolerance_s < end_s and (not wanted or wanted[-1].index != index):
                wanted.append(Wanted(index, time_s))
        return wanted
    if selection.interval_s < video.interval_s - tolerance_s:
        first = video.on_screen(start_s)
        later = [i for i in range(first + 1, len(times_s)) if times_s[i] + tolerance_s < end_s]
        # Of several frames that start together only the last is on screen.
        shown = [i for i in [first, *later] if i + 1 == len(times_s) or times_s[i] + tolerance_s < times_s[i + 1]]
        return [Wanted(i, max(start_s, times_s[i])) for i in shown]
    wanted = []
    while (time_s := start_s + len(wanted) * selection.interval_s) + tolerance_s < end_s:
        wanted.append(Wanted(video.on_screen(time_s), time_s))
    return wanted


def _changes(video, selection, samples):
    previous = None
    for sample in samples:
        if sample.index not in video.hashes:
            video.hashes[sample.index] = dhash(video.frames[sample.index].frame)
        sample.hash = video.hashes[sample.index]
        differing = (sample.hash ^ previous).bit_count() if previous is not None else 64
        sample.score = Fraction(100 * differing, 64)
        previous = sample.hash
    kept = [sample for sample in samples if sample.score > selection.threshold]
    if selection.number:
        best = sorted(kept, key=lambda sample: (-sample.score, sample.asked_s))[: selection.number]
        kept = sorted(best, key=lambda sample: sample.asked_s)
    return kept


def dhash(frame):
    """Luma as decoded, averaged over 9 columns and 8 rows; a bit where right exceeds left by more than 2 levels."""
    samples, depth = luma(frame)  # has tests of its own
    height, width = samples.shape
    cells = _shares(height, 8) @ samples.astype(np.int64) @ _shares(width, 9).T
    bits = 0
    for row in cells:
        for left, right in pairwise(row):
            bits = bits << 1 | bool(right - left > 2 * (1 << (depth - 8)) * height * width)
    return bits


def _shares(length, count):
    """For each of `count` equal parts of `length` samples: how much of each sample is in it, in `count`ths."""
    parts = [
        [max(min((k + 1) * length, (i + 1) * count) - max(k * length, i * count), 0) for i in range(length)]
        for k in range(count)
    ]
    return np.array(parts)
