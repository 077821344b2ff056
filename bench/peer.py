"""The `ffmpeg` commands that do an example's job: each way that a competent user would write it.

Pure: from a job to command lines. JPEGs are written at `-q:v 2`, which makes them about as large as ours at quality 90
on real footage; PNGs at ffmpeg's own default.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from bench.jobs import Job
from worker.media.plan import Format, Mode, Rendition, ScaleType, Selection

Command = list[str]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do a job: its commands, run one after the other, and a name for the report."""

    name: str
    commands: tuple[Command, ...]


class Builder:
    """Writes command lines for one job; `threads` 0 leaves ffmpeg its default, which is all CPUs."""

    def __init__(self, job: Job, folder: Path, threads: int) -> None:
        self._job = job
        self._folder = folder
        self._threads = ["-threads", str(threads)] if threads else []
        self._filter_threads = ["-filter_threads", str(threads)] if threads else []

    def ways(self) -> list[Way]:
        """Give all ways that there are."""
        if self._job.audio:
            return self._picture()
        selection = self._job.entry.selection
        match selection.mode:
            case Mode.KEYFRAME:
                return [self._keyframes()]
            case Mode.DHASH:
                return self._changes(selection)
            case _:
                return self._times(times(selection, self._job.duration_s))

    def _picture(self) -> list[Way]:
        copied = [*self._start(), *self._input([]), "-an", "-c:v", "copy", self._output("{}.jpg", 1)]
        drawn = [*self._start(), *self._input([]), "-an", *self._image(["-frames:v", "1"], [], 1)]
        return [Way("-c:v copy", (copied,)), Way("decode and encode", (drawn,))]

    def _keyframes(self) -> Way:
        command = [*self._start(), *self._input(["-skip_frame", "nokey"])]
        return Way("-skip_frame nokey", ([*command, *self._image(["-fps_mode", "passthrough"])],))

    def _changes(self, selection: Selection) -> list[Way]:
        """The nearest that there is: ffmpeg knows no dhash, and picks its best frames within groups only."""
        chosen = f"select='gt(scene,{selection.threshold / 100})'"
        if selection.number:
            samples = self._job.duration_s / selection.interval_s
            chosen = f"thumbnail=n={-(-samples // selection.number)}"
        filters = [f"fps={1 / selection.interval_s}:round=up", chosen]
        image = self._image(["-fps_mode", "passthrough"], filters)
        return [Way(f"fps, {chosen} (similar)", ([*self._start(), *self._input([]), *image],))]

    def _times(self, times_s: Sequence[Fraction]) -> list[Way]:
        seeks = [["-ss", str(float(time_s))] for time_s in times_s]
        one = ["-frames:v", "1"]
        each = tuple(
            [*self._start(), *self._input(seek), *self._image(one, number=number)]
            for number, seek in enumerate(seeks, 1)
        )
        if len(times_s) == 1:
            return [Way("-ss", each)]
        inputs = [part for seek in seeks for part in self._input(seek)]
        outputs = [
            part
            for number in range(1, len(seeks) + 1)
            for part in ["-map", f"{number - 1}:v:0", *self._image(one, number=number)]
        ]
        step_s = times_s[1] - times_s[0]
        sampled = [f"fps={1 / step_s}:round=up"]
        count = ["-frames:v", str(len(times_s))]
        return [
            Way("a process per frame, -ss", each),
            Way("one process, an input per frame, -ss", ([*self._start(), *inputs, *outputs],)),
            Way("fps filter", ([*self._start(), *self._input(seeks[0]), *self._image(count, sampled)],)),
        ]

    def _start(self) -> Command:
        return ["ffmpeg", "-nostdin", "-v", "error", "-y", *self._filter_threads]

    def _input(self, options: Sequence[str]) -> Command:
        return [*self._threads, *options, "-i", str(self._job.file)]

    def _image(self, options: Sequence[str], filters: Sequence[str] = (), number: int | None = None) -> Command:
        rendition = self._job.entry.rendition
        chain = ",".join([*filters, *sizing(rendition)])
        quality = ["-q:v", "2"] if rendition.format is Format.JPG else []
        output = self._output(f"{{}}.{rendition.format.value}", number)
        return [*self._threads, "-an", *options, *(["-vf", chain] if chain else []), *quality, output]

    def _output(self, name: str, number: int | None) -> str:
        return str(self._folder / name.format("%d" if number is None else number))


def times(selection: Selection, duration_s: int) -> list[Fraction]:
    """Tell the times that a selection by time asks for in a video of this length."""
    length_s = duration_s - selection.start_s
    interval_s = length_s / selection.number if selection.mode is Mode.AVERAGE else selection.interval_s
    count = selection.number or -(-length_s // interval_s)
    return [selection.start_s + number * interval_s for number in range(count)]


def sizing(rendition: Rendition) -> list[str]:
    """Write a rendition as filters. Raises `ValueError` for what no example has, and so nobody has checked."""
    match rendition:
        case Rendition(width=None, height=None):
            return []
        case Rendition(width=Fraction() as share, height=height) if share == height:
            return [f"scale=iw*{share}:ih*{share}"]
        case Rendition(width=int() as width, height=int() as height, scale_type=ScaleType.CROP):
            return [f"scale={width}:{height}:force_original_aspect_ratio=increase", f"crop={width}:{height}"]
    raise ValueError(f"{rendition}: the benchmark has filters for no size, equal shares, and a crop in pixels only")
