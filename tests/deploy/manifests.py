"""Reads the manifests of `deploy/k8s` as Kubernetes would get them, and what they make of the worker.

kubectl builds them as `kubectl apply -k` would.
"""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import yaml

from worker.cli.environment import SECRETS_DIR, load_settings

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
GUIDE = ROOT / "docs" / "kubernetes.md"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = {path.name: path for path in (*sorted((K8S / "components").iterdir()), ROOT / "deploy" / "grafana")}
NEEDS = {"keda-wait": ["keda"]}  # the components that a component adds to
CUSTOM = ("keda.sh/", "monitoring.coreos.com/", "rabbitmq.com/")  # API groups that are not Kubernetes' own
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def kustomize(directory):
    command = [Path(sys.executable).with_name("kubectl"), "kustomize", directory]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return list(yaml.safe_load_all(done.stdout))


@cache
def built(overlay):
    return tuple(kustomize(K8S / "overlays" / overlay))


def of_kind(documents, kind, name="frame-capture"):
    (found,) = (each for each in documents if each["kind"] == kind and base_name(each) == name)
    return found


def base_name(document):
    """A generated ConfigMap's or Secret's name ends in a hash of its contents."""
    return re.sub(r"-[0-9a-z]{10}$", "", document["metadata"]["name"])


def worker_pod(documents):
    return of_kind(documents, "Deployment")["spec"]["template"]["spec"]


def worker_environment(documents):
    """Build the environment as the kubelet would, as far as it is not in a Secret."""
    (container,) = worker_pod(documents)["containers"]
    environment = dict(of_kind(documents, "ConfigMap")["data"])
    for each in container["env"]:
        field = each.get("valueFrom", {}).get("resourceFieldRef")
        if field is None:
            environment[each["name"]] = each["value"]
        else:
            section, resource = field["resource"].split(".")
            assert (resource, field["divisor"]) == ("cpu", "1")
            environment[each["name"]] = container["resources"][section][resource]
    return environment


def settings_of(documents, directory, monkeypatch):
    """Read the settings as the worker would in its pod, from a Secret laid out as the kubelet does."""
    environment = worker_environment(documents)
    secrets = directory / "..2026_01_01" / "frame_capture_amqp__url"
    secrets.parent.mkdir()
    secrets.write_text("amqp://user:password@rabbitmq:5672/")
    (directory / "..data").symlink_to(secrets.parent.name)
    (directory / secrets.name).symlink_to(Path("..data") / secrets.name)
    for name in os.environ:
        if name.startswith("FRAME_CAPTURE_"):
            monkeypatch.delenv(name)
    for name, value in (environment | {SECRETS_DIR: str(directory)}).items():
        monkeypatch.setenv(name, value)
    return load_settings()


def bytes_of(quantity):
    return int(quantity[:-2]) * UNITS[quantity[-2:]]
