"""Draws the dashboard as an SVG picture, from what a Prometheus answers to its queries.

For people who have no Grafana at hand; not Grafana's own rendering. Must not know what is shown.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from devkit.dashboard_queries import filled
from devkit.prometheus import Prometheus, Series

COLUMN, ROW, GAP = 60, 32, 6  # pixels of Grafana's grid
LEFT, TOP, LEGEND = 66, 28, 34  # pixels around a plot
COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#e02f44", "#b877d9", "#37872d", "#8ab8ff", "#c4162a", "#fade2a")
STYLE = """text { font: 11px sans-serif; fill: #ccccdc } .title { font-size: 12px; font-weight: bold }
.row { font-size: 14px; font-weight: bold } .number { font-size: 30px; font-weight: bold } .axis { fill: #8e8e9a }"""
SCALES = {
    "s": ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")),
    "bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    "Bps": ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1, "B/s")),
    "percentunit": ((0.01, "%"),),
    "ops": ((1, "/s"),),
    "reqps": ((1, "/s"),),
    "short": ((1e6, "M"), (1e3, "k"), (1, "")),
}

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Frame:
    """The plot of one panel: where it is, in pixels, and the range of time and values that it shows."""

    x: float
    y: float
    width: float
    height: float
    start: float
    end: float
    top: float

    def at(self, time: float, value: float) -> str:
        """Give a point's pixels."""
        across = self.x + self.width * (time - self.start) / (self.end - self.start)
        return f"{across:.1f},{self.y + self.height * (1 - min(value / self.top, 1)):.1f}"


def draw(
    board: dict[str, Any], server: Prometheus, start: float, end: float, *, rate_s: float, values: dict[str, list[str]]
) -> str:
    """Write the picture of a dashboard from one Unix time to another.

    `rate_s` is the span of rates, and `values` are those of the variables for which panels are repeated.
    """
    panels = _repeated(board["panels"], values)
    step_s = (end - start) / 90
    parts = []
    for panel in panels:
        if panel["type"] == "row":
            parts.append(_text(panel, 4, 21, panel["title"], "row"))
            continue
        answers = [
            (server.range(filled(_chosen(target["expr"], panel), board, rate_s), start, end, step_s), target)
            for target in panel["targets"]
        ]
        parts += _panel(
            panel,
            [(_name(each, target), each.values) for series, target in answers for each in series],
            start,
            end,
            step_s,
        )
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels) * ROW
    size = f'width="{24 * COLUMN}" height="{height}" viewBox="0 0 {24 * COLUMN} {height}"'
    back = '<rect width="100%" height="100%" fill="#111217"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{back}\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _repeated(panels: Sequence[dict[str, Any]], values: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Put one panel for each value in the place of those that are repeated, and move what is below."""
    found: list[dict[str, Any]] = []
    moved = 0
    for panel in panels:
        place = panel["gridPos"]
        if not panel.get("repeat"):
            found.append(panel | {"gridPos": place | {"y": place["y"] + moved}})
            continue
        width = 24 // panel["maxPerRow"]
        for number, value in enumerate(values[panel["repeat"]]):
            down, across = divmod(number, panel["maxPerRow"])
            there = {"x": across * width, "y": place["y"] + moved + down * place["h"], "w": width, "h": place["h"]}
            title = panel["title"].replace(f"${panel['repeat']}", value)
            found.append(panel | {"gridPos": there, "title": title, "chosen": value})
        moved += (math.ceil(len(values[panel["repeat"]]) / panel["maxPerRow"]) - 1) * place["h"]
    return found


def _chosen(expr: str, panel: dict[str, Any]) -> str:
    return expr.replace(f"${panel['repeat']}", panel["chosen"]) if "chosen" in panel else expr


def _name(series: Series, target: dict[str, Any]) -> str:
    name: str = target.get("legendFormat", "")
    for label, value in series.labels.items():
        name = name.replace("{{" + label + "}}", value)
    return name


def _panel(
    panel: dict[str, Any], series: list[tuple[str, Points]], start: float, end: float, step_s: float
) -> list[str]:
    place, defaults = panel["gridPos"], panel["fieldConfig"]["defaults"]
    x, y = place["x"] * COLUMN + GAP / 2, place["y"] * ROW + GAP / 2
    width, height = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
    shown = [(name, tuple((at, value) for at, value in points if not math.isnan(value))) for name, points in series]
    shown = [(name, points) for name, points in shown if points]
    box = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" fill="#181b1f" stroke="#2a2d33"/>'
    parts = [box, _text(panel, 10, 20, panel["title"], "title")]
    if panel["type"] == "stat":
        frame = Frame(x, y + 60, width, height - 60, start, end, _top(shown))
        now = _number(shown[0][1][-1][1], defaults["unit"]) if shown else "no data"
        return [*parts, *_lines(frame, shown), _text(panel, 12, 58, now, "number")]
    plot = (x + LEFT, y + TOP, width - LEFT - 8, height - TOP - LEGEND - 14)
    if panel["type"] == "heatmap":
        return parts + _heat(Frame(*plot, start, end, 1), shown, step_s, defaults["unit"])
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    shown = _stacked(shown) if stacked else shown
    frame = Frame(*plot, start, end, _top(shown))
    return [
        *parts,
        *_axis(frame, defaults["unit"]),
        *_lines(frame, shown, stacked=stacked),
        *_legend(frame, [name for name, _ in shown]),
    ]


def _top(series: Iterable[tuple[str, Points]]) -> float:
    return max((value for _, points in series for _, value in points if math.isfinite(value)), default=0) * 1.1 or 1.1


def _stacked(series: list[tuple[str, Points]]) -> list[tuple[str, Points]]:
    """Put each series on those before it; what is always nothing is left out."""
    heights: dict[float, float] = {}
    found = []
    for name, points in series:
        if any(value for _, value in points):
            for at, value in points:
                heights[at] = heights.get(at, 0) + value
            found.append((name, tuple((at, heights[at]) for at, _ in points)))
    return found[::-1] or series[:1]


def _lines(frame: Frame, series: list[tuple[str, Points]], *, stacked: bool = False) -> list[str]:
    """Draw each series; below those that are `stacked`, the highest of which comes first, in its colour."""
    drawn = []
    for number, (_, points) in enumerate(series):
        dots = [frame.at(at, value) for at, value in points if math.isfinite(value)]
        colour = COLOURS[number % len(COLOURS)]
        if stacked and dots:
            ground = [frame.at(points[-1][0], 0), frame.at(points[0][0], 0)]
            drawn.append(f'<polygon points="{" ".join(dots + ground)}" fill="{colour}" fill-opacity="0.25"/>')
        drawn.append(f'<polyline points="{" ".join(dots)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return drawn


def _axis(frame: Frame, unit: str) -> list[str]:
    parts = []
    for share in (0, 0.5, 1):
        value, down = frame.top / 1.1 * share, frame.y + frame.height * (1 - share / 1.1)
        parts.append(f'<path d="M{frame.x:.0f} {down:.1f}h{frame.width:.0f}" stroke="#2a2d33"/>')
        parts.append(_left(frame, down, _number(value, unit)))
    return [*parts, *_times(frame)]


def _left(frame: Frame, down: float, text: str) -> str:
    return f'<text class="axis" x="{frame.x - 6:.0f}" y="{down + 4:.1f}" text-anchor="end">{text}</text>'


def _times(frame: Frame) -> list[str]:
    down, seconds = frame.y + frame.height + 14, frame.end - frame.start
    return [
        f'<text class="axis" x="{frame.x + frame.width * share:.0f}" y="{down:.0f}" text-anchor="middle">'
        f"{seconds * share:.0f} s</text>"
        for share in (0.25, 0.5, 0.75)
    ]


def _legend(frame: Frame, names: list[str]) -> list[str]:
    across, down = frame.x - LEFT + 12, frame.y + frame.height + 30
    parts = []
    for number, name in enumerate(names):
        width = 22 + 6.2 * len(name)
        if across + width > frame.x + frame.width:
            across, down = frame.x - LEFT + 12, down + 14
        if down > frame.y + frame.height + 46:
            break
        parts.append(f'<rect x="{across:.0f}" y="{down - 8:.0f}" width="10" height="4" fill="{COLOURS[number % 10]}"/>')
        parts.append(f'<text x="{across + 14:.0f}" y="{down:.0f}">{escape(name)}</text>')
        across += width
    return parts


def _heat(frame: Frame, series: list[tuple[str, Points]], step_s: float, unit: str) -> list[str]:
    """Draw rates of cumulative buckets as cells, one row for each bucket between the first and last that has any."""
    buckets = [dict(points) for _, points in sorted(series, key=lambda each: float(each[0]))]
    bounds = sorted((float(name) for name, _ in series))
    rows = (
        [buckets[0], *({at: high[at] - low.get(at, 0) for at in high} for low, high in pairwise(buckets))]
        if buckets
        else []
    )
    used = [number for number, row in enumerate(rows) if any(value > 1e-9 for value in row.values())]
    if not used:
        return [f'<text x="{frame.x:.0f}" y="{frame.y + 20:.0f}">nothing yet</text>']
    first, last = used[0], used[-1]
    most, tall = max(max(row.values()) for row in rows), frame.height / (last - first + 1)
    wide = frame.width * step_s / (frame.end - frame.start)
    parts = _times(frame)
    for number in range(first, last + 1):
        down = frame.y + frame.height - (number - first + 1) * tall
        parts.append(_left(frame, down, _number(bounds[number], unit)))
        for at, value in rows[number].items():
            if value > most * 0.002:
                across = frame.x + frame.width * (at - frame.start) / (frame.end - frame.start)
                shade = f'fill="#ff780a" fill-opacity="{0.15 + 0.85 * math.sqrt(value / most):.2f}"'
                parts.append(
                    f'<rect x="{across - wide:.1f}" y="{down:.1f}" width="{wide:.1f}" height="{tall:.1f}" {shade}/>'
                )
    return parts


def _number(value: float, unit: str) -> str:
    if math.isinf(value):
        return "∞"
    scales = SCALES[unit]
    size, name = next((each for each in scales if abs(value) >= each[0]), scales[-1])
    return f"{value / size:.3g} {name}".rstrip() if value else "0"


def _text(panel: dict[str, Any], across: float, down: float, text: str, kind: str) -> str:
    place = panel["gridPos"]
    x, y = place["x"] * COLUMN + across, place["y"] * ROW + down
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'
