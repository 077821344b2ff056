"""Messages that are no tasks: each is parked once, and told of once, with the name of every wrong field."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass

import jsonschema
import pytest

from tests.e2e.bus import bus
from tests.e2e.conftest import new_namespace
from tests.e2e.examples import SCHEMAS
from tests.e2e.media import BUCKET, copy_sources, task

SNAPSHOT = "$.Targets[0].Image.Snapshots[0]"
TOO_MANY = "x" * 300_000


@dataclass(frozen=True)
class Invalid:
    """A message and the paths of all that is wrong with it."""

    body: dict | bytes
    code: str
    paths: tuple[str, ...]
    project: str = "demo"
    topic: str = "default"


def bad(paths: str, message: dict | bytes, code: str = "InvalidArgument", **rest: str) -> Invalid:
    return Invalid(message, code, tuple(paths.split()), **rest)


def without(name: str, message: dict) -> dict:
    return {each: value for each, value in message.items() if each != name}


def entry(**members: object) -> dict:
    return task({"Number": 1, **members})


INVALID = {
    "empty": bad("$", b"", project="unknown"),
    "not JSON": bad("$", b"{", project="unknown"),
    "not an object": bad("$", b"[1]", project="unknown"),
    "not UTF-8": bad("$", b'{"ProjectName": "\xff"}', project="unknown"),
    "too large": bad("$", {**task(), "UserData": TOO_MANY}),
    "nothing in it": bad("$.ProjectName $.Sources $.Targets", {}, "MissingProjectName", project="unknown"),
    "no project": bad("$.ProjectName", without("ProjectName", task()), "MissingProjectName", project="unknown"),
    "project of a path": bad("$.ProjectName", task(ProjectName="a/b"), project="unknown"),
    "no sources": bad("$.Sources", task(Sources=[]), "MissingSources"),
    "two sources": bad("$.Sources", task(Sources=task()["Sources"] * 2)),
    "source by HTTP": bad("$.Sources[0].URI", task(Sources=[{"URI": "http://example.com/a.mp4"}])),
    "source outside": bad("$.Sources[0].URI", task(source="../other/a.mp4")),
    "source trimmed to nothing": bad("$.Sources[0].Duration", task(Sources=[{**task()["Sources"][0], "Duration": -1}])),
    "no targets": bad("$.Targets", task(Targets=[]), "MissingTargets"),
    "target to transcode": bad(
        "$.Targets[0].Video $.Targets[0].URI", task(Targets=[{**task()["Targets"][0], "Video": {"A": 1}, "URI": "x"}])
    ),
    "no format": bad(f"{SNAPSHOT}.Format", entry(Format=None), "MissingFormat"),
    "unknown format": bad(f"{SNAPSHOT}.Format", entry(Format="bmp")),
    "misspelt": bad(f"{SNAPSHOT}.Treshold", entry(Treshold=5)),
    "unknown mode": bad(f"{SNAPSHOT}.Mode", entry(Mode="random")),
    "average of nothing": bad(f"{SNAPSHOT}.Number", task({"Mode": "average"}), "MissingNumber"),
    "number as text": bad(f"{SNAPSHOT}.Number", entry(Number="1")),
    "too many images": bad(f"{SNAPSHOT}.Number", entry(Number=10_001), "LimitExceeded"),
    "negative times": bad(f"{SNAPSHOT}.StartTime {SNAPSHOT}.Interval", entry(StartTime=-1, Interval=-0.5)),
    "sizes": bad(f"{SNAPSHOT}.Width {SNAPSHOT}.Height", entry(Width=0, Height=4097)),
    "unknown name in a URI": bad(f"{SNAPSHOT}.URI", entry(URI=f"oss://{BUCKET}/{{nothing}}.jpg")),
    "attribute in a URI": bad(f"{SNAPSHOT}.URI", entry(URI=f"oss://{BUCKET}/{{index.__class__}}.jpg")),
    "two entries of one key": bad(
        "$.Targets[0].Image.Snapshots[1].URI",
        task({"URI": f"oss://{BUCKET}/{{index}}"}, {"URI": f"oss://{BUCKET}/{{index}}"}),
    ),
    "topic that is a pattern": bad("$.Notification.MNS.TopicName", task(Notification={"MNS": {"TopicName": "#"}})),
    "long user data": bad("$.UserData", task(UserData="é" * 1025)),
    "wrong in every part": bad(
        f"$.Sources[0].URI {SNAPSHOT}.Quality {SNAPSHOT}.ScaleType $.Tags.a $.Surprise",
        task({"Quality": 0, "ScaleType": "Crop"}, source="", Tags={"a": 1}, Surprise=1)
        | {"Notification": {"MNS": {"TopicName": "frames"}}},
        topic="frames",
    ),
}


@dataclass
class Refused:
    """What became of all invalid messages: events and parked copies by task, and the worker's numbers."""

    told: dict[str, list]
    parked: dict[str, list]
    metrics: dict[str, float]


@pytest.fixture(scope="module")
def refused(broker, start, sources, tmp_path_factory):
    """All invalid messages and after them a good one, done by one worker."""
    namespace = new_namespace()

    async def publish_all(worker) -> Refused:
        async with bus(broker.url, namespace) as line:
            for name, each in INVALID.items():
                await line.publish(each.body, name)
            good = await line.outcome(task({"Number": 1}))
            assert good.status == "Succeeded"
            await line.ended(INVALID)
            await line.settled(broker, dead_main=(len(INVALID), 0))
            parked = await line.parked()
        return Refused(
            {name: line.of(name) for name in INVALID},
            {name: [each for each in parked if each.message_id == name] for name in INVALID},
            worker.metrics(),
        )

    root = copy_sources(sources, tmp_path_factory.mktemp("invalid") / "buckets")
    with start(namespace, store__root=root) as worker:
        return asyncio.run(publish_all(worker))


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_message_is_parked_once_with_the_name_of_every_wrong_field(refused, name):
    wanted = INVALID[name]
    (parked,) = refused.parked[name]
    assert parked.body == (wanted.body if isinstance(wanted.body, bytes) else json.dumps(wanted.body).encode())
    assert parked.headers["x-park-code"] == wanted.code
    reasons = parked.headers["x-park-reason"].split("; $")
    assert {reason.removeprefix("$").partition(":")[0] for reason in reasons} == {path[1:] for path in wanted.paths}


@pytest.mark.parametrize("name", INVALID)
def test_one_event_tells_of_all_that_is_wrong_with_a_message(refused, name):
    wanted = INVALID[name]
    (told,) = refused.told[name]
    assert told.routing_key == f"{wanted.topic}.{wanted.project}.Failed"
    assert (told.status, told.data["Code"]) == ("Failed", wanted.code)
    assert sorted(problem["Path"] for problem in told.data["Problems"]) == sorted(wanted.paths)
    assert all(problem["Message"] for problem in told.data["Problems"])
    schema = json.loads((SCHEMAS / "event.schema.json").read_text())
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(told.body)


def test_invalid_messages_are_counted_by_code_and_never_tried_again(refused):
    assert len(INVALID) >= 20
    codes = Counter("Missing" if each.code.startswith("Missing") else each.code for each in INVALID.values())
    for code, count in codes.items():
        assert refused.metrics[f"tasks_parked_total {code}"] == count
        assert refused.metrics[f"task_failures_total {code}"] == count
    assert refused.metrics["retries_total"] == 0
    assert refused.metrics["tasks_total interval succeeded"] == 1
