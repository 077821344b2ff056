"""Events as the command line reads them, and tells them to a person."""

import io
import json

import pytest

from worker.cli.told import read_event
from worker.errors import Code, Problem, TaskError
from worker.messages import Identity, invalid_message_event
from worker.messages.examples import example_event
from worker.settings import Events


@pytest.mark.parametrize("envelope", ["cloudevents", "imm"])
def test_events_are_read_in_either_envelope(envelope):
    told = read_event(example_event("b-training", Events(envelope=envelope)).body)
    assert (told.task_id, told.project, told.status) == ("MediaConvert-example-b-training", "demo", "Succeeded")
    assert (told.terminal, told.exit_status, told.headline) == (True, 0, "Succeeded: 6 images")
    assert told.notes() == []


def content(**changes):
    event = json.loads(example_event("a-cover", Events()).body)
    event["data"] |= changes
    return read_event(json.dumps(event).encode())


def test_states_are_told_in_a_few_words():
    assert content().headline == "Succeeded: 1 image"
    assert content(Status="Running", Progress=40).headline == "Running 40 %"
    retrying = content(Status="Retrying", RetryAfter=5, Code="StorageUnavailable", Message="gone")
    assert retrying.headline == "Retrying in about 5 s, StorageUnavailable: gone"
    assert (retrying.terminal, retrying.percent) == (False, 0)
    failed = content(Status="Failed", Code="CorruptMedia", Message="no frame")
    assert (failed.headline, failed.exit_status) == ("Failed: CorruptMedia: no frame (1 image stored)", 1)


def test_problems_failed_entries_and_warnings_are_told_by_their_path():
    problem = {"Path": "$.Sources", "Code": "MissingSources", "Message": "Sources is required"}
    assert content(Problems=[problem]).notes() == [], "the headline tells the only one"
    told = content(Problems=[problem, problem])
    entry = told.content["Targets"][0]["Image"]["Snapshots"][0]
    entry |= {
        "Code": "LimitExceeded",
        "Message": "too big",
        "Warnings": [{"Code": "SourceTruncated", "Message": "cut"}],
    }
    assert told.notes() == [
        "$.Sources: MissingSources: Sources is required",
        "$.Sources: MissingSources: Sources is required",
        "$.Targets[0].Image.Snapshots[0]: LimitExceeded: too big",
        "$.Targets[0].Image.Snapshots[0]: warning SourceTruncated: cut",
    ]


def test_an_unusable_message_has_a_status_of_its_own():
    error = TaskError(Code.INVALID_ARGUMENT, "$: bad", problems=(Problem("$", "InvalidArgument", "bad"),))
    now = content().content["EndTime"]
    event = invalid_message_event(Identity("id", "demo", "t"), error, settings=Events(), now=_instant(now))
    assert read_event(event.body).exit_status == 2


def test_nothing_in_an_event_commands_the_terminal():
    told = content(Status="Failed", Code="InvalidArgument", Message="\x1b[2J\x1b]0;title\x07", TaskId="\x9b2J")
    assert told.headline.isprintable()
    assert told.task_id.isprintable()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"7", b'{"data": {"TaskId": 1}}', b'{"content": 5}', b"\xff"])
def test_what_is_no_event_is_refused(body):
    with pytest.raises(ValueError):
        read_event(body)


def test_bars_are_drawn_on_a_terminal(monkeypatch):
    from rich.console import Console

    from worker.cli import bars

    screen = io.StringIO()
    monkeypatch.setattr(
        bars, "Console", lambda **options: Console(file=screen, force_terminal=True, width=100, highlight=False)
    )
    with bars.Bars() as shown:
        shown.add("MediaConvert-example-a-cover", "a [bold] label")
        shown.show(content(Status="Running", Progress=40))
        shown.show(content())
        shown.add("another", "invalid")
        shown.show(content(TaskId="another", Status="Failed", Code="InvalidArgument", Message="", Targets=[]))
    last, invalid = screen.getvalue().rsplit("a [bold] label", 1)[1].split("invalid")
    assert "  0 %" in invalid
    assert "Failed" in invalid
    assert "image" not in invalid
    assert "100 %" in last
    assert "Succeeded (1 image)" in last


def _instant(text):
    from datetime import datetime

    return datetime.fromisoformat(text)
