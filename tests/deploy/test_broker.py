"""The broker's definitions: a real one takes them, and the development overlay fits them and its store."""

import base64
import json
import re

import aiormq
import pytest

from tests.deploy.manifests import K8S, ROOT, base_name, built, of_kind, settings_of, worker_environment
from worker.adapters.topology import declare, topology
from worker.settings import Amqp, Retry


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


def test_the_operators_broker_waits_as_long_for_an_acknowledgement_as_the_worker_thinks(tmp_path, monkeypatch):
    documents = built("operators")
    timeout_s = settings_of(documents, tmp_path, monkeypatch).amqp.consumer_timeout_s
    config = of_kind(documents, "RabbitmqCluster", "rabbitmq")["spec"]["rabbitmq"]["additionalConfig"]
    assert f"consumer_timeout = {int(timeout_s * 1000)}" in config.splitlines()


@pytest.mark.parametrize("overlay", ["dev", "operators", None])
def test_no_message_is_larger_than_tasks_and_events_need(tmp_path, monkeypatch, overlay):
    """A worker has a message whole in memory before it can refuse it, and RabbitMQ 3 takes 128 MiB."""
    settings = settings_of(built(overlay or "production"), tmp_path, monkeypatch)
    match overlay:
        case "operators":
            cluster = of_kind(built("operators"), "RabbitmqCluster", "rabbitmq")
            config = cluster["spec"]["rabbitmq"]["additionalConfig"]
        case "dev":
            config = (K8S / "overlays" / "dev" / "rabbitmq.conf").read_text()
        case None:
            config = (ROOT / "deploy" / "rabbitmq" / "rabbitmq.conf").read_text()
    (size,) = re.findall(r"^max_message_size = (\d+)$", config, re.MULTILINE)
    # An event tells the result, and what the task's message wants told again.
    largest = settings.limits.body_bytes + settings.events.inline_bytes
    assert 2 * largest <= int(size) <= 4 * largest


def test_workers_declare_nothing_where_the_operator_does():
    assert worker_environment(built("operators"))["FRAME_CAPTURE_AMQP__DECLARE"] == "passive"
    assert "FRAME_CAPTURE_AMQP__DECLARE" not in worker_environment(built("production"))
