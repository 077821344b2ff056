"""Who decides on the number of workers, and by what."""

import promql_parser
import pytest

from tests.deploy.exposition import samples, selectors
from tests.deploy.manifests import OVERLAYS, built, of_kind, settings_of
from worker.adapters.topology import topology

# KEDA's schema takes any key in a trigger's metadata, and KEDA ignores what it does not know: these are the scalers'.
KEDA_KEYS = {
    "rabbitmq": {
        *("host", "hostFromEnv", "queueName", "mode", "value", "activationValue", "protocol", "vhostName", "unsafeSsl"),
        *("excludeUnacknowledged", "useRegex", "operation", "pageSize", "timeout"),
        *("usernameFromEnv", "passwordFromEnv"),
    },
    "prometheus": {
        *("serverAddress", "query", "queryParameters", "threshold", "activationThreshold", "namespace", "authModes"),
        *("customHeaders", "ignoreNullValues", "unsafeSsl", "timeout"),
    },
}
WITH_KEDA = [overlay for overlay in OVERLAYS if any(each["kind"] == "ScaledObject" for each in built(overlay))]


def triggers(overlay, kind):
    return [each for each in of_kind(built(overlay), "ScaledObject")["spec"]["triggers"] if each["type"] == kind]


@pytest.mark.parametrize("overlay", WITH_KEDA)
def test_keda_knows_every_key_of_a_trigger(overlay):
    for trigger in of_kind(built(overlay), "ScaledObject")["spec"]["triggers"]:
        assert trigger["metadata"].keys() <= KEDA_KEYS[trigger["type"]], trigger
        assert all(isinstance(value, str) for value in trigger["metadata"].values()), trigger


@pytest.mark.parametrize("overlay", WITH_KEDA)
def test_keda_asks_for_the_queue_that_the_worker_serves(overlay, tmp_path, monkeypatch):
    documents = built(overlay)
    settings = settings_of(documents, tmp_path, monkeypatch)
    tasks, dropped = triggers(overlay, "rabbitmq")
    names = topology(settings.amqp, settings.retry)
    assert [each["metadata"]["queueName"] for each in (tasks, dropped)] == [names.task_queue, names.dropped_queue]
    assert int(tasks["metadata"]["value"]) == 2 * settings.pool.slots
    # All that may be dropped at once starts a worker, but hardly more than one.
    assert int(dropped["metadata"]["value"]) >= 1_000_000
    authentication = of_kind(documents, "TriggerAuthentication")
    for each in (tasks, dropped):
        assert (each["metadata"]["protocol"], each["metadata"]["activationValue"]) == ("http", "0")
        assert each["authenticationRef"]["name"] == authentication["metadata"]["name"]
    parameters = {each["parameter"] for each in authentication["spec"]["secretTargetRef"]}
    assert parameters == {"host", "vhostName", "username", "password"}


def test_keda_asks_prometheus_for_what_workers_of_the_namespace_tell():
    (trigger,) = triggers("production", "prometheus")
    found = selectors(promql_parser.parse(trigger["metadata"]["query"]))
    assert {selector.name for selector in found} == {
        "frame_capture_consuming",
        "frame_capture_queue_wait_seconds_bucket",
    }
    assert {selector.name for selector in found} <= {each.name for each in samples()}
    (matcher,) = {(one.name, one.value) for selector in found for one in selector.matchers.matchers}
    assert matcher == ("namespace", of_kind(built("production"), "Deployment")["metadata"]["namespace"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_fights_over_the_number_of_workers(overlay):
    deployment = of_kind(built(overlay), "Deployment")
    scalers = [each for each in built(overlay) if each["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]
    assert len(scalers) + ("replicas" in deployment["spec"]) <= 1
    for each in scalers:
        assert each["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
