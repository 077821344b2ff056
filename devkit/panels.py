"""The three kinds of panels that the dashboard is made of, all with a description, a unit and the chosen data source.

Must not know what is shown.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8
STAT_HEIGHT = 4
WIDTH = 24  # of the whole dashboard, in Grafana's columns

Kind = TypeVar("Kind", timeseries.Panel, stat.Panel, heatmap.Panel)


class Panel(Protocol):
    """What the SDK's builders of panels have in common, as far as it is used here."""

    def id(self, id_val: int) -> object:
        """Number the panel."""

    def build(self) -> models.Panel:
        """Make the panel."""


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the names of its series in the legend, in which `{{label}}` is a label's value."""

    expr: str
    legend: str = ""


def lines(title: str, text: str, unit: str, *queries: Query, stacked: bool = False, per_row: int = 3) -> Panel:
    """Draw series over time, on top of each other where they add up to something."""
    mode = common_models.StackingMode.NORMAL if stacked else common_models.StackingMode.NONE
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM)
        .calcs([])
    )
    panel = (
        _framed(timeseries.Panel(), title, text, unit, HEIGHT, per_row)
        .min(0)
        .line_width(1)
        .fill_opacity(40 if stacked else 10)
        .show_points(common_models.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(mode).group("A"))
        .legend(legend)
    )
    for query, letter in zip(queries, "ABCDEFGH", strict=False):
        panel.with_target(_target(query, letter))
    return panel


def number(title: str, text: str, unit: str, expr: str, *, warn: float | None = None, per_row: int = 6) -> Panel:
    """Show how much it is now, with its course behind it; red from `warn` on."""
    steps = [models.Threshold(value=None, color="green")]
    if warn is not None:
        steps.append(models.Threshold(value=warn, color="red"))
    last = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    return (
        _framed(stat.Panel(), title, text, unit, STAT_HEIGHT, per_row)
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .reduce_options(last)
        .thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(_target(Query(expr), "A"))
    )


def heat(title: str, text: str, unit: str, expr: str, *, repeat: str = "", per_row: int = 3) -> Panel:
    """Draw a histogram over time, from rates of its buckets by `le`; one for each value of the variable `repeat`."""
    axis = heatmap.YAxisConfig().unit(unit).axis_placement(common_models.AxisPlacement.LEFT)
    colours = (
        heatmap.HeatmapColorOptions()
        .mode(heatmap_models.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .steps(64)
    )
    panel = (
        _framed(heatmap.Panel(), title, text, unit, HEIGHT, per_row)
        .calculate(False)
        .y_axis(axis)
        .color(colours)
        .with_target(_target(Query(expr, "{{le}}"), "A").format(PromQueryFormat.HEATMAP))
    )
    return panel.repeat(repeat).repeat_direction("h").max_per_row(per_row) if repeat else panel


def _framed(panel: Kind, title: str, text: str, unit: str, height: int, per_row: int) -> Kind:
    panel.title(title).description(text).unit(unit).datasource(SOURCE)
    return panel.height(height).span(WIDTH // per_row)


def _target(query: Query, letter: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).datasource(SOURCE).ref_id(letter).range()
    return target.legend_format(query.legend) if query.legend else target
