"""Who decides on the number of workers, and by what."""

import pytest

from tests.deploy.manifests import OVERLAYS, built, of_kind, settings_of
from worker.adapters.topology import topology

# KEDA takes any key in a trigger's metadata, and ignores what it does not know: these are the scaler's.
KEDA_KEYS = {
    *("host", "hostFromEnv", "queueName", "mode", "value", "activationValue", "protocol", "vhostName", "unsafeSsl"),
    *("excludeUnacknowledged", "useRegex", "operation", "pageSize", "timeout", "usernameFromEnv", "passwordFromEnv"),
}


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
