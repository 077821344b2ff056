"""What `deploy/` says fits Kubernetes' schemas and the worker, as far as that can be told without a cluster.

kubectl builds the manifests as `kubectl apply -k` would. The schemas of custom resources are in the shared folder.
"""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import aiohttp
import aiormq
import jsonschema
import kubernetes_validate
import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from worker.adapters.amqp import Broker
from worker.adapters.pool import DecoderPool
from worker.adapters.topology import declare, topology
from worker.cli.environment import SECRETS_DIR, load_settings, variables
from worker.health import serve_health
from worker.metrics import Metrics
from worker.service import watch_gauges
from worker.settings import MIB, Amqp, Pool, Retry

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
CRDS = ROOT.parent / "shared" / "crds"
GUIDE = ROOT / "docs" / "kubernetes.md"
KUBERNETES = ("1.27", kubernetes_validate.latest_version())  # the oldest that is supported, and the newest known here
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
CUSTOM = ("keda.sh/", "monitoring.coreos.com/")
PARENT_BYTES = 256 * MIB  # what the worker itself may take, beside what belongs to a slot
SHUTDOWN_S = 15  # to end decoders and close connections, after the drain time
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
# KEDA takes any key in a trigger's metadata, and ignores what it does not know: these are the scaler's.
KEDA_KEYS = {
    *("host", "hostFromEnv", "queueName", "mode", "value", "activationValue", "protocol", "vhostName", "unsafeSsl"),
    *("excludeUnacknowledged", "useRegex", "operation", "pageSize", "timeout", "usernameFromEnv", "passwordFromEnv"),
}
ADDED_BY_PROMETHEUS = {"namespace", "pod"}


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


# --- Schemas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_what_kubernetes_understands(overlay, version):
    checked = [each for each in built(overlay) if not each["apiVersion"].startswith(CUSTOM)]
    assert len(checked) >= 5
    for each in checked:
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_fits_the_base(component, tmp_path):
    here = {name: os.path.relpath(K8S / name, tmp_path) for name in ("base", f"components/{component}")}
    kustomization = {"resources": [here["base"]], "components": [here[f"components/{component}"]]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    there = kustomize(K8S / "base")
    added = [each for each in kustomize(tmp_path) if each not in there]
    assert added
    for version in KUBERNETES:
        for each in added:
            if not each["apiVersion"].startswith(CUSTOM):
                kubernetes_validate.validate(each, version, strict=True)


def test_custom_resources_are_what_their_operators_understand():
    if not CRDS.is_dir():
        pytest.skip("the CRDs of KEDA and the Prometheus operator are not beside this checkout")
    schemas = dict(crd_schemas())
    checked = [each for overlay in OVERLAYS for each in built(overlay) if each["apiVersion"].startswith(CUSTOM)]
    assert {each["kind"] for each in checked} == {
        "ScaledObject",
        "TriggerAuthentication",
        "PodMonitor",
        "PrometheusRule",
    }
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


# --- The Deployment and the worker -------------------------------------------------------------------------------


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
        *(each["spec"]["selector"] for each in documents if each["kind"] == "PodMonitor"),
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


# --- Autoscaling -------------------------------------------------------------------------------------------------


def test_keda_asks_for_the_queue_that_the_worker_serves(tmp_path, monkeypatch):
    documents = built("production")
    settings = settings_of(documents, tmp_path, monkeypatch)
    scaled = of_kind(documents, "ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"].keys() <= KEDA_KEYS
    assert trigger["metadata"]["queueName"] == topology(settings.amqp, settings.retry).task_queue
    assert trigger["metadata"]["protocol"] == "http"
    assert int(trigger["metadata"]["value"]) == 2 * settings.pool.slots
    authentication = of_kind(documents, "TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    parameters = {each["parameter"] for each in authentication["spec"]["secretTargetRef"]}
    assert parameters == {"host", "vhostName", "username", "password"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_fights_over_the_number_of_workers(overlay):
    deployment = of_kind(built(overlay), "Deployment")
    scalers = [each for each in built(overlay) if each["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]
    assert len(scalers) + ("replicas" in deployment["spec"]) <= 1
    for each in scalers:
        assert each["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


# --- Alerts ------------------------------------------------------------------------------------------------------


@cache
def alerts():
    (group,) = of_kind(built("production"), "PrometheusRule")["spec"]["groups"]
    return tuple(group["rules"])


@cache
def samples():
    """All series of a worker that has done nothing yet."""
    metrics = Metrics(CollectorRegistry())
    metrics.build.info({"version": "1", "ffmpeg": "1", "python": "1"})
    watch_gauges(metrics, DecoderPool(Pool(slots=1)), Broker(Amqp(), Retry()))
    return tuple(sample for family in metrics.registry.collect() for sample in family.samples)


def selectors(node):
    """List all selectors of series in a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    if isinstance(node, promql_parser.MatrixSelector):
        return [node.vector_selector]
    parts = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param")]
    return [found for part in [*parts, *getattr(node, "args", [])] if part is not None for found in selectors(part)]


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


# --- The broker --------------------------------------------------------------------------------------------------


def policies(path):
    return json.loads(path.read_text())["policies"]


def test_the_development_broker_is_set_up_as_the_others(tmp_path, monkeypatch):
    dev = K8S / "overlays" / "dev"
    assert policies(dev / "definitions.json") == policies(ROOT / "deploy" / "rabbitmq" / "definitions.json")
    timeout_s = settings_of(built("dev"), tmp_path, monkeypatch).amqp.consumer_timeout_s
    for path in (dev / "rabbitmq.conf", ROOT / "deploy" / "rabbitmq" / "rabbitmq.conf"):
        assert re.search(r"^consumer_timeout = (\d+)$", path.read_text(), re.MULTILINE)[1] == str(int(timeout_s * 1000))


def test_the_development_worker_has_the_keys_that_its_broker_and_store_know():
    secrets = {base_name(each): each for each in built("dev") if each["kind"] == "Secret"}
    dev = K8S / "overlays" / "dev"
    (user,) = json.loads((dev / "definitions.json").read_text())["users"]
    (key,) = json.loads((dev / "s3.json").read_text())["identities"][0]["credentials"]
    given = {name: base64.b64decode(text).decode() for name, text in secrets["frame-capture"]["data"].items()}
    assert given == {
        "frame_capture_amqp__url": f"amqp://{user['name']}:{user['password']}@rabbitmq:5672/",
        "frame_capture_store__access_key_id": key["accessKey"],
        "frame_capture_store__secret_access_key": key["secretKey"],
    }


async def test_a_real_broker_takes_the_definitions_and_puts_them_on_the_workers_queues(broker):
    broker.rabbitmqctl("import_definitions", str(K8S / "overlays" / "dev" / "definitions.json"))
    assert "Success" in broker.rabbitmqctl("authenticate_user", "frame-capture", "dev-only")
    wanted = topology(Amqp(), Retry())
    connection = await aiormq.connect(broker.url.replace("guest:guest", "frame-capture:dev-only"))
    channel = await connection.channel()
    try:
        await declare(channel, wanted)
        rows = json.loads(broker.rabbitmqctl("list_queues", "name", "policy", "--formatter", "json"))
        mine = {queue.name for queue in wanted.queues}
        applied = {row["name"]: row["policy"] for row in rows if row["name"] in mine and row["policy"]}
        assert applied == {wanted.task_queue: "frame-capture-tasks", wanted.parked_queue: "frame-capture-parked"}
    finally:
        for queue in wanted.queues:
            await channel.queue_delete(queue.name)
        for exchange in wanted.exchanges:
            await channel.exchange_delete(exchange.name)
        await connection.close()
        for policy in policies(K8S / "overlays" / "dev" / "definitions.json"):
            broker.rabbitmqctl("clear_policy", policy["name"])
        broker.rabbitmqctl("delete_user", "frame-capture")


# --- The image ---------------------------------------------------------------------------------------------------


def test_the_image_runs_the_worker_itself_as_nobody_and_holds_only_what_is_locked():
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    last = dict(lines)
    assert last["USER"] == "65534:65534"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(last["ENTRYPOINT"])[1:] == ["-m", "worker"]
    assert json.loads(last["CMD"]) == ["serve"]
    installs = [rest for word, rest in lines if word == "RUN" and "pip install" in rest]
    assert len(installs) == 1
    assert {"--require-hashes", "-r", "/build/requirements.txt"} <= set(shlex.split(installs[0]))
    copied = [shlex.split(rest)[-2] for word, rest in lines if word == "COPY"]
    assert all((ROOT / each).exists() for each in copied if not each.startswith("/"))
    allowed = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {each for each in copied if not each.startswith("/")} == {line[1:] for line in allowed if line[:1] == "!"}
