import hashlib
import json
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest

from tests.corpus.messages import message, snapshots
from tests.parsing import GOOD_TRACE, NOW, parse, refused
from tests.unit.test_schemas import validator
from worker.errors import TaskError
from worker.media.plan import Warn
from worker.messages import Running, build_event, build_result, identify, invalid_message_event
from worker.settings import Events
from worker.task import Canceled, Completed, EntryResult, Failed, Frame, Postponed

ENDED = NOW + timedelta(seconds=3)
STORE_DOWN = TaskError("StorageUnavailable", "the store does not answer", retryable=True)


def frame(index: int = 1, **members: Any) -> Frame:
    values = {
        "index": index,
        "uri": f"oss://out-bucket/x-{index}.jpg",
        "time_s": Fraction(1, 3),
        "source_pts": 512,
        "key_frame": True,
        "width": 640,
        "height": 360,
        "bytes": 5,
        "sha256": hashlib.sha256(b"x").hexdigest(),
        "etag": '"e"',
        "dhash": None,
        "score": None,
        "repeated": False,
    }
    return Frame(**(values | members))


def result(count: int = 1, error: TaskError | None = None, warnings: tuple[Warn, ...] = ()) -> EntryResult:
    return EntryResult(count, tuple(frame(index) for index in range(1, count + 1)), warnings, error)


def tell(state, body=None, settings: Events | None = None, **properties):
    task = parse(body or message(), message_id="task-1", **properties)
    event = build_event(task, state, settings=settings or Events(), started_at=NOW, now=ENDED)
    content = json.loads(event.body)
    if event.content_type == "application/cloudevents+json":
        validator("event").validate(content)
        validator("result").validate(content["data"])
    return event, content


def entry_of(content: dict[str, Any], target: int = 0, place: int = 0) -> dict[str, Any]:
    return content["data"]["Targets"][target]["Image"]["Snapshots"][place]


def test_a_succeeded_event_lists_every_frame():
    exact = frame(dhash=0xFF, score=Fraction(100, 3), repeated=True)
    event, content = tell(Completed((EntryResult(5, (exact,), (Warn("StartTimeClamped", "why"),), None),)))
    assert event.routing_key == "default.demo.Succeeded"
    assert event.content_type == "application/cloudevents+json"
    assert (content["specversion"], content["type"], content["subject"]) == ("1.0", "imm:Task:MediaConvert", "task-1")
    assert (content["id"], content["source"], content["time"]) == (
        event.id,
        "frame-capture",
        "2026-01-02T03:04:08.000Z",
    )
    data = content["data"]
    assert (data["TaskId"], data["Status"], data["Code"]) == ("task-1", "Succeeded", "")
    assert (data["StartTime"], data["EndTime"]) == ("2026-01-02T03:04:05.000Z", "2026-01-02T03:04:08.000Z")
    assert data["Sources"] == message()["Sources"]
    assert entry_of(content) == {
        "Format": "jpg",
        "URI": "oss://out-bucket/x-{index}.jpg",
        "Count": 1,
        "Requested": 5,
        "Warnings": [{"Code": "StartTimeClamped", "Message": "why"}],
        "Frames": [
            {
                "Index": 1,
                "URI": "oss://out-bucket/x-1.jpg",
                "Time": 0.333333,
                "SourcePts": 512,
                "KeyFrame": True,
                "Width": 640,
                "Height": 360,
                "Bytes": 5,
                "Sha256": hashlib.sha256(b"x").hexdigest(),
                "ETag": '"e"',
                "DHash": "00000000000000ff",
                "Score": 33.333333,
                "Repeated": True,
            }
        ],
    }


def test_times_have_no_binary_noise():
    times = [Fraction(3, 10), Fraction(999_999_999) + Fraction(1, 10**6), Fraction(1001, 30_000), Fraction(0)]
    frames = tuple(frame(index, time_s=each) for index, each in enumerate(times, 1))
    event, _ = tell(Completed((EntryResult(4, frames, (), None),)))
    for text in (b'"Time":0.3,', b'"Time":999999999.000001,', b'"Time":0.033367,', b'"Time":0.0,'):
        assert text in event.body


def test_what_was_sent_is_echoed():
    body = message(UserData="mine\x1b\n", Tags={"a": "b"}, Notification={"MNS": {"TopicName": "topic"}})
    event, content = tell(Running(40), body)
    assert event.routing_key == "topic.demo.Running"
    assert (content["data"]["UserData"], content["data"]["Tags"]) == ("mine\x1b\n", {"a": "b"})
    assert content["data"]["Targets"] == body["Targets"]
    assert (content["data"]["Progress"], content["data"]["Attempt"]) == (40, 1)
    assert "EndTime" not in content["data"]


def test_retrying_tells_the_next_attempt_and_why():
    event, content = tell(Postponed(STORE_DOWN, 30, 3, 0))
    assert event.routing_key.endswith(".Retrying")
    assert (content["data"]["Attempt"], content["data"]["RetryAfter"]) == (3, 30)
    assert content["data"]["Code"] == "StorageUnavailable"


def test_a_failed_entry_stands_beside_what_was_written():
    error = TaskError("InvalidArgument", "StartTime 99 is past the end, 60 s")
    body = snapshots("oss://out-bucket/a-{index}", "oss://out-bucket/b-{index}")
    event, content = tell(Failed(error, (result(2), result(0, error))), body)
    assert event.routing_key.endswith(".Failed")
    assert (entry_of(content)["Count"], "Code" in entry_of(content)) == (2, False)
    failed = entry_of(content, place=1)
    assert (failed["Count"], failed["Frames"], failed["Code"]) == (0, [], "InvalidArgument")
    assert failed["Message"] == content["data"]["Message"] == error.message


def test_a_failure_before_any_work_has_no_results():
    _, content = tell(Failed(TaskError("ResourceNotFound", "no such object")))
    assert entry_of(content) == message()["Targets"][0]["Image"]["Snapshots"][0]


def test_canceled():
    event, content = tell(Canceled(TaskError("Canceled", "asked for")))
    assert (event.routing_key, content["data"]["Code"]) == ("default.demo.Canceled", "Canceled")


def test_terminal_events_have_one_id_and_others_one_each():
    done = Completed((result(),))
    assert tell(done)[0].id == tell(done)[0].id
    assert tell(done)[0].id != tell(Failed(STORE_DOWN))[0].id
    assert tell(Running(1))[0].id != tell(Running(1))[0].id


def test_traces_are_carried():
    headers = {"traceparent": GOOD_TRACE, "tracestate": "a=b"}
    _, content = tell(Running(0), headers=headers)
    assert (content["traceparent"], content["tracestate"]) == (GOOD_TRACE, "a=b")
    assert "traceparent" not in tell(Running(0))[1]


def test_imms_own_envelope():
    event, content = tell(Completed((result(),)), settings=Events(envelope="imm"))
    assert event.content_type == "application/json"
    assert set(content) == {"id", "source", "type", "subject", "time", "content"}
    data = json.loads(content["content"])
    validator("result").validate(data)
    assert data["Targets"][0]["Image"]["Snapshots"][0]["Count"] == 1


def test_a_long_result_is_in_its_file_and_not_in_the_event():
    settings = Events(inline_bytes=4096)
    body = message(Notification={"ExtendedMessageURI": "oss://out-bucket/result.json"})
    event, content = tell(Completed((result(100),)), body, settings)
    assert len(event.body) < 4096
    assert content["data"]["ExtendedMessageURI"] == "oss://out-bucket/result.json"
    assert entry_of(content)["Count"] == 100
    assert "Frames" not in entry_of(content)
    assert entry_of(content)["Warnings"] == []
    full = build_result(parse(body), Completed((result(100),)), started_at=NOW, now=ENDED)
    stored = json.loads(full)
    validator("result").validate(stored)
    assert len(stored["Targets"][0]["Image"]["Snapshots"][0]["Frames"]) == 100


def test_a_long_result_without_a_file_warns():
    _, content = tell(Completed((result(100),)), settings=Events(inline_bytes=4096))
    assert "Frames" not in entry_of(content)
    assert [each["Code"] for each in entry_of(content)["Warnings"]] == ["FramesOmitted"]
    assert "ExtendedMessageURI" not in content["data"]


@pytest.mark.parametrize(
    ("body", "key"), [(b"", "default.unknown.Failed"), (b'{"ProjectName": "p"}', "default.p.Failed")]
)
def test_an_invalid_message_is_answered_with_all_that_is_wrong(body, key):
    error = refused(body)
    event = invalid_message_event(identify(body, None), error, settings=Events(), now=NOW)
    content = json.loads(event.body)
    validator("event").validate(content)
    assert event.routing_key == key
    assert content["data"]["Problems"] == [
        {"Path": each.path, "Code": each.code, "Message": each.message} for each in error.problems
    ]
    assert (content["data"]["Status"], content["data"]["Code"]) == ("Failed", error.code)
    assert event.id == invalid_message_event(identify(body, None), error, settings=Events(), now=ENDED).id


def test_an_invalid_message_is_known_by_what_its_sender_gave_it():
    body = json.dumps(message(Foo=1, UserData="ticket 7", Tags={"who": "me", "n": 5})).encode()
    trace = ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b")
    event = invalid_message_event(identify(body, None), refused(body), settings=Events(), now=NOW, trace=trace)
    content = json.loads(event.body)
    validator("event").validate(content)
    assert (content["data"]["UserData"], content["data"]["Tags"]) == ("ticket 7", {"who": "me"})
    assert (content["traceparent"], content["tracestate"]) == trace


def test_user_data_that_is_too_long_is_not_echoed():
    body = json.dumps(message(UserData="x" * 2049)).encode()
    event = invalid_message_event(identify(body, None), refused(body), settings=Events(), now=NOW)
    assert "UserData" not in json.loads(event.body)["data"]
