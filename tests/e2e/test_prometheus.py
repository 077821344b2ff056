"""What dashboard and alerts ask is asked of a real Prometheus, which scraped a real worker and its broker at work."""

import asyncio
import json
import math
import re
import shutil
import subprocess
import time
from itertools import cycle
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest
import yaml

from devkit.dashboard import FILE
from devkit.dashboard_picture import draw
from devkit.dashboard_queries import filled, targets
from tests.e2e.observed import SCRAPE_S, TASKS, listening, observed
from worker.metrics import STAGES

COMPONENTS = Path(__file__).parents[2] / "deploy" / "k8s" / "components"
DEADLINE_S = 60
RATE_S = 8 * SCRAPE_S
DRAWN_S = 180
ROUND = 12  # tasks at once, half of which fail

pytestmark = [
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: package prometheus)"
    ),
    pytest.mark.timeout(600),  # a broker, a worker and Prometheus are started, and then there is work to do
]


@pytest.fixture(scope="module")
def board():
    return json.loads(FILE.read_text())


@pytest.fixture(scope="module")
def asked(board):
    """Every expression of the dashboard, by where it stands."""
    panels = {f"{panel['title']} {target['refId']}": target["expr"] for panel, target in targets(board)}
    marks = {f"mark {each['name']}": each["expr"] for each in board["annotations"]["list"]}
    return {name: filled(expr, board, RATE_S) for name, expr in (panels | marks).items()}


@pytest.fixture(scope="module")
def seen(tmp_path_factory, sources):
    directory = tmp_path_factory.mktemp("observed")
    specs = [yaml.safe_load(path.read_text())["spec"] for path in COMPONENTS.glob("*/prometheusrule.yaml")]
    rules = {"groups": [group for spec in specs for group in spec["groups"]]}
    with observed(directory, sources.root, rules) as seen:
        yield seen


@pytest.fixture(scope="module")
def peaks(seen, asked, board, request):
    """The greatest value of each series of each expression, after as much work as it took for all to have any."""
    drawn = request.config.getoption("--draw-dashboard")
    if drawn is not None:
        asyncio.run(_work_to_be_drawn(seen))
        end = time.time()
        drawn.write_text(draw(board, seen.prometheus, end - DRAWN_S, end, rate_s=15, values={"stage": list(STAGES)}))
    return asyncio.run(_peaks(seen, asked))


async def _work_to_be_drawn(seen):
    """Work with ups and downs, some broken decoders included."""
    async with listening(seen) as line:
        for tasks in cycle((ROUND, ROUND // 2, 2 * ROUND)):
            if time.time() > seen.started + DRAWN_S + 15:
                return
            await seen.work(line, tasks)
            seen.kill_a_decoder()


async def _peaks(seen, asked):
    deadline = time.monotonic() + DEADLINE_S
    found = {}
    async with listening(seen) as line:
        await seen.work(line, ROUND)
        while not _complete(found, asked) and time.monotonic() < deadline:
            # Only now, since Prometheus has to have seen how many died before; again where it was about to end anyway.
            if not found.get("Decoder exits by cause A", {}).get("crashed"):
                seen.kill_a_decoder()
            await seen.work(line, ROUND)
            found = {name: peak for name, expr in asked.items() if (peak := await asyncio.to_thread(_peak, seen, expr))}
    return found


def _complete(found, asked):
    return len(found) == len(asked) and found["Decoder exits by cause A"]["crashed"] > 0


def _peak(seen, expr):
    """The greatest value of each series by its labels' values, of those that had any."""
    series = seen.prometheus.range(expr, seen.started, time.time(), SCRAPE_S)
    known = {
        " ".join(each.labels[name] for name in sorted(each.labels)): [
            value for _, value in each.values if not math.isnan(value)
        ]
        for each in series
    }
    return {name: max(values) for name, values in known.items() if values}


def test_every_expression_of_the_dashboard_returns_data(peaks, asked):
    assert len(asked) > 50
    assert {name: asked[name] for name in asked.keys() - peaks.keys()} == {}


def test_what_the_worker_did_is_what_the_dashboard_shows(peaks):
    def moved(name):
        return {each for each, value in peaks[name].items() if value > 0}

    assert moved("Tasks by outcome A") == {"succeeded", "failed"}
    # What cannot be read is no task, and belongs to no project.
    assert moved("Tasks by project A") == TASKS.keys() - {"typo"}
    assert moved("Failures by project A") == {"forum", "mirror"}
    assert moved("Images by project A") == {"shop", "archive", "news"}
    assert moved("Images A") == {"jpg interval", "jpg keyframe", "png average", "webp dhash"}
    assert moved("Parked by reason A") == {"ResourceNotFound", "CorruptMedia", "InvalidArgument"}
    assert "crashed" in moved("Decoder exits by cause A")
    assert moved("Where time goes A") == set(STAGES)
    assert peaks["Messages A"]["frame-capture.tasks.main"] > 0
    assert peaks["Parked now A"]["frame-capture.dead.main"] >= ROUND / 2
    assert peaks["Consumers A"] == {"frame-capture.tasks.main": 1}
    assert 0 < peaks["Slots busy A"][""] <= 1
    assert 0 < peaks["Failed A"][""] <= 1
    for name in ("Tasks over A", "Wait, p95 A", "Broker latency C", "Bytes A", "Bytes B", "Largest decoder A"):
        assert max(peaks[name].values()) > 0, name
    assert "FrameCaptureTasksParked" in " ".join(peaks["mark Alerts"])


def test_every_list_to_choose_from_offers_something(seen, peaks, board):
    offered = {}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()
            values = seen.prometheus.get(f"label/{quote(label)}/values", **{"match[]": filled(selector, board, RATE_S)})
            pattern = variable.get("regex", "").strip("/")
            offered[variable["name"]] = {each for each in values if re.search(pattern, each)}
    assert offered == {
        "namespace": {"test"},
        "project": (TASKS.keys() - {"typo"}) | {"(other)"},
        "queue": {"frame-capture.tasks.main"},
        "stage": set(STAGES),
    }


def test_the_dashboard_can_be_drawn(seen, peaks, board):
    picture = draw(board, seen.prometheus, seen.started, time.time(), rate_s=RATE_S, values={"stage": list(STAGES)})
    told = [each.text for each in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    titles = {panel["title"] for panel in board["panels"]} - {"Stage $stage"} | {f"Stage {stage}" for stage in STAGES}
    assert titles <= set(told)
    assert "no data" not in told
    assert "nothing yet" not in told


def test_prometheus_has_nothing_to_say_against_the_metrics(seen, peaks):
    status, text = seen.worker.get("/metrics")
    assert status == 200
    command = [shutil.which("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_rule_can_be_evaluated(seen, peaks):
    rules = [rule for group in seen.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 12
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}
