"""Writes the Grafana dashboard `deploy/grafana/frame-capture.json`, with its variables and marks.

Every expression is run in a test against a Prometheus that scraped a worker at work.
"""

import json
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from devkit.dashboard_rows import ROWS, worker
from devkit.panels import SOURCE

FILE = Path(__file__).parents[1] / "deploy" / "grafana" / "frame-capture.json"


def build() -> models.Dashboard:
    """Make the dashboard."""
    board = (
        dashboard.Dashboard("Frame capture")
        .uid("frame-capture")
        .description("Workers that capture frames of videos, as tasks from RabbitMQ tell.")
        .tags(["frame-capture"])
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .annotation(_mark("Alerts", "red", 'ALERTS{alertname=~"FrameCapture.+", alertstate="firing"}'))
        .annotation(_mark("New version", "blue", _new_version()))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for name, label, query, regex in (
        ("namespace", "Namespace", "label_values(frame_capture_build_info, namespace)", ""),
        ("project", "Project", f"label_values({worker('project_tasks_total')}, project)", ""),
        ("queue", "Queue", "label_values(rabbitmq_detailed_queue_consumers, queue)", "/.+\\.tasks\\..+/"),
        ("stage", "Stage", f"label_values({worker('stage_seconds_count')}, stage)", ""),
    ):
        board.with_variable(_variable(name, label, query, regex))
    panel_id = 0
    for title, panels in ROWS.items():
        panel_id += 1
        board.with_row(dashboard.Row(title).id(panel_id))
        for panel in panels():
            panel_id += 1
            panel.id(panel_id)
            board.with_panel(panel)  # type: ignore[arg-type] # the SDK's class has no members of its own
    return board.build()


def _new_version() -> str:
    here = worker("build_info")
    return f"count by (version) ({here}) unless count by (version) ({here} offset 5m)"


def _variable(name: str, label: str, query: str, regex: str) -> dashboard.QueryVariable:
    # Everything matches also what has no such label at all, as outside of Kubernetes; but not any other queue.
    everything = ".+[.]tasks[.].+" if regex else ".*"
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .regex(regex)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def _mark(name: str, colour: str, expr: str) -> dashboard.AnnotationQuery:
    return dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(expr)


def document() -> str:
    """Write the dashboard as JSON."""
    return json.dumps(build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the file."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(document(), encoding="utf-8")
    print(FILE.relative_to(Path.cwd()))


if __name__ == "__main__":
    main()
