"""Each message and property of the tables gets exactly its answer from a real worker, at a real broker."""

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass

import aiormq
import pytest
from pamqp.commands import Basic

from devkit.broker import Node
from tests.e2e.bus import Told, bus
from tests.e2e.conftest import new_namespace
from tests.e2e.media import BUCKET, copy_sources, task
from tests.hostile.messages import DENIED, MESSAGES
from tests.hostile.properties import FORGED, UNREADABLE
from tests.integration.test_amqp_refusal import publish_poison

REFUSED = MESSAGES | {name: bad for name, (_, _, bad) in UNREADABLE.items()}
CONTROL = b'{"data": {"TaskId": "control", "Status": "Running", "Message": ""}}'
COPIED = "refused, with copies asked for"
SECRET = b"not for your eyes"


@dataclass(frozen=True)
class Answers:
    """What a worker made of all rows."""

    told: dict[str, list[Told]]
    parked: dict[str, list]
    spied: list[str]
    written: set[str]
    metrics: dict[str, float]


@pytest.fixture(scope="module")
def answers(broker, start, sources, tmp_path_factory) -> Answers:
    namespace = new_namespace()
    root = copy_sources(sources, tmp_path_factory.mktemp("hostile") / "buckets")
    add_traps(root)
    places = {"store__source_buckets": f'["{BUCKET}/videos"]', "store__target_buckets": f'["{BUCKET}/out"]'}
    before = {str(path) for path in root.rglob("*")}
    with start(namespace, store__root=root, **places) as worker:
        told, parked, spied = asyncio.run(publish_all(broker, namespace))
        return Answers(told, parked, spied, {str(path) for path in root.rglob("*")} - before, worker.metrics())


def add_traps(root) -> None:
    """Put a secret beside the root, ways to it below, and objects where no task may read."""
    secret = root.parent / "secret"
    secret.mkdir()
    (secret / "key.mp4").write_bytes(SECRET)
    videos = root / BUCKET / "videos"
    (videos / "link.mp4").symlink_to(secret / "key.mp4")
    (videos / "linked").symlink_to(secret)
    (videos / "folder.mp4").mkdir()
    os.mkfifo(videos / "pipe.mp4")
    for path in (root / BUCKET / "private" / "key.mp4", root / "other-bucket" / "videos" / "sample.mp4"):
        path.parent.mkdir(parents=True)
        path.write_bytes(SECRET)


async def publish_all(broker: Node, namespace: str) -> tuple[dict[str, list[Told]], dict[str, list], list[str]]:
    async with bus(broker.url, namespace) as line, raw_channel(broker) as channel:
        spy = await spy_queue(channel, namespace)
        for name, row in (MESSAGES | DENIED).items():
            await line.publish(row.body, name)
        for name, (prop, value, _) in UNREADABLE.items():
            # The id of one that has none that can be read is made of its body, so no two may have the same.
            with pytest.MonkeyPatch.context() as patch:
                await publish_poison(channel, f"{namespace}.tasks", patch, prop, value, name)
        for name, headers in FORGED.items():
            await publish_forged(channel, namespace, name, task_to(name), headers | copies_to(spy), spy)
        await publish_forged(channel, namespace, COPIED, {}, copies_to(spy), spy)
        readable = [name for name in UNREADABLE if "message id" not in name]
        await line.ended([*MESSAGES, *DENIED, *FORGED, *readable, COPIED])
        refused = len(REFUSED) + len(DENIED) + 1
        await line.settled(broker, dead_main=(refused, 0))
        parked = await line.parked()
        spied = await spied_ids(channel, spy)
        names = {*MESSAGES, *DENIED, *FORGED, *UNREADABLE, COPIED}
        return (
            {name: line.of(name) for name in names} | {"": [each for each in line.told if each.task_id not in names]},
            {name: [each for each in parked if each.message_id == name] for name in names},
            spied,
        )


@contextlib.asynccontextmanager
async def raw_channel(broker: Node):
    connection = await aiormq.connect(broker.url)
    try:
        yield await connection.channel(publisher_confirms=False)
    finally:
        await connection.close()


async def spy_queue(channel, namespace: str) -> str:
    """Make a queue that each exchange the worker publishes to sends to, where a message's `CC` names it."""
    spy = (await channel.queue_declare("", exclusive=True)).queue
    for exchange in ("events", "dead", "retry"):
        await channel.queue_bind(spy, f"{namespace}.{exchange}", routing_key=spy)
        control = Basic.Properties(message_id=exchange, headers=copies_to(spy))
        await channel.basic_publish(CONTROL, exchange=f"{namespace}.{exchange}", routing_key="x", properties=control)
    return spy


def copies_to(spy: str) -> dict:
    return {"CC": [spy], "BCC": [spy]}


def task_to(name: str) -> dict:
    return task({"Number": 1, "Width": 16, "Height": 16, "URI": f"oss://{BUCKET}/out/{name}.jpg"})


async def publish_forged(channel, namespace: str, name: str, content: dict, headers: dict, spy: str) -> None:
    """Publish a task with forged headers, that asks for answers to be sent to `spy`."""
    body = json.dumps(content).encode()
    properties = Basic.Properties(
        message_id=name, headers=headers, reply_to=spy, correlation_id="c" * 255, content_type="text/html", priority=255
    )
    await channel.basic_publish(body, exchange=f"{namespace}.tasks", routing_key="main", properties=properties)


async def spied_ids(channel, spy: str) -> list[str]:
    found = []
    while not isinstance((message := await channel.basic_get(spy, no_ack=True)).delivery, Basic.GetEmpty):
        found.append(message.header.properties.message_id)
    return found


def test_there_are_more_than_a_hundred_rows_of_messages():
    assert len(REFUSED) + len(DENIED) + len(FORGED) > 100


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_refused_with_its_reason_once_in_an_event_and_once_parked(answers, name):
    row = MESSAGES[name]
    (told,) = answers.told[name]
    assert (told.status, told.data["Code"], told.routing_key) == ("Failed", row.code, f"default.{row.project}.Failed")
    assert tuple(each["Path"] for each in told.data["Problems"]) == row.paths
    assert row.says in told.data["Problems"][0]["Message"]
    assert len(told.data["Message"]) < 1000
    (parked,) = answers.parked[name]
    assert parked.headers["x-park-code"] == row.code
    assert row.says in parked.headers["x-park-reason"]


@pytest.mark.parametrize("name", DENIED)
def test_what_the_settings_do_not_allow_is_denied(answers, name):
    row = DENIED[name]
    told = answers.told[name][-1]
    assert (told.status, told.data["Code"]) == ("Failed", row.code)
    assert row.says in told.data["Message"]
    (parked,) = answers.parked[name]
    assert (parked.headers["x-park-code"], parked.headers["x-park-reason"]) == (row.code, told.data["Message"])


@pytest.mark.parametrize("name", [name for name in UNREADABLE if "message id" not in name])
def test_properties_that_cannot_be_read_are_told(answers, name):
    row = UNREADABLE[name][2]
    (told,) = answers.told[name]
    assert (told.status, told.data["Code"]) == ("Failed", row.code)
    assert answers.parked[name][0].headers["x-park-code"] == row.code


@pytest.mark.parametrize("name", FORGED)
def test_forged_headers_change_nothing(answers, name):
    told = answers.told[name]
    assert [each.status for each in told] == ["Running", "Succeeded"]
    assert {each.routing_key.rpartition(".")[0] for each in told} == {"default.demo"}
    assert answers.parked[name] == []


def test_nothing_is_sent_where_a_message_says(answers):
    """RabbitMQ obeys `CC` and `BCC` of whoever publishes, as the first three show; what the worker copies has none."""
    assert answers.spied == ["events", "dead", "retry"]
    assert answers.parked[COPIED]


def test_no_message_ends_a_connection_or_is_tried_again(answers):
    assert answers.metrics["amqp_reconnects"] == 0
    assert answers.metrics["retries_total"] == 0
    assert answers.metrics["messages_requeued_total"] == 0
    assert answers.metrics["tasks_total interval succeeded"] == len(FORGED)


def test_nothing_is_written_but_what_good_tasks_say(answers):
    assert {path.partition(f"{BUCKET}/out")[2] for path in answers.written} == {
        "",
        *(f"/{name}.jpg" for name in FORGED),
    }


def test_no_secret_is_told(answers):
    assert SECRET.decode() not in repr(answers.told)
