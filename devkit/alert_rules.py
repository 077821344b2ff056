"""Writes the alerts of the Kubernetes components as one file of rules for a Prometheus without its operator."""

import json
from pathlib import Path

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
FILE = DEPLOY / "compose" / "alerts.json"


def document() -> str:
    """Put the groups of all PrometheusRules together. JSON is YAML, as Prometheus wants it."""
    found = sorted((DEPLOY / "k8s" / "components").glob("*/prometheusrule.yaml"))
    groups = [group for path in found for group in yaml.safe_load(path.read_text())["spec"]["groups"]]
    return json.dumps({"groups": groups}, indent=2) + "\n"


def main() -> None:
    """Write the file."""
    FILE.write_text(document(), encoding="utf-8")
    print(FILE.relative_to(Path.cwd()))


if __name__ == "__main__":
    main()
