"""`deploy/compose.yaml` fits the worker, its own files and Prometheus, as far as that can be told without an engine."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from devkit import alert_rules, dashboard
from worker.cli.environment import load_settings, variables
from worker.settings import MIB, Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DEV = DEPLOY / "k8s" / "overlays" / "dev"
SHUTDOWN_S = 15  # to end decoders and close connections, after the drain time
PARENT_BYTES = 256 * MIB


def mounts(service):
    """The files and volumes of a service: where each is inside, by what it is outside."""
    return {source: inside for source, inside, *_ in (each.split(":") for each in SERVICES[service].get("volumes", []))}


def provisioned(name):
    return yaml.safe_load((DEPLOY / "compose" / name).read_text())


@pytest.fixture
def settings(monkeypatch) -> Settings:
    for name, value in SERVICES["worker"]["environment"].items():
        monkeypatch.setenv(name, str(value))
    return load_settings()


def test_every_file_that_is_mounted_is_there_and_every_volume_is_declared():
    sources = {source for service in SERVICES for source in mounts(service)}
    files = {each for each in sources if each.startswith(".")}
    assert len(files) >= 8
    assert [each for each in files if not (DEPLOY / each).is_file()] == []
    assert sources - files == set(COMPOSE["volumes"])
    build = SERVICES["worker"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_whoever_is_waited_for_can_be_healthy():
    for name, service in SERVICES.items():
        waits = service.get("depends_on", {})
        for other in waits:
            condition = waits[other]["condition"] if isinstance(waits, dict) else "service_started"
            assert other in SERVICES, name
            assert condition != "service_healthy" or SERVICES[other]["healthcheck"]["test"], other


def test_nothing_listens_to_other_machines():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 5
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in published)


def test_the_worker_starts_with_its_settings(settings):
    assert SERVICES["worker"]["environment"].keys() <= set(variables())
    assert settings.store.kind == "s3"
    assert settings.store.endpoint_url == "http://s3:8333"
    assert f":{settings.http.port}/readyz" in SERVICES["worker"]["healthcheck"]["test"][-1]
    grace_s = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace_s >= settings.drain_timeout_s + SHUTDOWN_S
    pool = settings.pool
    slot_bytes = pool.memory_bytes + pool.inflight_bytes + pool.cache_bytes
    assert int(SERVICES["worker"]["mem_limit"].removesuffix("m")) * MIB >= pool.slots * slot_bytes + PARENT_BYTES


def test_the_worker_knows_what_broker_and_store_know(settings):
    (user,) = json.loads((DEV / "definitions.json").read_text())["users"]
    (key,) = json.loads((DEV / "s3.json").read_text())["identities"][0]["credentials"]
    assert settings.amqp.url.get_secret_value() == f"amqp://{user['name']}:{user['password']}@rabbitmq:5672/"
    assert settings.store.access_key_id.get_secret_value() == key["accessKey"]
    assert settings.store.secret_access_key.get_secret_value() == key["secretKey"]
    conf = (DEV / "rabbitmq.conf").read_text()
    assert f"consumer_timeout = {int(settings.amqp.consumer_timeout_s * 1000)}\n" in conf
    # Where RabbitMQ's own file looks for the definitions.
    assert f"load_definitions = {mounts('rabbitmq')['./k8s/overlays/dev/definitions.json']}\n" in conf


def test_the_store_is_started_as_on_kubernetes():
    documents = yaml.safe_load_all((DEV / "s3.yaml").read_text())
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert SERVICES["s3"]["command"] == container["args"]
    assert SERVICES["s3"]["entrypoint"] == container["command"]
    assert SERVICES["bucket"]["image"] == SERVICES["s3"]["image"] == container["image"]


def test_the_alerts_are_those_of_kubernetes():
    assert alert_rules.FILE.read_text() == alert_rules.document(), "run `make dashboards`"


def test_grafana_finds_prometheus_and_the_dashboard():
    (source,) = provisioned("datasources.yaml")["datasources"]
    (chosen,) = (
        each for each in json.loads(dashboard.FILE.read_text())["templating"]["list"] if each["name"] == "datasource"
    )
    assert source["type"] == chosen["query"]
    prometheus, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert f"127.0.0.1:{port}:{port}" in SERVICES[prometheus]["ports"]
    assert source["jsonData"]["timeInterval"] == provisioned("prometheus.yaml")["global"]["scrape_interval"]
    (provider,) = provisioned("dashboards.yaml")["providers"]
    inside = mounts("grafana")["./grafana/frame-capture.json"]
    assert Path(inside).parent == Path(provider["options"]["path"])
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == inside
    provisioning = {Path(each).parent.name for each in mounts("grafana").values() if "/provisioning/" in each}
    assert provisioning == {"datasources", "dashboards"}


def test_prometheus_scrapes_worker_and_broker_as_a_cluster_would(settings):
    worker, broker = provisioned("prometheus.yaml")["scrape_configs"]
    (lookup,) = worker["dns_sd_configs"]
    assert (lookup["names"], lookup["port"]) == (["worker"], settings.http.port)
    monitor = yaml.safe_load((DEPLOY / "k8s" / "components" / "broker-monitor" / "podmonitor.yaml").read_text())
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (broker["metrics_path"], broker["params"]) == (endpoint["path"], endpoint["params"])
    assert "rabbitmq_prometheus" in (DEV / "enabled_plugins").read_text()


def test_prometheus_takes_its_configuration(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: package prometheus)")
    inside = mounts("prometheus")
    assert f"--config.file={inside['./compose/prometheus.yaml']}" in SERVICES["prometheus"]["command"]
    rules = inside["./compose/alerts.json"]
    text = (DEPLOY / "compose" / "prometheus.yaml").read_text()
    assert rules in text
    config = tmp_path / "prometheus.yaml"
    config.write_text(text.replace(rules, shlex.quote(str(alert_rules.FILE))))
    done = subprocess.run(
        [promtool, "check", "config", config], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"(\d+) rules found", done.stdout)[1] == str(len(re.findall('"alert":', alert_rules.document())))
