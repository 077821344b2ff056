"""The alerts: each asks for what a worker tells, fires when it should, and has a section that says what to do."""

import json
import re
import shutil
import subprocess
from functools import cache

import promql_parser
import pytest

from tests.deploy.exposition import samples, selectors
from tests.deploy.manifests import GUIDE, K8S, built, of_kind, settings_of

ADDED_BY_PROMETHEUS = {"namespace", "pod"}


@cache
def alerts():
    (group,) = of_kind(built("production"), "PrometheusRule")["spec"]["groups"]
    return tuple(group["rules"])


def matches(matcher, labels):
    value = labels.get(matcher.name, "")
    if matcher.op == promql_parser.MatchOp.Equal:
        return value == matcher.value
    assert matcher.op == promql_parser.MatchOp.Re
    return re.fullmatch(matcher.value, value) is not None


def test_every_alert_asks_for_series_that_a_worker_has():
    assert len(alerts()) >= 10
    for alert in alerts():
        found = selectors(promql_parser.parse(alert["expr"]))
        assert found, alert["alert"]
        for selector in found:
            named = [each for each in samples() if each.name == selector.name]
            wanted = [each for each in named if all(matches(one, each.labels) for one in selector.matchers.matchers)]
            assert wanted, f"{alert['alert']}: no worker has {selector}"
            for one in selector.matchers.matchers:
                missing = set(one.value.split("|")) - {each.labels[one.name] for each in named}
                assert not missing, f"{alert['alert']}: {selector.name} has no {one.name} {missing}"


def test_every_label_of_an_alert_is_one_of_its_series():
    for alert in alerts():
        names = {selector.name for selector in selectors(promql_parser.parse(alert["expr"]))}
        known = {label for each in samples() if each.name in names for label in each.labels} | ADDED_BY_PROMETHEUS
        grouped = {
            each.strip() for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", alert["expr"]) for each in by.split(",")
        }
        assert grouped <= known, alert["alert"]
        told = set(re.findall(r"\$labels\.(\w+)", json.dumps(alert["annotations"])))
        assert told <= grouped, alert["alert"]


def test_every_alert_has_a_section_that_tells_what_to_do():
    headings = {
        f"docs/kubernetes.md#{each.lower()}" for each in re.findall(r"^### (\w+)$", GUIDE.read_text(), re.MULTILINE)
    }
    assert {alert["annotations"]["runbook"] for alert in alerts()} == headings


def test_alerts_fire_when_they_should(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: package prometheus)")
    cases = K8S / "components" / "prometheus-rule" / "alerts.test.yaml"
    assert {alert["alert"] for alert in alerts()} == set(re.findall(r'alertname="(\w+)"', cases.read_text()))
    (tmp_path / "rules.yaml").write_text(json.dumps(of_kind(built("production"), "PrometheusRule")["spec"]))
    shutil.copy(cases, tmp_path)
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", cases.name]):
        done = subprocess.run(
            [promtool, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_on_limits_know_the_limits(tmp_path, monkeypatch):
    settings = settings_of(built("production"), tmp_path, monkeypatch)
    by_name = {alert["alert"]: alert["expr"] for alert in alerts()}
    assert by_name["FrameCaptureDecoderMemoryHigh"].endswith(f"0.9 * {settings.pool.memory_bytes}")
    assert f'le="{settings.pool.soft_time_limit_s / 2:.1f}"' in by_name["FrameCaptureNearTimeLimit"]
