"""Where results and events go as a message asks, and what a task that cannot be done comes to."""

import json

import jsonschema
import pytest

from tests.e2e.bus import bus
from tests.e2e.examples import SCHEMAS
from tests.e2e.media import BUCKET, task

TINY = {"Width": 16, "Height": 16}


def assert_valid(name: str, content: dict) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(content)


async def test_the_full_result_is_written_where_the_message_asks(line, bucket):
    uri = f"oss://{BUCKET}/results/short.json"
    told = await line.outcome(task(Notification={"ExtendedMessageURI": uri}))
    assert told.data["ExtendedMessageURI"] == uri
    stored = bucket.get("results/short.json")
    assert stored["ContentType"] == "application/json"
    result = json.loads(stored["Body"])
    assert_valid("result", result)
    assert result.pop("EndTime") <= told.data["EndTime"]
    assert result == {name: value for name, value in told.data.items() if name != "EndTime"}


async def test_a_result_too_long_for_an_event_is_complete_in_its_file(line, bucket):
    uri = f"oss://{BUCKET}/results/long.json"
    told = await line.outcome(task({"Number": 500, **TINY}, Notification={"ExtendedMessageURI": uri}))
    (snapshot,) = told.snapshots
    assert (told.status, snapshot["Count"]) == ("Succeeded", 500)
    assert "Frames" not in snapshot
    assert_valid("event", told.body)
    result = json.loads(bucket.get("results/long.json")["Body"])
    (complete,) = result["Targets"][0]["Image"]["Snapshots"]
    assert [frame["Index"] for frame in complete["Frames"]] == list(range(1, 501))
    assert {name: value for name, value in complete.items() if name != "Frames"} == snapshot


@pytest.mark.parametrize(
    ("notification", "topic"),
    [
        ({}, "default"),
        ({"MNS": {"TopicName": "frames"}}, "frames"),
        ({"RocketMQ": {"InstanceId": "i", "TopicName": "rocket"}}, "rocket"),
    ],
)
async def test_the_topic_and_the_project_are_in_the_routing_keys(line, notification, topic):
    told = await line.outcome(task(Notification=notification, ProjectName="other"))
    keys = [each.routing_key for each in line.of(told.task_id)]
    assert set(keys) == {f"{topic}.other.Running", f"{topic}.other.Succeeded"}


async def test_user_data_and_tags_are_echoed_and_used(line, bucket):
    snapshot = {"URI": f"oss://{BUCKET}/{{tags.who}}/{{bucket}}-{{dirname}}.{{autoext}}", "Number": 1}
    told = await line.outcome(task(snapshot, Tags={"who": "me"}, UserData="ticket 7"))
    assert {each.data["UserData"] for each in line.of(told.task_id)} == {"ticket 7"}
    assert {each.data["Tags"]["who"] for each in line.of(told.task_id)} == {"me"}
    assert bucket.keys("me/") == [f"me/{BUCKET}-videos.jpg"]


async def test_imms_own_envelope_by_setting(local, broker, namespace):
    with local(namespace, events__envelope="imm"):
        async with bus(broker.url, namespace) as line:
            told = await line.outcome(task({"Number": 1, **TINY}))
    assert told.content_type == "application/json"
    assert set(told.body) == {"id", "source", "type", "subject", "time", "content"}
    assert (told.body["type"], told.body["subject"]) == ("imm:Task:MediaConvert", told.task_id)
    content = json.loads(told.body["content"])
    assert_valid("result", content)
    assert content["Status"] == "Succeeded"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("music/silence.wav", "ResourceNotFound"),
        ("videos/nowhere.mp4", "ResourceNotFound"),
        ("videos/no-index.mp4", "CorruptMedia"),
    ],
)
async def test_a_source_without_a_picture_fails_at_once_and_is_parked(line, bucket, worker, source, code):
    message = task({"URI": f"oss://{BUCKET}/none/{{index}}.jpg"}, source=source)
    before = worker.metrics()
    told = await line.outcome(message)
    assert (told.status, told.data["Code"]) == ("Failed", code)
    assert told.data["Message"]
    assert_valid("event", told.body)
    assert "Retrying" not in line.statuses(told.task_id)
    worker.until(lambda: worker.metrics()["tasks_in_flight"] == 0, "the acknowledgement")
    (parked,) = await line.parked()
    assert (parked.message_id, json.loads(parked.body)) == (told.task_id, message)
    assert (parked.headers["x-park-code"], parked.headers["x-park-reason"]) == (code, told.data["Message"])
    assert bucket.keys("none/") == []
    after = worker.metrics()
    for name in ("tasks_total interval failed", f"tasks_parked_total {code}", f"task_failures_total {code}"):
        assert after[name] == before[name] + 1
