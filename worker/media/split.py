"""Where a long capture is cut into parts that several processes can do at once: at clean keyframes, by estimated work.

Owns the estimate, which is rough: it decides how long something takes, never what comes out. A part may start anywhere;
at a clean keyframe it decodes nothing that the part before it decodes too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, inf

from worker.media.access import Access
from worker.media.bounds import JOINED_BYTES, is_ranked
from worker.media.container import Media
from worker.media.geometry import side_of
from worker.media.plan import CapturePlan, EntryPlan, Mode
from worker.media.timeline import first_pts

DECODED_PIXELS_PER_S = 500e6
DRAWN_PIXELS_PER_S = 70e6
WORTH_S = 2.0
"""Estimated work below which nothing is cut."""

PIXEL_BYTES = 4
"""Of an image, at most: encoded it hardly takes more than its samples do."""

SHORTEST_S = 0.5
LONGEST_S = 3.0
"""Estimated work of one part. Long parts come first: short ones at the end let all processes end at about one time."""

SHARE = 10
"""How many parts as long as the next one would do the rest."""

MAX_PARTS = 64

KEYFRAMES_S, LONG_GOP_S = 1.0, 10.0
"""How near keyframes may be, and how far."""

ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Demand:
    """The times that an entry wants, in seconds from the first frame: `number` of them, each `step_s` from the last.

    `step_s` 0 stands for keyframes, of which at most `keyframes` are wanted. `drawn` is the share of times that become
    images.
    """

    start_s: float
    step_s: float
    end_s: float
    drawn: float
    keyframes: int = 0

    def times_in(self, start_s: float, end_s: float) -> tuple[int, float]:
        """Tell how many times lie in [start, end), and the last of them."""
        low, high = max(start_s, self.start_s), min(end_s, self.end_s)
        if not self.step_s:
            return int(low == start_s < high), start_s
        first, after = (ceil((border - self.start_s) / self.step_s - ROUNDING) for border in (low, high))
        return max(after - first, 0), self.start_s + (after - 1) * self.step_s


def find_cuts(media: Media, plan: CapturePlan, end_s: Fraction | None) -> tuple[Fraction, ...]:
    """Tell where to cut, in growing seconds from the first frame: nowhere where that is not worth it, or not known.

    `media` has just been opened, and is left so. `end_s` is where the video ends, if that is known.
    """
    length_s = float(end_s or _length_s(media))
    if plan.segmented or not media.seekable or any(entry.last_only for entry in plan.entries):
        return ()
    if _held_bytes(media, plan) > JOINED_BYTES:
        return ()
    demands = _demands(media, plan, length_s)
    if _at_most_s(media, demands) < WORTH_S:
        return ()
    origin = first_pts(media)
    if origin is None or media.truncated:
        return ()
    seeks = media.seeks
    keys = _indexed_keys(media, origin)
    borders = [float((key - keys[0]) * media.time_base) for key in keys]  # as if all were reordered as the first is
    demands = [_numbered(demand, borders) for demand in demands]
    works_s = [_work_s(media, demands, *gop) for gop in pairwise([*borders, max(length_s, borders[-1])])]
    chosen = _choose(works_s) if sum(works_s) >= WORTH_S else []
    last_s = max(demand.end_s for demand in demands)
    if chosen and last_s < borders[-1]:  # where Number probably ends the work: the last part is to find nothing to do
        chosen.append(bisect_left(borders, last_s))
    times_s = tuple(_clean_times(media, keys, chosen, origin))
    if media.seeks > seeks:
        media.rewind()
    return times_s


def _held_bytes(media: Media, plan: CapturePlan) -> int:
    """Tell what the images take, at most, that are kept back until the parts have told which are the best."""
    context = media.stream.codec_context
    entries = (entry for entry in plan.entries if is_ranked(entry.selection))
    return sum(
        entry.selection.number
        * side_of(entry.rendition.width, context.width)
        * side_of(entry.rendition.height, context.height)
        * PIXEL_BYTES
        for entry in entries
    )


def _length_s(media: Media) -> Fraction:
    """What the header claims."""
    if media.stream.duration:
        return media.stream.duration * media.time_base
    return Fraction(media.container.duration or 0, 1_000_000)


def _demands(media: Media, plan: CapturePlan, length_s: float) -> list[Demand]:
    trim_end_s = float(plan.trim_start_s + plan.trim_duration_s) if plan.trim_duration_s else inf
    return [
        _demand(entry, float(plan.trim_start_s), min(length_s, trim_end_s), float(media.frame_interval_s()))
        for entry in plan.entries
    ]


def _demand(entry: EntryPlan, trim_start_s: float, end_s: float, frame_s: float) -> Demand:
    selection = entry.selection
    start_s = trim_start_s + float(selection.start_s)
    if selection.mode is Mode.KEYFRAME:
        return Demand(start_s, 0.0, end_s, 1.0, selection.number)
    if selection.mode is Mode.AVERAGE:
        return Demand(start_s, max((end_s - start_s) / selection.number, frame_s), end_s, 1.0)
    step_s = max(float(selection.interval_s), frame_s)
    if selection.mode is Mode.DHASH:
        return Demand(start_s, step_s, end_s, 0.3)
    return Demand(start_s, step_s, min(end_s, start_s + step_s * (selection.number or inf)), 1.0)


def _numbered(demand: Demand, borders: Sequence[float]) -> Demand:
    """Let a demand for a number of keyframes end after them."""
    after = bisect_left(borders, demand.start_s) + demand.keyframes
    return replace(demand, end_s=borders[after]) if demand.keyframes and after < len(borders) else demand


def _at_most_s(media: Media, demands: Sequence[Demand]) -> float:
    """Estimate what the work may come to, without a look at the index."""
    context = media.stream.codec_context
    frames = drawn = 0.0
    for demand in demands:
        number, last_s = replace(demand, step_s=demand.step_s or KEYFRAMES_S).times_in(0.0, demand.end_s)
        frames += min(last_s, number * LONG_GOP_S) / float(media.frame_interval_s())
        drawn += number * demand.drawn
    return _seconds(context.width * context.height, frames, drawn)


def _seconds(pixels: int, decoded: float, drawn: float) -> float:
    return pixels * (decoded / DECODED_PIXELS_PER_S + drawn / DRAWN_PIXELS_PER_S)


def _work_s(media: Media, demands: Sequence[Demand], start_s: float, end_s: float) -> float:
    """Estimate the work on a GOP: decoding up to the last time wanted of it, and drawing."""
    context = media.stream.codec_context
    decoded = drawn = 0.0
    for demand in demands:
        number, last_s = demand.times_in(start_s, end_s)
        if number:
            decoded = max(decoded, 1 + (last_s - start_s) / float(media.frame_interval_s()))
            drawn += number * demand.drawn
    return _seconds(context.width * context.height, decoded, drawn)


def _choose(works_s: Sequence[float]) -> list[int]:
    """Choose the GOPs that parts begin with, but for the first part's."""
    left_s = sum(works_s)
    longest_s = max(LONGEST_S, 2 * left_s / MAX_PARTS)
    chosen: list[int] = []
    part_s = 0.0
    for number, work_s in enumerate(works_s):
        size_s = min(max(left_s / SHARE, SHORTEST_S), longest_s)
        if part_s and work_s and part_s + work_s / 2 > size_s and len(chosen) < MAX_PARTS:
            chosen.append(number)
            left_s -= part_s
            part_s = 0.0
        part_s += work_s
    return chosen


def _indexed_keys(media: Media, origin: int) -> list[int]:
    """List the times of the keyframes in the container's index: decoding times in MP4."""
    if media.format_name == "matroska":
        media.seek(origin)  # reads the index
    entries = media.stream.index_entries
    keys: list[int] = []
    place = entries.search_timestamp(-(2**62), backward=False)
    while place >= 0 and (not keys or entries[place].timestamp > keys[-1]):
        keys.append(entries[place].timestamp)
        place = entries.search_timestamp(keys[-1] + 1, backward=False)
    return keys or [origin]


def _clean_times(media: Media, keys: Sequence[int], chosen: Sequence[int], origin: int) -> Iterator[Fraction]:
    """Look at the packets of the chosen keyframes, and yield the times of those that decoding may start at."""
    # H.264 of open GOPs refers, not by its rules but by its encoders' habits, to what is before a recovery point.
    trusted = Access.CLEAN if media.stream.codec_context.name == "hevc" else Access.RESET
    last = origin
    for number in chosen:
        after = number + 1
        # Its own decoding time would lead one keyframe back where later packets are shown before it (open GOP).
        packet = media.read() if media.seek(keys[after] - 1 if after < len(keys) else keys[number]) else None
        if packet is None or packet.pts is None or packet.is_discard or packet.pts <= last:
            continue
        if media.access(packet) >= trusted:
            last = packet.pts
            yield (last - origin) * media.time_base
