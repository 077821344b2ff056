"""What the topology component makes of a broker: what the worker looks for, and rights enough and no more."""

import base64
import os
import secrets
import time
import urllib.error
import urllib.request
from signal import SIGKILL

import aiormq
import pytest
import yaml

from devkit.broker import broker as run_broker
from devkit.media import counter_video
from devkit.rabbitmq_resources import PATH, rights, text
from tests.declared import declare_for
from tests.e2e.bus import bus
from tests.e2e.media import BUCKET, long_task, task
from tests.e2e.worker_process import serving
from worker.adapters.topology import topology
from worker.settings import Amqp, Retry

RETRY = Retry(delays_s=(1,))
STATISTICS_DEADLINE_S = 30  # a queue's first statistics take the management plugin five seconds


def resources(kind):
    return [each for each in yaml.safe_load_all(PATH.read_text()) if each["kind"] == kind]


def test_the_resources_are_what_the_worker_declares():
    assert PATH.read_text() == text(), "run `make manifests`"


def test_each_user_has_exactly_one_permission():
    users = [each["metadata"]["name"] for each in resources("User")]
    assert users == ["frame-capture", "frame-capture-keda"]
    assert [each["spec"]["userReference"]["name"] for each in resources("Permission")] == users


@pytest.fixture
async def restricted(broker):
    """A user with the rights of the component, in a namespace where all is declared by another."""
    user, namespace = (f"{kind}-{secrets.token_hex(4)}" for kind in ("user", "rights"))
    wanted = await declare_for(Amqp(url=broker.url, namespace=namespace), RETRY)
    connection = await aiormq.connect(broker.url)
    channel = await connection.channel()
    broker.rabbitmqctl("add_user", user, "secret")
    broker.rabbitmqctl("set_permissions", "-p", "/", user, *rights(wanted).values())
    yield broker.url.replace("guest:guest", f"{user}:secret"), wanted
    broker.rabbitmqctl("delete_user", user)
    for queue in wanted.queues:
        await channel.queue_delete(queue.name)
    for exchange in wanted.exchanges:
        await channel.exchange_delete(exchange.name)
    await connection.close()


async def test_the_rights_are_enough_to_capture_retry_park_and_cancel(restricted, broker, tmp_path):
    url, wanted = restricted
    bucket = tmp_path / BUCKET / "videos"
    bucket.mkdir(parents=True)
    counter_video(bucket / "sample.mp4", seconds=30)
    passive = {"amqp__declare": "passive", "store__root": tmp_path, "events__progress_interval_s": 0.1}
    with serving(tmp_path, amqp_url=url, namespace=wanted.namespace, pool__split=False, **passive) as worker:
        async with bus(broker.url, wanted.namespace) as line:
            assert (await line.outcome(task(source="videos/none.mp4"))).status == "Failed"
            worker.until(lambda: worker.metrics()["tasks_in_flight"] == 0, "the message to be parked")
            assert len(await line.parked()) == 1
            canceled = await line.publish(long_task("canceled"))
            await line.under_way(canceled)
            await line.cancel(canceled)
            assert (await line.end_of(canceled)).status == "Canceled"
            retried = await line.publish(long_task("retried"))
            await line.under_way(retried)
            worker.until(worker.only_busy_decoder, "a decoder to be at work")
            os.kill(worker.only_busy_decoder(), SIGKILL)
            assert (await line.end_of(retried)).status == "Succeeded"
            assert "Retrying" in line.statuses(retried)


async def test_the_rights_allow_neither_declaring_nor_deleting_nor_tasks_of_ones_own(restricted):
    url, wanted = restricted
    connection = await aiormq.connect(url)
    refused = (
        lambda channel: channel.queue_declare(f"{wanted.namespace}.other", durable=True),
        lambda channel: channel.queue_delete(wanted.task_queue),
        lambda channel: channel.basic_publish(b"{}", exchange=wanted.tasks, routing_key=wanted.lane),
        lambda channel: channel.basic_publish(b"{}", exchange="", routing_key=wanted.task_queue),
    )
    for act in refused:
        channel = await connection.channel()  # a refusal closes it
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await act(channel)
    await connection.close()


@pytest.mark.slow
async def test_keda_sees_the_length_of_the_queue_and_nothing_of_other_hosts():
    """Ask as KEDA does: GET /api/queues/<vhost>/<queue> with the rights of its user."""
    (keda,) = (each["spec"] for each in resources("Permission") if each["metadata"]["name"].endswith("keda"))
    (user,) = (each["spec"] for each in resources("User") if each["metadata"]["name"].endswith("keda"))
    queue = topology(Amqp(), Retry()).task_queue
    with run_broker(management=True) as node:
        await declare_for(Amqp(url=node.url), Retry())
        node.rabbitmqctl("add_user", "keda", "secret")
        node.rabbitmqctl("set_user_tags", "keda", *user["tags"])
        node.rabbitmqctl("set_permissions", "-p", "/", "keda", *keda["permissions"].values())
        node.rabbitmqctl("add_vhost", "other")
        deadline = time.monotonic() + STATISTICS_DEADLINE_S
        while b'"messages":0' not in (answer := asked(f"{node.management_url}/api/queues/%2F/{queue}"))[1]:
            assert time.monotonic() < deadline, answer
        assert answer[0] == 200
        assert asked(f"{node.management_url}/api/queues/other/{queue}")[0] == 401


def asked(url):
    credentials = base64.b64encode(b"keda:secret").decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {credentials}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
