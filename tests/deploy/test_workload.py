"""The pods: their settings are the worker's, they last and grow as those say, and may do nothing else."""

import os
import re

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from tests.deploy.manifests import (
    GUIDE,
    OVERLAYS,
    ROOT,
    base_name,
    built,
    bytes_of,
    kustomize,
    of_kind,
    settings_of,
    worker_environment,
    worker_pod,
)
from worker.cli.environment import SECRETS_DIR, variables
from worker.health import serve_health
from worker.settings import MIB

PARENT_BYTES = 256 * MIB  # what the worker itself may take, beside what belongs to a slot
SHUTDOWN_S = 15  # to end decoders and close connections, after the drain time


def test_only_settings_that_the_worker_knows_are_named():
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    named = {name for path in [*files, GUIDE] for name in re.findall(r"FRAME_CAPTURE_[A-Z0-9_]+", path.read_text())}
    assert len(named) >= 5
    assert named - set(variables()) - {SECRETS_DIR} == set()
    in_secrets = {name for path in [*files, GUIDE] for name in re.findall(r"frame_capture_\w+__\w+", path.read_text())}
    assert len(in_secrets) == 3
    assert {name.upper() for name in in_secrets} <= set(variables())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_worker_starts_with_the_settings_of_its_pod(overlay, tmp_path, monkeypatch):
    documents = built(overlay)
    settings = settings_of(documents, tmp_path, monkeypatch)
    (container,) = worker_pod(documents)["containers"]
    assert settings.store.kind == "s3"
    assert settings.amqp.url.get_secret_value() == "amqp://user:password@rabbitmq:5672/"
    assert settings.pool.slots == int(container["resources"]["requests"]["cpu"])
    # Refers to the ConfigMap by its hashed name, so that a change of settings rolls the pods.
    (source,) = container["envFrom"]
    assert source["configMapRef"]["name"] == of_kind(documents, "ConfigMap")["metadata"]["name"] != "frame-capture"
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts["secrets"] == worker_environment(documents)[SECRETS_DIR]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_may_live_and_grow_as_long_and_large_as_its_settings_say(overlay, tmp_path, monkeypatch):
    documents = built(overlay)
    settings = settings_of(documents, tmp_path, monkeypatch)
    pod = worker_pod(documents)
    assert pod["terminationGracePeriodSeconds"] >= settings.drain_timeout_s + SHUTDOWN_S
    (container,) = pod["containers"]
    resources, pool = container["resources"], settings.pool
    slot_bytes = pool.memory_bytes + pool.inflight_bytes + pool.cache_bytes
    assert bytes_of(resources["limits"]["memory"]) >= pool.slots * slot_bytes + PARENT_BYTES
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    (tmp,) = (each["emptyDir"] for each in pod["volumes"] if each["name"] == "tmp")
    assert bytes_of(tmp["sizeLimit"]) < bytes_of(resources["limits"]["ephemeral-storage"])


async def test_probes_and_scrapes_go_where_the_worker_answers(tmp_path, monkeypatch):
    documents = built("production")
    (container,) = worker_pod(documents)["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == settings_of(documents, tmp_path, monkeypatch).http.port
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    (endpoint,) = of_kind(documents, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert {each["port"] for each in (*probes.values(), endpoint)} == {port["name"]}
    # A worker whose broker is away is alive, not ready, and tells its metrics.
    assert await answers({each["path"] for each in (*probes.values(), endpoint)}) == {
        probes["startup"]["path"]: 200,
        probes["liveness"]["path"]: 200,
        probes["readiness"]["path"]: 503,
        endpoint["path"]: 200,
    }


async def answers(paths):
    async def broker_is_away():
        return ["no connection to the broker"]

    health = serve_health("127.0.0.1", 0, CollectorRegistry(), broker_is_away)
    async with health as port, aiohttp.ClientSession() as session:
        statuses = {}
        for path in paths:
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                statuses[path] = answer.status
        return statuses


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_worker_has_no_privileges(overlay):
    pod = worker_pod(built(overlay))
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert {pod["securityContext"][each] for each in ("runAsUser", "runAsGroup", "fsGroup")} == {65534}
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert of_kind(built(overlay), "ServiceAccount")["automountServiceAccountToken"] is False
    security = container["securityContext"]
    assert (security["allowPrivilegeEscalation"], security["privileged"]) == (False, False)
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")] == ["/tmp"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_finds_the_workers(overlay):
    documents = built(overlay)
    deployment = of_kind(documents, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"],
        of_kind(documents, "PodDisruptionBudget")["spec"]["selector"],
        of_kind(documents, "NetworkPolicy")["spec"]["podSelector"],
        *(each["labelSelector"] for each in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]),
        *(
            each["spec"]["selector"]
            for each in documents
            if (each["kind"], base_name(each)) == ("PodMonitor", "frame-capture")
        ),
    ]
    for selector in selectors:
        assert selector["matchLabels"].items() <= labels.items()
        assert len(selector["matchLabels"]) == 2


def test_only_the_broker_the_store_names_and_scrapes_pass_the_network_policy():
    policy = of_kind(built("production"), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [each["port"] for rule in policy["ingress"] for each in rule["ports"]] == ["http"]
    assert {each["port"] for rule in policy["egress"] for each in rule["ports"]} == {53, 443, 5671, 5672}
    assert all(rule["to"] for rule in policy["egress"])
    dev = of_kind(built("dev"), "NetworkPolicy")["spec"]
    endpoint = worker_environment(built("dev"))["FRAME_CAPTURE_STORE__ENDPOINT_URL"]
    assert dev["egress"][-1]["ports"][0]["port"] == int(endpoint.rsplit(":", 1)[1])


def test_the_guides_patch_mounts_the_certificates_where_its_settings_look(tmp_path):
    (snippet,) = (each for each in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "CA_FILE" in each)
    production = os.path.relpath(ROOT / "deploy" / "k8s" / "overlays" / "production", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{production}]\n{snippet}")
    documents = kustomize(tmp_path)
    files = {name: path for name, path in worker_environment(documents).items() if name.endswith("_FILE")}
    assert {f"FRAME_CAPTURE_{name}_FILE" for name in ("AMQP__CA", "AMQP__CERT", "AMQP__KEY", "STORE__CA")} == set(files)
    pod = worker_pod(documents)
    (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "tls")
    assert {path.rsplit("/", 1)[0] for path in files.values()} == {mount["mountPath"]}
    assert pod["volumes"][-1] == {"name": "tls", "secret": {"secretName": "frame-capture-tls", "defaultMode": 0o440}}
