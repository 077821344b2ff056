"""The figures as tables in Markdown. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.compare import OURS, Comparison, Row
from bench.limits import Cell
from bench.reading import Reading
from bench.serving import LIMIT_BYTES, Serving

MB = 1_000_000
_HEAD = ["", "CPU s", "ours/theirs", "wall s", "peak MB", "decoded", "MB read", "images", "MB", "same frames", "runs"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar: what it is about, its target ratio and the measured one."""

    name: str
    limit: float
    ratio: float

    @property
    def passed(self) -> bool:
        return self.ratio <= self.limit


def comparison(found: Comparison) -> str:
    """Write one job's table."""
    ours = found.rows[0]
    lines = [_row(row, ours, found.asked) for row in found.rows]
    title = f"**{found.job.file.name}: {found.job.name}** (at least {found.fewest} frames to decode)"
    return f"{title}\n\n{table(_HEAD, lines)}"


def _row(row: Row, ours: Row, asked: int | None) -> list[str]:
    run = row.run
    same = "–" if run.same is None or asked is None else f"{run.same} of {asked}"
    ratio = "" if row is ours else f"{ours.run.cpu_s / run.cpu_s:.2f}"
    return [
        row.way, f"{run.cpu_s:.2f}", ratio, f"{run.wall_s:.2f}", f"{run.peak_bytes / MB:.0f}",
        _count(run.frames_decoded), "–" if run.bytes_read is None else f"{run.bytes_read / MB:.1f}",
        str(run.images), f"{run.image_bytes / MB:.1f}", same, str(row.runs),
    ]  # fmt: skip


def verdicts_of(found: Comparison) -> list[Verdict]:
    """Judge a job's bars."""
    rows = {row.way: row.run for row in found.rows}
    return [
        Verdict(f"{found.job.name}: CPU to {bar.peer}", bar.limit, rows[OURS].cpu_s / rows[bar.peer].cpu_s)
        for bar in found.job.bars
    ]


def verdicts(found: Sequence[Verdict]) -> str:
    """Write which bars are cleared."""
    lines = [
        [each.name, f"≤ {each.limit:.2f}", f"{each.ratio:.2f}", "yes" if each.passed else "**no**"] for each in found
    ]
    return f"**The bars**\n\n{table(['ours to theirs', 'wanted', 'measured', 'cleared'], lines)}"


def limits(cells: Mapping[tuple[str, str], Cell]) -> str:
    """Write the matrix of frames decoded: one line for each request, one column for each video."""
    videos = list(dict.fromkeys(video for video, _ in cells))
    names = list(dict.fromkeys(name for _, name in cells))
    lines = [[name, *(_cell(cells[video, name]) for video in videos)] for name in names]
    head = ["decoded / fewest possible", *videos]
    return f"**Frames decoded beside the fewest possible** (24 s at 25 fps)\n\n{table(head, lines)}"


def _cell(cell: Cell) -> str:
    return f"{cell.decoded} / {cell.fewest} = {cell.ratio:.2f}"


def readings(found: Mapping[str, Reading]) -> str:
    """Write what was requested of the store."""
    lines = [
        [name, str(one.requests), f"{one.bytes_read / MB:.2f}", f"{one.index_bytes / MB:.2f}",
         f"{one.sample_bytes / MB:.2f}", f"{one.bytes_read / one.allowed_bytes:.2f}"]
        for name, one in found.items()
    ]  # fmt: skip
    head = ["", "requests", "MB read", "index MB", "needed MB", "read / (1.3 × (index + needed + 1 MiB))"]
    return f"**From the store**\n\n{table(head, lines)}"


def latencies(found: Mapping[str, float]) -> str:
    """Write the wall seconds of one frame in the middle."""
    lines = [[name, f"{seconds:.3f}"] for name, seconds in found.items()]
    return f"**One frame in the middle, wall time**\n\n{table(['', 'seconds'], lines)}"


def serving(found: Serving) -> str:
    """Write what the worker takes at rest."""
    lines = [
        ["memory when ready (PSS, all processes)", f"{found.ready_bytes / MB:.0f} MB, at most {LIMIT_BYTES / MB:.0f}"],
        ["memory after work, idle again", f"{found.after_bytes / MB:.0f} MB, at most {LIMIT_BYTES / MB:.0f}"],
    ]
    return f"**The whole worker, {found.slots} slots, at a RabbitMQ**\n\n{table(['', ''], lines)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table: the first column to the left, the others to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)
