"""The figures as plain tables. Pure."""

from collections.abc import Sequence

from bench.compare import Row
from bench.serving import LIMIT_BYTES, Serving

MB = 1_000_000
HEAD = (
    "task", "ours", "ffmpeg", "ratio", "all CPUs", "ratio",
    "decoded", "ffmpeg", "KB read", "ffmpeg", "images", "ffmpeg", "KB each", "ffmpeg", "ffmpeg's way",
)  # fmt: skip
NOTES = """\
CPU seconds, user and system, medians. ours: the capture in a warm process, as in a decoder that serves task after task.
ffmpeg: its best way with -threads 1, then the same with its default of all CPUs. Its figures include its start-up,
which it has for every job: {:.3f} s. ratio: ours to ffmpeg's, below 1 is less than ffmpeg. decoded, KB read, images,
KB each: ours, and ffmpeg's with -threads 1. JPEGs: ours at quality 90, ffmpeg's at -q:v 2. PNGs: ours at level 1,
ffmpeg's at its default. (similar): the nearest that ffmpeg can do."""


def comparison(title: str, rows: Sequence[Row]) -> str:
    """Write one medium's table."""
    lines = [HEAD, *(_cells(row) for row in rows)]
    return f"{title}\n\n{table(lines)}"


def _cells(row: Row) -> tuple[str, ...]:
    ours, peer, default_s = row.ours, row.peer, row.peer_default_threads_cpu_s
    return (
        row.job, f"{ours.cpu_s:.3f}",
        f"{peer.cpu_s:.3f}", ratio(ours.cpu_s, peer.cpu_s),
        f"{default_s:.3f}", ratio(ours.cpu_s, default_s),
        str(ours.frames_decoded), _count(peer.frames_decoded),
        _count(ours.bytes_read // 1000), _count(None if peer.bytes_read is None else peer.bytes_read // 1000),
        str(ours.images), str(peer.images),
        _count(ours.image_bytes // ours.images // 1000), _count(peer.image_bytes // peer.images // 1000),
        peer.way,
    )  # fmt: skip


def whole_runs(rows: Sequence[Row]) -> str:
    """Write what a `frame-capture run` costs from start to end."""
    lines: list[tuple[str, ...]] = [("task", "frame-capture run", "of that the capture", "ffmpeg")]
    for row in rows:
        if row.run_cpu_s is not None:
            costs = (row.run_cpu_s, row.ours.cpu_s, row.peer.cpu_s)
            lines.append((row.job, *(f"{cost:.3f}" for cost in costs)))
    return f"Whole processes, start-up included: CPU seconds\n\n{table(lines)}"


def serving(found: Serving) -> str:
    """Write what the worker takes at a broker."""
    verdict = "TOO MUCH" if found.too_large else "ok"
    return f"""\
The whole worker with {found.slots} slots, at a real RabbitMQ

memory at rest (PSS, all processes): {found.ready_bytes / MB:.0f} MB when ready, \
{found.after_examples_bytes / MB:.0f} MB after the example tasks; limit {LIMIT_BYTES / MB:.0f} MB: {verdict}
a trivial task (one frame of 64x64): {found.tasks_per_s:.0f} tasks per second over {found.tasks} tasks; CPU per task \
{found.parent_cpu_s * 1000:.1f} ms in the worker's own process, {found.other_cpu_s * 1000:.1f} ms in its decoders"""


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first and the last to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in (0, last) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def ratio(ours: float, peer: float) -> str:
    """Write how often `peer` fits into `ours`."""
    return f"{ours / peer:.2f}" if peer else "n/a"


def _count(value: int | None) -> str:
    return "n/a" if value is None else str(value)
