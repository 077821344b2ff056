"""The alerts on RabbitMQ's own metrics fire when they should, and know the broker's limits and names."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml

from worker.adapters.topology import topology
from worker.settings import Amqp, Retry

ROOT = Path(__file__).parents[2]
COMPONENT = ROOT / "deploy" / "k8s" / "components" / "broker-monitor"
POLICIES = json.loads((ROOT / "deploy" / "rabbitmq" / "definitions.json").read_text())["policies"]
RULES = yaml.safe_load((COMPONENT / "prometheusrule.yaml").read_text())["spec"]
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}


def test_alerts_on_the_broker_fire_when_they_should(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: package prometheus)")
    cases = COMPONENT / "alerts.test.yaml"
    assert ALERTS.keys() == set(re.findall(r'alertname="(\w+)"', cases.read_text()))
    (tmp_path / "rules.yaml").write_text(json.dumps(RULES))
    shutil.copy(cases, tmp_path)
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", cases.name]):
        done = subprocess.run(
            [promtool, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_on_the_broker_ask_for_queues_that_there_are():
    names = topology(Amqp(), Retry())
    asked = {match for rule in ALERTS.values() for match in re.findall(r'queue=~"([^"]+)"', rule["expr"])}
    matched = {
        pattern: {queue.name for queue in names.queues if re.fullmatch(pattern, queue.name)} for pattern in asked
    }
    assert sorted(map(sorted, matched.values())) == [[names.parked_queue], [names.task_queue]]
    for rule in ALERTS.values():
        promql_parser.parse(rule["expr"])


def test_the_alert_on_the_parked_knows_how_many_the_policy_lets_be_parked():
    (parked,) = (each for each in POLICIES if each["name"] == "frame-capture-parked")
    expr = ALERTS["FrameCaptureParkedPiling"]["expr"]
    assert expr.strip().endswith(f"> 0.8 * {parked['definition']['max-length']}")


def test_every_alert_on_the_broker_has_a_section_that_tells_what_to_do():
    guide = (ROOT / "docs" / "operations.md").read_text()
    headings = {f"docs/operations.md#{each.lower()}" for each in re.findall(r"^### (Frame\w+)$", guide, re.MULTILINE)}
    assert {rule["annotations"]["runbook"] for rule in ALERTS.values()} == headings
