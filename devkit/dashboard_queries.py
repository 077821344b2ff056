"""What a dashboard asks of Prometheus, written as Grafana would send it."""

from collections.abc import Iterator
from typing import Any


def targets(board: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Give each panel with each of its targets, also those of panels in collapsed rows."""
    for panel in board["panels"]:
        for inner in (panel, *panel.get("panels", [])):
            for target in inner.get("targets", []):
                yield inner, target


def filled(expr: str, board: dict[str, Any], rate_interval_s: float) -> str:
    """Put in the variables as they are by default, and Grafana's own."""
    values = {each["name"]: each.get("allValue") for each in board["templating"]["list"] if each["type"] == "query"}
    values["__rate_interval"] = f"{round(rate_interval_s * 1000)}ms"
    for name in sorted(values, key=len, reverse=True):  # no name must be replaced where it begins another
        expr = expr.replace(f"${name}", str(values[name]))
    return expr
