"""What an overlay refers to is in it or is told of in the guide, and the dashboard in it is the generated one."""

import json
import re

import pytest

from tests.deploy.manifests import GUIDE, OVERLAYS, ROOT, base_name, built, of_kind

LARGEST_BYTES = 262_144  # what `kubectl apply` notes of an object in an annotation of it


def strings(node):
    """Yield each key with its text, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, str):
                yield key, value
            yield from strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)


def secret_names(document):
    """Name the Secrets that an object reads."""
    if document["kind"] == "TriggerAuthentication":
        return {each["name"] for each in document["spec"]["secretTargetRef"]}
    if document["kind"] == "User":
        return {document["spec"]["importCredentialsSecret"]["name"]}
    return {value for key, value in strings(document) if key == "secretName"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_secret_is_there_or_told_of(overlay):
    documents = built(overlay)
    wanted = {name for each in documents for name in secret_names(each)}
    there = {each["metadata"]["name"] for each in documents if each["kind"] == "Secret"}
    told = set(re.findall(r"`(frame-capture[a-z-]*)`", GUIDE.read_text()))
    assert wanted - there <= told
    # kustomize adds a hash to a generated Secret's name, but not to what custom resources call it.
    assert not {base_name(each) for each in documents if each["kind"] == "Secret"} & (wanted - there)
    assert len(wanted) >= 2


@pytest.mark.parametrize("overlay", ["production", "operators", "dev-scaled"])
def test_grafanas_sidecar_finds_the_dashboard(overlay):
    config = of_kind(built(overlay), "ConfigMap", "frame-capture-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert config["data"] == {
        "frame-capture.json": (ROOT / "deploy" / "grafana" / "frame-capture.json").read_text(),
    }
    assert len(json.dumps(config)) < LARGEST_BYTES
