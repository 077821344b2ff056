"""The one way in: from a source and a plan to encoded frames, in one decoding pass for all entries."""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from time import perf_counter
from typing import BinaryIO

from worker.errors import Code, TaskError
from worker.media.bounds import Held, damaged_message
from worker.media.container import Media
from worker.media.cover import find_cover
from worker.media.encode import encode, size_of
from worker.media.entry import EntryRun, Timeline
from worker.media.joined import JoinedReader, first_live, key_times, length_s
from worker.media.plan import (
    CaptureEvent,
    CapturePlan,
    Cuts,
    EntryReport,
    Image,
    Mode,
    Part,
    PartEvent,
    Progress,
    Report,
    Warn,
)
from worker.media.raster import DISTORTED, Renderer
from worker.media.release import check_ffmpeg
from worker.media.runs import Run, runs_of
from worker.media.split import find_cuts

PROGRESS_STEP = 0.01


def capture(file: BinaryIO, plan: CapturePlan) -> Iterator[PartEvent]:
    """Yield the images of all entries as they are ready, progress, and at last one report; first of all the cuts, if

    the plan allows any and they are worth it.

    `file` is a seekable binary file without a name. Raises `TaskError` where nothing can be captured at all; what
    goes wrong with one entry stands in its report.
    """
    started = perf_counter()
    check_ffmpeg()
    parts = runs_of(file, plan.limits, segmented=plan.segmented)
    survey = _survey(parts, plan)
    with parts[first_live(parts)].open() as media:
        if media.video is None:
            yield from _cover(media, plan, started)
            return
        times_s = find_cuts(media, plan, survey.end_s) if plan.may_split else ()
        if times_s:
            yield Cuts(times_s, survey.end_s)
            plan = replace(plan, part=Part(end_s=times_s[0]))
        with closing(JoinedReader(parts, media)) as reader:
            probed = perf_counter()
            runs = _runs(plan, reader, media, survey)
            yield from _walk(reader, runs, _length_s(parts, media), plan.part)
            for run in runs:
                yield from run.finish()
            _warn(runs, reader)
            yield _report(runs, reader, probed - started, perf_counter() - probed)


# --- what has to be known beforehand


@dataclass(frozen=True, slots=True)
class Survey:
    """What some modes must know before the first frame, in seconds from it; None where no mode asked."""

    end_s: Fraction | None = None
    key_s: Sequence[Fraction] | None = None


def _survey(parts: Sequence[Run], plan: CapturePlan) -> Survey:
    """Find out where the video ends for averages, and where its keyframes are when other entries need other frames."""
    modes = {entry.selection.mode for entry in plan.entries}
    end_s = plan.part.video_end_s
    needs_end, needs_keys = Mode.AVERAGE in modes and end_s is None, Mode.KEYFRAME in modes and len(modes) > 1
    if not needs_end and not needs_keys:
        return Survey(end_s)
    with parts[first_live(parts)].open() as media:
        if media.video is None:
            return Survey()
    if needs_end:
        end_s = length_s(parts)
    key_s = None
    if needs_keys:
        starts = [entry.selection.start_s for entry in plan.entries if entry.selection.mode is Mode.KEYFRAME]
        key_s = key_times(parts, max(plan.trim_start_s + min(starts), plan.part.start_s), plan.part.end_s)
    return Survey(end_s, key_s)


def _runs(plan: CapturePlan, reader: JoinedReader, media: Media, survey: Survey) -> list[EntryRun]:
    trim_end_s = plan.trim_start_s + plan.trim_duration_s if plan.trim_duration_s else None
    known = [end for end in (trim_end_s, survey.end_s) if end is not None]
    timeline = Timeline(
        plan.trim_start_s,
        min(known, default=None),
        reader.tolerance_s,
        media.frame_interval_s(),
    )
    runs, held = [], Held()
    for number, entry in enumerate(plan.entries):
        times = None
        if entry.selection.mode is Mode.KEYFRAME and survey.key_s is not None:
            first_s = plan.trim_start_s + entry.selection.start_s - reader.tolerance_s
            times = [time for time in survey.key_s if time >= first_s]
        runs.append(EntryRun(number, entry, plan.limits, timeline, times, held=held, part=plan.part))
    return runs


# --- the pass


def _walk(
    reader: JoinedReader, runs: Sequence[EntryRun], length_s: Fraction | None, part: Part
) -> Iterator[Image | Progress]:
    """Feed the entries until none wants any more, at the pace of the densest."""
    if all(run.wanted_s is None for run in runs):  # as may be in a part
        return
    steps = _steps(reader, runs)
    told = 0.0
    for images in steps:
        yield from images
        done = _share(reader, runs, length_s, part)
        if done >= told + PROGRESS_STEP:
            told = done
            yield Progress(done)


def _steps(reader: JoinedReader, runs: Sequence[EntryRun]) -> Iterator[Iterator[Image]]:
    if all(run.follows_keyframes for run in runs):
        yield from _keyframes(reader, runs)
        return
    goes_on = True
    while goes_on and any(run.wanted_s is not None for run in runs):
        yield from _times(reader, runs)
        goes_on = yield from _frames(reader, runs)


def _keyframes(reader: JoinedReader, runs: Sequence[EntryRun]) -> Iterator[Iterator[Image]]:
    wanted = [run.wanted_s for run in runs if run.wanted_s is not None]
    for shot in reader.keyframes(min(wanted)):
        for run in runs:
            if run.wanted_s is not None and shot.time_s + reader.tolerance_s >= run.wanted_s:
                yield run.take(shot)
        if all(run.wanted_s is None for run in runs):
            return


def _times(reader: JoinedReader, runs: Sequence[EntryRun]) -> Iterator[Iterator[Image]]:
    """Go from time to time, until an entry wants every frame from there on."""
    ended = False
    while True:
        for run in runs:
            run.settle()
        wanted, more = _upcoming(runs)
        if not wanted or any(run.every and run.wanted_s == wanted[0] for run in runs):
            return
        reachable = runs[0].timeline.reachable
        first_s, *then_s = map(reachable, wanted)
        end_s = None if ended else reader.ended_by(first_s, then_s, more=more)
        if end_s is not None:
            ended = True
            for run in runs:
                run.settle(end_s)
            continue
        shot = reader.at(first_s, then_s, more=more)
        for run in runs:
            if run.wanted_s == wanted[0]:
                yield run.take(shot)


def _upcoming(runs: Sequence[EntryRun]) -> tuple[list[Fraction], bool]:
    """List the times that the entries want next, in order, as far as all are known; tell whether there may be more."""
    known = [run.upcoming() for run in runs if run.wanted_s is not None]
    horizon = min((times[-1] for times, more in known if more), default=None)
    times = {time for times, _ in known for time in times if horizon is None or time <= horizon}
    return sorted(times), horizon is not None


def _frames(reader: JoinedReader, runs: Sequence[EntryRun]) -> Generator[Iterator[Image], None, bool]:
    """Go from frame to frame, until no entry wants every one any more; tell whether there are more frames."""
    wanted = [run.wanted_s for run in runs if run.wanted_s is not None]
    if not wanted:
        return False
    shot = reader.at(runs[0].timeline.reachable(min(wanted)))
    goes_on = True
    while goes_on:
        after = None if shot.end_s is not None else reader.following()
        if after is None:
            shot = reader.current()
        for run in runs:
            while run.wants(shot, after.time_s if after else None):
                yield run.take(shot)
                if run.every:
                    break
        if after is None:
            return False
        shot = after
        goes_on = any(run.every and run.wanted_s is not None and run.wanted_s <= shot.time_s for run in runs)
    return True


def _share(reader: JoinedReader, runs: Sequence[EntryRun], length_s: Fraction | None, part: Part) -> float:
    """Estimate how much of the whole is done: by numbers where they are wanted, else by time."""
    time = min(float(reader.position_s / length_s), 1.0) if length_s else 0.0
    if not part.is_whole:
        return time
    shares = [1.0 if run.wanted_s is None else max(run.share_done, time) for run in runs]
    return sum(shares) / len(shares)


def _length_s(parts: Sequence[Run], media: Media) -> Fraction | None:
    """What the playlist or the header claims, good enough for a progress bar."""
    nominal_s = sum(run.nominal_s for run in parts)
    if nominal_s:
        return Fraction(nominal_s)
    stream, container = media.stream, media.container
    if stream.duration:
        return stream.duration * media.time_base
    return Fraction(container.duration, 1_000_000) if container.duration else None


# --- the end


def _warn(runs: Sequence[EntryRun], reader: JoinedReader) -> None:
    for run in runs:
        if reader.damaged:
            run.warn("FrameDamaged", damaged_message(reader.damaged))
        if reader.media.read_errors or reader.media.truncated:
            run.warn("SourceTruncated", "the file is damaged or ends early: only what could be read was captured")


def _report(runs: Sequence[EntryRun], reader: JoinedReader, probe_s: float, pass_s: float) -> Report:
    media = reader.media
    encode_s = sum(run.output.encode_s for run in runs)
    context = media.stream.codec_context
    return Report(
        tuple(run.report() for run in runs), media.format_name, context.name, context.width, context.height,
        reader.decoded, media.packets_read, media.seeks,
        {"probe": probe_s, "decode": max(pass_s - encode_s, 0.0), "encode": encode_s}, reader.damaged,
    )  # fmt: skip


def _cover(media: Media, plan: CapturePlan, started: float) -> Iterator[CaptureEvent]:
    """Give each entry the embedded picture of a file without video; selections do not matter."""
    frame = find_cover(media.container, plan.limits)
    if frame is None:
        kinds = ", ".join(sorted({stream.type for stream in media.container.streams})) or "nothing"
        message = f"the source has no video stream and no embedded picture, only {kinds}"
        raise TaskError(Code.RESOURCE_NOT_FOUND, message)
    probed = perf_counter()
    reports = []
    for number, entry in enumerate(plan.entries):
        try:
            renderer = Renderer(entry.rendition)
            pixels = renderer.render(frame, Fraction(1))
            data = encode(pixels, entry.rendition.format, entry.rendition.quality)
        except TaskError as error:
            reports.append(EntryReport(0, 1, (), error.code, error.message))
            continue
        width, height = size_of(pixels)
        zero = Fraction(0)
        yield Image(number, 1, zero, zero, -1, True, width, height, data, hashlib.sha256(data).hexdigest())  # noqa: FBT003
        warnings = (Warn("AspectRatioChanged", DISTORTED),) if renderer.aspect_changed else ()
        reports.append(EntryReport(1, 1, warnings))
    stages = {"probe": probed - started, "decode": 0.0, "encode": perf_counter() - probed}
    container = media.container.format.name.split(",")[0]
    yield Report(tuple(reports), container, "cover", frame.width, frame.height, 1, 1, 0, stages)
