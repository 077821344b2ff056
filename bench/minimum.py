"""The fewest frames that a request forces one to decode, counted from the bytes of the packets alone.

Shares no code with the planner that it judges, nor any idea with it but the specification: which frames are wanted
(section 3), where a decoder may start (a keyframe that resets or cleans it, as an H.264 recovery point of open GOPs
does, at once and exactly), and what nothing refers to (H.264
nal_ref_idc; H.265 sub-layer non-reference pictures, and layers above the wanted picture's). Progressive video whose
packets carry times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path

import av

from worker.media.plan import Mode, Selection

TOLERANCE_S = Fraction(1, 1000)
H264_IDR = 5
H264_SEI = 6
RECOVERY_POINT = 6
UNIT_BYTES = 32  # as much of one as is looked at
AT_ONCE_EXACTLY = 0xC0  # recovery_frame_cnt 0 and exact_match_flag (D.1.8)
H265_LEADING = range(6, 10)
H265_IRAP = range(16, 24)
H265_FIRST_PARAMETER_SET = 32


@dataclass(frozen=True, slots=True)
class Picture:
    """One coded picture. `start`: decoding may begin here; `leading`: shown before the start that it follows."""

    pts: int
    start: bool
    referenced: bool
    layer: int
    size: int


@dataclass(frozen=True, slots=True)
class Coded:
    """A video's pictures in decoding order, and the ends of its timeline in seconds from the first shown frame."""

    pictures: tuple[Picture, ...]
    time_base: Fraction
    end_s: Fraction
    hidden: frozenset[int]  # the places of pictures that an edit list hides

    @property
    def shown(self) -> list[int]:
        """The places in decoding order, in the order of their times."""
        places = (place for place in range(len(self.pictures)) if place not in self.hidden)
        return sorted(places, key=lambda place: self.pictures[place].pts)


def read(path: Path) -> Coded:
    """Read a file's packets. Raises `ValueError` for a codec that this module does not know."""
    pictures, hidden, end = [], set(), 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        name, extradata = stream.codec_context.name, bytes(stream.codec_context.extradata or b"")
        for packet in container.demux(stream):
            if packet.pts is None:
                continue  # the flush at the end
            if packet.is_discard:
                hidden.add(len(pictures))
            else:
                end = max(end, packet.pts + packet.duration)
            pictures.append(_picture(name, extradata, packet))
        first = min(one.pts for place, one in enumerate(pictures) if place not in hidden)
        return Coded(tuple(pictures), stream.time_base, (end - first) * stream.time_base, frozenset(hidden))


def _picture(codec: str, extradata: bytes, packet: av.Packet) -> Picture:
    data = bytes(packet)
    if codec == "h264":
        units = list(_units(data, extradata, 4))
        unit = next(unit for unit in units if unit[0] & 31 in (1, H264_IDR))
        start = unit[0] & 31 == H264_IDR or any(unit[0] & 31 == H264_SEI and _recovers(unit) for unit in units)
        referenced, layer = bool(unit[0] >> 5 & 3), 0
    elif codec == "hevc":
        unit = next(unit for unit in _units(data, extradata, 21) if unit[0] >> 1 & 63 < H265_FIRST_PARAMETER_SET)
        kind, layer = unit[0] >> 1 & 63, (unit[1] & 7) - 1
        start, referenced = kind in H265_IRAP, kind >= H265_IRAP.start or kind % 2 == 1
    else:
        raise ValueError(f"the codec {codec!r} is none of h264 and hevc, whose packets tell what refers to what")
    return Picture(packet.pts, start, referenced, layer, len(data))


def _recovers(unit: bytes) -> bool:
    """Tell whether a unit of SEI messages, each of a type, a size and so many bytes, says that decoding may start."""
    at = 1
    while at + 2 < len(unit):
        if unit[at] == RECOVERY_POINT:
            return unit[at + 2] & AT_ONCE_EXACTLY == AT_ONCE_EXACTLY
        at += 2 + unit[at + 1]
    return False


def _units(data: bytes, extradata: bytes, length_at: int) -> Iterator[bytes]:
    """Yield the start of each NAL unit: behind lengths where `extradata` is a record, else behind start codes."""
    if extradata[:1] == b"\x01":
        length_size, at = (extradata[length_at] & 3) + 1, 0
        while at < len(data):
            size = int.from_bytes(data[at : at + length_size])
            yield data[at + length_size : at + length_size + min(size, UNIT_BYTES)]
            at += length_size + size
        return
    at = data.find(b"\x00\x00\x01")
    while at >= 0:
        yield data[at + 3 : at + 3 + UNIT_BYTES]
        at = data.find(b"\x00\x00\x01", at + 3)


def wanted(coded: Coded, selection: Selection) -> set[int]:
    """Tell the places of the pictures that an entry needs decoded: a hash needs every sample."""
    shown = coded.shown
    times = [(coded.pictures[place].pts - coded.pictures[shown[0]].pts) * coded.time_base for place in shown]
    if selection.mode is Mode.KEYFRAME:
        keys = [place for place, time in zip(shown, times, strict=True)
                if coded.pictures[place].start and time >= selection.start_s - TOLERANCE_S]  # fmt: skip
        return set(keys[: selection.number or None])
    if selection.interval_s == 0 and selection.mode is not Mode.AVERAGE and selection.number != 1:
        later = [place for place, time in zip(shown, times, strict=True) if time >= selection.start_s - TOLERANCE_S]
        return set(later[: selection.number or None])
    found, at = set(), 0
    for time in _grid(selection, coded.end_s):
        while at + 1 < len(shown) and times[at + 1] <= time + TOLERANCE_S:
            at += 1
        found.add(shown[at])
    return found


def _grid(selection: Selection, end_s: Fraction) -> Iterator[Fraction]:
    step = selection.interval_s
    if selection.mode is Mode.AVERAGE:
        step = (end_s - selection.start_s) / selection.number
    limited = selection.number if selection.mode is not Mode.DHASH else 0
    for number in range(limited) if limited else count():
        time = selection.start_s + number * step
        if time + TOLERANCE_S >= end_s:
            return
        yield time


def needed(coded: Coded, places: set[int]) -> set[int]:
    """Tell the places that have to be decoded for those wanted: each from its start on what may be referred to."""
    pictures = coded.pictures
    found = set(places)
    for place in places:
        target = pictures[place]
        at = place
        # A picture that is shown before the start it follows needs the start before that.
        while at > 0 and not (pictures[at].start and pictures[at].pts <= target.pts):
            at -= 1
            if pictures[at].referenced and pictures[at].layer <= target.layer:
                found.add(at)
    return found


def minimum(coded: Coded, selections: Sequence[Selection]) -> int:
    """Count the frames that a decoder has to decode for several entries at once."""
    return len(needed(coded, set().union(*(wanted(coded, selection) for selection in selections))))


def needed_bytes(coded: Coded, selections: Sequence[Selection]) -> int:
    """Add up the packets from the starts of those frames to the last of each: a demuxer reads what lies between."""
    pictures = coded.pictures
    found: set[int] = set()
    for place in set().union(*(wanted(coded, selection) for selection in selections)):
        start = place
        while start > 0 and not (pictures[start].start and pictures[start].pts <= pictures[place].pts):
            start -= 1
        found.update(range(start, place + 1))
    return sum(pictures[place].size for place in found)
