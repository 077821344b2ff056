"""A message that is no task is parked with all that is wrong with it, told, counted and traced."""

import json
import logging

import pytest

from tests.corpus.messages import message


async def test_an_invalid_message_is_parked_with_everything_wrong_with_it(world):
    body = message(Foo=1)
    body["Targets"][0]["Image"]["Snapshots"][0]["Quality"] = 101
    await world.do(json.dumps(body).encode())
    assert world.journal == ["announce Failed", "park InvalidArgument", "ack 1"]
    code, reason, _ = world.broker.parked[0]
    assert code == "InvalidArgument"
    assert "$.Foo: " in reason
    assert "$.Targets[0].Image.Snapshots[0].Quality: " in reason
    assert {each["Path"] for each in world.event["Problems"]} == {
        "$.Foo",
        "$.Targets[0].Image.Snapshots[0].Quality",
    }
    assert (world.event["TaskId"], world.event["ProjectName"]) == ("task-1", "demo")
    assert world.counts == {
        ("tasks_parked_total", "InvalidArgument"): 1,
        ("task_failures_total", "InvalidArgument"): 1,
    }


@pytest.mark.parametrize(("body", "project"), [(b'{"ProjectName": "demo"}', "demo"), (b"no JSON", "unknown")])
async def test_the_log_tells_whose_an_invalid_message_is(world, body, project, caplog):
    caplog.set_level(logging.INFO)
    await world.do(body)
    (line,) = [each for each in caplog.records if each.message == "invalid message"]
    assert line.fields["project"] == project


async def test_the_trace_of_an_invalid_message_goes_on_in_its_event(world):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await world.do(b"{}", headers={"traceparent": parent})
    assert json.loads(world.broker.events[-1].body)["traceparent"] == parent


async def test_missing_fields_count_as_one_code(world):
    await world.do(b"{}")
    assert world.event["Code"] == "MissingProjectName"
    assert world.counts["tasks_parked_total", "Missing"] == 1
