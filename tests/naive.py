"""Which frames a capture has to give: the specification's section 3, written straight from its text.

Everything is decoded from the file's start and kept; nothing is seeked, skipped or thought ahead. Shares no code with
the worker but its plain values, and the luma of a frame, which has tests of its own.
"""

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from worker.media.plan import EntryPlan, Mode
from worker.media.scaler import luma

NOT_VIDEO = 0x400 | 0x800 | 0x100000  # attached picture, timed thumbnails, still image
JUMPING = {"mpegts", "mpeg", "ogg"}


@dataclass
class Decoded:
    """One frame of the full decode, with the pts that the decoder gave it, and its time, `pts`."""

    own_pts: int | None
    dts: int | None
    duration: int
    digest: str
    corrupt: bool
    frame: av.VideoFrame | None
    pts: int = 0


@dataclass
class Naive:
    """A fully decoded video."""

    frames: list[Decoded] = field(default_factory=list)
    time_base: Fraction = Fraction(1)
    interval_s: Fraction = Fraction(1, 25)
    errors: int = 0
    monotonic: bool = True
    codec: str = ""
    container: str = ""
    aspect: Fraction = Fraction(1)
    keys: set[int] = field(default_factory=set)
    hashes: dict[int, int] = field(default_factory=dict)

    @property
    def tolerance_s(self):
        return min(Fraction(1, 1000), self.interval_s / 2)

    @property
    def times_s(self):
        return [(frame.pts - self.frames[0].pts) * self.time_base for frame in self.frames]

    @property
    def end_s(self):
        last = self.frames[-1]
        return self.times_s[-1] + (last.duration * self.time_base if last.duration > 1 else self.interval_s)

    def on_screen(self, time_s):
        """The index of the last frame that starts at or before `time_s`, else of the first."""
        return max((i for i, start in enumerate(self.times_s) if start <= time_s + self.tolerance_s), default=0)


def digest(frame):
    """A digest of all samples of all planes, without the padding of rows."""
    sums = hashlib.md5()
    for plane, component in zip(frame.planes, plane_widths(frame), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, abs(plane.line_size))
        sums.update(np.ascontiguousarray(rows[: plane.height, :component]))
    return f"{frame.width}x{frame.height} {frame.format.name} {sums.hexdigest()}"


def plane_widths(frame):
    """Bytes that count in a row of each plane."""
    for number, plane in enumerate(frame.planes):
        bits = [c.bits for c in frame.format.components if c.plane == number]
        packed = sum(8 if b <= 8 else 16 for b in bits) // 8 if bits else 4
        yield min(plane.width * max(packed, 1), abs(plane.line_size))


def decode_all(path: Path, *, keep=True, keys=False) -> Naive:
    """Decode a whole file, packet after packet, with default settings and one thread.

    Frames are kept, or only those of some digests.
    """
    result = Naive()
    # Of a few packets FFmpeg does not recognise MPEG-TS by itself.
    named = "mpegts" if path.suffix == ".ts" else None
    with av.open(str(path), format=named, metadata_errors="replace") as container:
        stream = next(s for s in container.streams.video if not s.disposition.value & NOT_VIDEO)
        context = stream.codec_context
        if stream.metadata.get("alpha_mode") == "1":  # which FFmpeg's own decoders leave out
            context = av.CodecContext.create({"vp8": "libvpx", "vp9": "libvpx-vp9"}[context.name], "r")
        context.thread_count = 1
        result.time_base = Fraction(stream.time_base)
        rate = stream.average_rate or stream.guessed_rate
        result.interval_s = 1 / Fraction(rate) if rate else Fraction(1, 25)
        result.aspect = Fraction(stream.sample_aspect_ratio or 1)
        result.codec, result.container = context.name, container.format.name.split(",")[0]
        packets = list(_packets(container, stream, result))
        raw = list(_frames(context, packets, result, keep=keep))
        times = _times(raw, round(result.interval_s / result.time_base))
        result.monotonic = all(f.own_pts is not None for f in raw) and all(
            a.own_pts < b.own_pts for a, b in pairwise(raw)
        )
        for frame, frame.pts in zip(raw, times, strict=True):
            if frame.corrupt:
                result.errors += 1
            else:
                result.frames.append(frame)
        if keys:
            result.keys = _keys(result, packets, context)
    return result


def _frames(context, packets, result, *, keep):
    for packet in [*packets, None]:
        try:
            frames = context.decode(packet)
        except av.error.FFmpegError:
            result.errors += 1
            continue
        for frame in frames:
            found = digest(frame)
            kept = frame if keep is True or (keep and found in keep) else None
            yield Decoded(frame.pts, frame.dts, frame.duration or 0, found, frame.is_corrupt, kept)


def _packets(container, stream, result):
    """All packets; clocks that jump are joined as the ffmpeg command joins them."""
    offset, expected, last = 0, None, None
    demuxed = container.demux(stream)
    errors = 0
    while errors < 100:
        try:
            packet = next(demuxed)
        except StopIteration:
            return
        except (av.error.FFmpegError, IndexError):  # the latter of a stream that has only now appeared
            errors += 1
            result.errors += 1
            demuxed = container.demux(stream)
            continue
        if packet.size == 0:
            continue
        if container.format.name in JUMPING and packet.dts is not None:
            dts = packet.dts + offset
            jump = 0 if expected is None else (dts - expected) * result.time_base
            if abs(jump) > 10 or (last is not None and (dts - last) * result.time_base < Fraction(-1, 10)):
                offset += expected - dts
            last = packet.dts + offset
            expected = last + (packet.duration or 0)
        if offset:
            packet.dts = None if packet.dts is None else packet.dts + offset
            packet.pts = None if packet.pts is None else packet.pts + offset
        yield packet


def _times(frames, interval):
    """The frames' own times; where they are missing or do not grow, what FFmpeg calls the best effort."""
    own = [frame.own_pts for frame in frames]
    good = [frame.own_pts for frame in frames if not frame.corrupt]
    if None not in own and all(a <= b for a, b in pairwise(good)):
        return own
    times, bad_pts, bad_dts, last_pts, last_dts = [], 0, 0, None, None
    for frame in frames:
        pts, dts = frame.own_pts, frame.dts
        if dts is not None:
            bad_dts += last_dts is not None and dts <= last_dts
            last_dts = dts
        if pts is not None:
            bad_pts += last_pts is not None and pts <= last_pts
            last_pts = pts
        time = pts if (pts is not None and bad_pts <= bad_dts) or dts is None else dts
        if time is None:
            time = times[-1] + interval if times else 0
        times.append(max(time, times[-1]) if times else time)
    return times


def _keys(video, packets, context):
    """Frames that are marked as keyframes and come out the same with nothing before them."""
    seen = set()
    for number, packet in enumerate(packets):
        if not packet.is_keyframe:
            continue
        for run in ([packet], packets[number : number + 2]):  # the picture's second field may be in the next packet
            digests = set(_alone(run, context))
            same = (i for i, frame in enumerate(video.frames) if i not in seen and frame.digest in digests)
            index = next((i for i in same if packet.pts in (None, video.frames[i].own_pts)), None)
            if index is not None:
                seen.add(index)
                break
    return seen


def _alone(packets, context):
    context.flush_buffers()
    try:
        for packet in (*packets, None):
            yield from map(digest, context.decode(packet))
    except av.error.FFmpegError:
        return


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
