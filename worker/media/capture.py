"""The one way in: from a source and a plan to encoded frames, in one decoding pass for all entries."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from time import perf_counter
from typing import BinaryIO, TypeVar

from worker.errors import Code, TaskError
from worker.media.container import Media
from worker.media.cover import find_cover
from worker.media.decode import TOLERANCE_S, FrameReader
from worker.media.encode import encode
from worker.media.entry import EntryRun, Timeline
from worker.media.plan import CaptureEvent, CapturePlan, EntryReport, Image, Limits, Mode, Progress, Report
from worker.media.raster import Renderer
from worker.media.timeline import end_pts, first_pts, key_pts

PROGRESS_STEP = 0.01

Fact = TypeVar("Fact")


def capture(file: BinaryIO, plan: CapturePlan) -> Iterator[CaptureEvent]:
    """Yield the images of all entries as they are ready, progress, and at last one report.

    `file` is a seekable binary file without a name. Raises `TaskError` where nothing can be captured at all; what
    goes wrong with one entry stands in its report.
    """
    started = perf_counter()
    modes = [entry.selection.mode for entry in plan.entries]
    survey = _survey(file, plan, modes)
    with Media(file, plan.limits) as media:
        if media.video is None:
            yield from _cover(media, plan, started)
            return
        origin = first_pts(media) if survey.origin_pts is None else survey.origin_pts
        reader = FrameReader(media, plan.limits, origin)
        probed = perf_counter()
        runs = _runs(plan, reader, media, survey)
        yield from _walk(reader, runs, _length_s(media))
        for run in runs:
            yield from run.finish()
        _warn(runs, reader, media)
        yield _report(runs, reader, media, probed - started, perf_counter() - probed)


# --- what has to be known beforehand


@dataclass(frozen=True, slots=True)
class Survey:
    """What some modes must know before the first frame, in stream ticks; None where no mode asked."""

    origin_pts: int | None = None
    end_pts: Fraction | None = None
    key_pts: Sequence[int] | None = None


def _survey(file: BinaryIO, plan: CapturePlan, modes: Sequence[Mode]) -> Survey:
    """Find out where the video ends for averages, and where its keyframes are when other entries need other frames."""
    if not {Mode.AVERAGE, Mode.KEYFRAME} & set(modes):
        return Survey()
    limits = plan.limits
    with Media(file, limits) as media:
        if media.video is None:
            return Survey()
        packets_tell = first_pts(media)
    origin = (
        _fact(file, limits, lambda media: FrameReader(media, limits).origin_pts)
        if packets_tell is None
        else packets_tell
    )
    end = _fact(file, limits, lambda media: _end(media, limits, origin)) if Mode.AVERAGE in modes else None
    keys = None
    if len({mode is Mode.KEYFRAME for mode in modes}) > 1:
        keys = _fact(file, limits, lambda media: _keys(media, plan, origin))
    return Survey(origin, end, keys)


def _fact(file: BinaryIO, limits: Limits, find: Callable[[Media], Fact]) -> Fact:
    with Media(file, limits) as media:
        return find(media)


def _end(media: Media, limits: Limits, origin_pts: int) -> Fraction:
    end = end_pts(media)
    return end if end is not None else _fact(media.file, limits, lambda again: _decoded_end(again, limits, origin_pts))


def _decoded_end(media: Media, limits: Limits, origin_pts: int) -> Fraction:
    reader = FrameReader(media, limits, origin_pts)
    reader.at(Fraction(0))
    while reader.following() is not None:
        pass
    end_s = reader.current().end_s
    if end_s is None:
        raise TaskError(Code.CORRUPT_MEDIA, "the end of the video cannot be found")
    return origin_pts + end_s / media.time_base


def _keys(media: Media, plan: CapturePlan, origin_pts: int) -> Sequence[int]:
    starts = [entry.selection.start_s for entry in plan.entries if entry.selection.mode is Mode.KEYFRAME]
    start_s = plan.trim_start_s + min(starts)
    return key_pts(media, origin_pts + int((start_s - TOLERANCE_S) // media.time_base))


def _runs(plan: CapturePlan, reader: FrameReader, media: Media, survey: Survey) -> list[EntryRun]:
    trim_end_s = plan.trim_start_s + plan.trim_duration_s if plan.trim_duration_s else None
    end_s = None if survey.end_pts is None else reader.seconds(survey.end_pts)
    known = [end for end in (trim_end_s, end_s) if end is not None]
    timeline = Timeline(
        plan.trim_start_s,
        min(known, default=None),
        reader.tolerance_s,
        media.frame_interval_s(),
        Fraction(media.stream.sample_aspect_ratio or 1),
    )
    runs = []
    for number, entry in enumerate(plan.entries):
        times = None
        if entry.selection.mode is Mode.KEYFRAME and survey.key_pts is not None:
            first_s = plan.trim_start_s + entry.selection.start_s - reader.tolerance_s
            times = [time for time in map(reader.seconds, survey.key_pts) if time >= first_s]
        runs.append(EntryRun(number, entry, plan.limits, timeline, times))
    return runs


# --- the pass


def _walk(reader: FrameReader, runs: Sequence[EntryRun], length_s: Fraction | None) -> Iterator[Image | Progress]:
    """Feed the entries until none wants any more, at the pace of the densest."""
    steps = _steps(reader, runs)
    told = 0.0
    for images in steps:
        yield from images
        done = _share(reader, runs, length_s)
        if done >= told + PROGRESS_STEP:
            told = done
            yield Progress(done)


def _steps(reader: FrameReader, runs: Sequence[EntryRun]) -> Iterator[Iterator[Image]]:
    if all(run.follows_keyframes for run in runs):
        return _keyframes(reader, runs)
    return _frames(reader, runs) if any(run.every for run in runs) else _times(reader, runs)


def _keyframes(reader: FrameReader, runs: Sequence[EntryRun]) -> Iterator[Iterator[Image]]:
    wanted = [run.wanted_s for run in runs if run.wanted_s is not None]
    for shot in reader.keyframes(min(wanted)):
        for run in runs:
            if run.wanted_s is not None and shot.time_s + reader.tolerance_s >= run.wanted_s:
                yield run.take(shot)
        if all(run.wanted_s is None for run in runs):
            return


def _times(reader: FrameReader, runs: Sequence[EntryRun]) -> Iterator[Iterator[Image]]:
    while wanted := [run.wanted_s for run in runs if run.wanted_s is not None]:
        first = min(wanted)
        shot = reader.at(runs[0].timeline.reachable(first))
        for run in runs:
            if run.wanted_s == first:
                yield run.take(shot)


def _frames(reader: FrameReader, runs: Sequence[EntryRun]) -> Iterator[Iterator[Image]]:
    wanted = [run.wanted_s for run in runs if run.wanted_s is not None]
    shot = reader.at(runs[0].timeline.reachable(min(wanted)))
    while any(run.wanted_s is not None for run in runs):
        after = None if shot.end_s is not None else reader.following()
        if after is None:
            shot = reader.current()
        for run in runs:
            while run.wants(shot, after.time_s if after else None):
                yield run.take(shot)
                if run.every:
                    break
        if after is None:
            break
        shot = after


def _share(reader: FrameReader, runs: Sequence[EntryRun], length_s: Fraction | None) -> float:
    """Estimate how much is done: by numbers where they are wanted, else by time."""
    time = min(float(reader.position_s / length_s), 1.0) if length_s else 0.0
    shares = [1.0 if run.wanted_s is None else max(run.share_done, time) for run in runs]
    return sum(shares) / len(shares)


def _length_s(media: Media) -> Fraction | None:
    """What the header claims, good enough for a progress bar."""
    stream, container = media.stream, media.container
    if stream.duration:
        return stream.duration * media.time_base
    return Fraction(container.duration, 1_000_000) if container.duration else None


# --- the end


def _warn(runs: Sequence[EntryRun], reader: FrameReader, media: Media) -> None:
    for run in runs:
        if reader.damaged:
            run.warn(
                "FrameDamaged", f"{reader.damaged} damaged packets or frames were skipped for the nearest good ones"
            )
        if media.read_errors:
            run.warn("SourceTruncated", "the file is damaged or ends early: only what could be read was captured")


def _report(runs: Sequence[EntryRun], reader: FrameReader, media: Media, probe_s: float, pass_s: float) -> Report:
    encode_s = sum(run.output.encode_s for run in runs)
    context = media.stream.codec_context
    return Report(
        tuple(run.report() for run in runs), media.format_name, context.name, context.width, context.height,
        reader.decoded, media.packets_read, media.seeks,
        {"probe": probe_s, "decode": max(pass_s - encode_s, 0.0), "encode": encode_s},
    )  # fmt: skip


def _cover(media: Media, plan: CapturePlan, started: float) -> Iterator[CaptureEvent]:
    """Give each entry the embedded picture of a file without video; selections do not matter."""
    frame = find_cover(media.container, plan.limits.max_pixels)
    if frame is None:
        kinds = ", ".join(sorted({stream.type for stream in media.container.streams})) or "nothing"
        message = f"the source has no video stream and no embedded picture, only {kinds}"
        raise TaskError(Code.RESOURCE_NOT_FOUND, message)
    probed = perf_counter()
    reports = []
    for number, entry in enumerate(plan.entries):
        try:
            pixels = Renderer(entry.rendition).render(frame, Fraction(1))
            data = encode(pixels, entry.rendition.format, entry.rendition.quality)
        except TaskError as error:
            reports.append(EntryReport(0, 1, (), error.code, error.message))
            continue
        height, width = pixels.shape[:2]
        zero = Fraction(0)
        yield Image(number, 1, zero, zero, -1, True, width, height, data, hashlib.sha256(data).hexdigest())  # noqa: FBT003
        reports.append(EntryReport(1, 1))
    stages = {"probe": probed - started, "decode": 0.0, "encode": perf_counter() - probed}
    container = media.container.format.name.split(",")[0]
    yield Report(tuple(reports), container, "cover", frame.width, frame.height, 1, 1, 0, stages)
