"""The Grafana dashboard is what its generator writes, keeps Grafana's conventions, and asks for what is there."""

import json
import re

import promql_parser
import pytest
from prometheus_client import CollectorRegistry

from devkit import dashboard
from devkit.dashboard_queries import filled, targets
from worker.adapters.amqp import Broker
from worker.adapters.pool import DecoderPool
from worker.metrics import Metrics
from worker.service import watch_gauges
from worker.settings import Amqp, Pool, Retry

# What RabbitMQ's own exporter and Prometheus itself tell.
OTHERS = {
    "rabbitmq_detailed_queue_messages": {"queue", "vhost"},
    "rabbitmq_detailed_queue_messages_ready": {"queue", "vhost"},
    "rabbitmq_detailed_queue_messages_unacked": {"queue", "vhost"},
    "rabbitmq_detailed_queue_consumers": {"queue", "vhost"},
    "ALERTS": {"alertname", "alertstate", "severity"},
}
SCRAPED = {"namespace", "pod", "instance", "job", "le"}


@pytest.fixture(scope="module")
def board():
    return json.loads(dashboard.FILE.read_text())


@pytest.fixture(scope="module")
def known():
    """The labels of every metric."""
    metrics = Metrics(CollectorRegistry())
    metrics.build.info({"version": "1", "ffmpeg": "1", "python": "1"})
    watch_gauges(metrics, DecoderPool(Pool(slots=1)), Broker(Amqp(), Retry()))
    ours = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            ours.setdefault(sample.name, set()).update(sample.labels)
    return ours | OTHERS


def expressions(board):
    panels = [(panel["title"], target["expr"]) for panel, target in targets(board)]
    return panels + [(each["name"], each["expr"]) for each in board["annotations"]["list"]]


def parsed(node):
    """All parts of a parsed expression."""
    parts = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param", "vector_selector")]
    inner = [each for part in [*parts, *getattr(node, "args", [])] if part is not None for each in parsed(part)]
    return [node, *inner]


def test_the_file_is_what_the_generator_writes():
    assert dashboard.FILE.read_text() == dashboard.document(), "run `make dashboards`"


def test_every_panel_is_told_apart_explained_and_measured(board):
    panels = [each for each in board["panels"] if each["type"] != "row"]
    rows = [each for each in board["panels"] if each["type"] == "row"]
    assert len(rows) == 7
    assert len(panels) > 40
    ids = [each["id"] for each in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert len({each["title"] for each in panels}) == len(panels)
    for panel in panels:
        assert panel["description"].endswith((".", "`.")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {"${datasource}"}
        letters = [each["refId"] for each in panel["targets"]]
        assert len(set(letters)) == len(letters), panel["title"]
        if panel["type"] == "heatmap":
            assert {each["format"] for each in panel["targets"]} == {"heatmap"}, panel["title"]


def test_no_panel_lies_on_another(board):
    taken = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken.get((x, y))}"
                taken[x, y] = panel["title"]


def test_one_chooses_data_source_namespace_project_queue_and_stage(board):
    variables = {each["name"]: each for each in board["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "project", "queue", "stage"]
    assert variables["datasource"]["query"] == "prometheus"
    used = {name for _, expr in expressions(board) for name in re.findall(r"\$(\w+)", expr)}
    assert used == (variables.keys() - {"datasource"}) | {"__rate_interval"}


def test_every_expression_is_valid_and_asks_for_labels_that_are_there(board, known):
    for title, expr in expressions(board):
        nodes = parsed(promql_parser.parse(filled(expr, board, 60)))
        selectors = [each for each in nodes if isinstance(each, promql_parser.VectorSelector)]
        assert selectors, title
        labels = set(SCRAPED)
        for each in selectors:
            assert each.name in known, f"{title}: no worker has {each.name}"
            labels |= known[each.name]
            assert {one.name for one in each.matchers.matchers} <= known[each.name] | SCRAPED, f"{title}: {each}"
        grouped = {one.strip() for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr) for one in by.split(",")}
        assert grouped <= labels, title


def test_legends_name_labels_that_their_series_have(board):
    for panel, target in targets(board):
        told = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
        grouped = {one.strip() for by in re.findall(r"\bby \(([^)]*)\)", target["expr"]) for one in by.split(",")}
        assert told <= grouped, panel["title"]
        if panel["type"] == "timeseries":
            assert grouped - {"le"} <= told, f"{panel['title']}: series that look alike"


def test_rates_are_over_what_grafana_finds_right(board):
    for title, expr in expressions(board):
        assert set(re.findall(r"}\[(.+?)\]", expr)) <= {"$__rate_interval"}, title


def test_a_variable_whose_name_begins_anothers_is_put_in_right():
    board = {
        "templating": {
            "list": [{"name": "a", "type": "query", "allValue": "1"}, {"name": "ab", "type": "query", "allValue": "2"}]
        }
    }
    assert filled("$ab $a [$__rate_interval]", board, 1.5) == "2 1 [1500ms]"
