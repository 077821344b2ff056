"""What Kubernetes and the operators would take, by their own schemas (the operators' are in the shared folder)."""

import json
import os

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.manifests import COMPONENTS, CUSTOM, K8S, NEEDS, OVERLAYS, ROOT, built, kustomize

CRDS = ROOT.parent / "shared" / "crds"
KUBERNETES = ("1.27", kubernetes_validate.latest_version())  # the oldest that is supported, and the newest known here
KINDS = {
    *("ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule", "RabbitmqCluster"),
    *("User", "Permission", "Exchange", "Queue", "Binding", "Policy"),
}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_what_kubernetes_understands(overlay, version):
    checked = [each for each in built(overlay) if not each["apiVersion"].startswith(CUSTOM)]
    assert len(checked) >= 5
    for each in checked:
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_fits_the_base(component, tmp_path):
    there = with_components(tmp_path / "without", NEEDS.get(component, []))
    added = [
        each for each in with_components(tmp_path / "with", [*NEEDS.get(component, []), component]) if each not in there
    ]
    assert added
    for version in KUBERNETES:
        for each in added:
            if not each["apiVersion"].startswith(CUSTOM):
                kubernetes_validate.validate(each, version, strict=True)


def with_components(directory, components):
    directory.mkdir()
    here = [os.path.relpath(path, directory) for path in (K8S / "base", *(COMPONENTS[name] for name in components))]
    (directory / "kustomization.yaml").write_text(json.dumps({"resources": here[:1], "components": here[1:]}))
    return kustomize(directory)


def test_custom_resources_are_what_their_operators_understand():
    if not CRDS.is_dir():
        pytest.skip("the CRDs of KEDA and of the operators for Prometheus and RabbitMQ are not beside this checkout")
    schemas = dict(crd_schemas())
    checked = [each for overlay in OVERLAYS for each in built(overlay) if each["apiVersion"].startswith(CUSTOM)]
    assert {each["kind"] for each in checked} == KINDS
    for each in checked:
        jsonschema.Draft202012Validator(schemas[each["apiVersion"], each["kind"]]).validate(each)


def crd_schemas():
    for path in sorted(CRDS.glob("*.yaml")):
        spec = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema


def strict(schema):
    """Turn a CRD's schema into a JSON Schema that refuses properties it does not name, as the API server does."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(value) for key, value in schema.items()}
    for key in ("properties", "patternProperties"):
        if key in schema:
            result[key] = {name: strict(value) for name, value in schema[key].items()}
    if schema.get("x-kubernetes-int-or-string") is True:
        result.pop("pattern", None)
        result["type"] = ["integer", "string"]
    if schema.get("nullable") is True and "type" in result:
        result["type"] = [result["type"], "null"]
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if named and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result["additionalProperties"] = False
    return result
