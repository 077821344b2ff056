"""A whole video, decoded from its start and kept; nothing is seeked, skipped or thought ahead.

Shares no code with the worker. What a capture has to give of it tells `tests.naive_selection`.
"""

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

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
    interlaced: bool
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

    Frames are kept, or only one of each of some digests.
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
        shown = [packet for packet in packets if not packet.is_discard]
        if not result.frames:
            return result
        if len(shown) >= 2 * len(raw) - 1 > 1 or (len(shown) > len(raw) and raw[-1].interlaced and not result.errors):
            last = result.frames[-1]  # two fields, each with a packet and half of the time
            last.duration = max(p.pts + p.duration for p in shown if p.pts is not None) - last.pts
        if keys:
            result.keys = _keys(result, packets, context)
    return result


def _frames(context, packets, result, *, keep):
    shared = {}  # of a black video all frames are one
    for packet in [*packets, None]:
        try:
            frames = context.decode(packet)
        except av.error.FFmpegError:
            result.errors += 1
            continue
        for frame in frames:
            found = digest(frame)
            kept = frame if keep is True else shared.setdefault(found, frame) if keep and found in keep else None
            yield Decoded(
                frame.pts, frame.dts, frame.duration or 0, found, frame.is_corrupt, kept, frame.interlaced_frame
            )


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
