import contextlib
import json
import time
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from alibabacloud_imm20200930 import models as imm
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.messages import CASES, message, snapshot, snapshots, target
from worker.errors import TaskError
from worker.media.plan import Format, Mode, ScaleType
from worker.messages import identify, parse_task
from worker.settings import LimitSettings
from worker.task import Location, Task

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def parse(body: Any, **given_properties: Any) -> Task:
    properties = {"message_id": None, "timestamp": None, "headers": {}, "limits": LimitSettings(), "received_at": NOW}
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return parse_task(body, **(properties | given_properties))


def refused(body: Any, **properties: Any) -> TaskError:
    with pytest.raises(TaskError) as caught:
        parse(body, **properties)
    assert not caught.value.retryable
    return caught.value


def plan(**members: Any):
    return parse(snapshot(**members)).entries[0].plan


def test_defaults():
    task = parse(message())
    entry = task.entries[0]
    assert (task.project, task.topic, task.extended_location, task.tags) == ("demo", "default", None, ())
    assert task.source.location == Location("oss", "in-bucket", "videos/sample.mp4")
    assert (task.source.start_s, task.source.duration_s) == (0, 0)
    assert (task.attempt, task.crashes, task.traceparent, task.tracestate) == (1, 0, "", "")
    selection, rendition = entry.plan.selection, entry.plan.rendition
    assert (selection.mode, selection.start_s, selection.interval_s) == (Mode.INTERVAL, 0, 0)
    assert (selection.number, selection.threshold) == (0, 0)
    assert (rendition.format, rendition.width, rendition.height) == (Format.JPG, None, None)
    assert (rendition.scale_type, rendition.quality) == (ScaleType.STRETCH, 90)


def test_times_are_exact():
    assert plan(Interval=0.3).selection.interval_s == Fraction(3, 10)
    assert plan(StartTime=1 / 3).selection.start_s == Fraction(333333333333, 10**12)


def test_one_is_a_pixel_and_one_point_zero_is_all():
    assert (plan(Width=1).rendition.width, type(plan(Width=1).rendition.width)) == (1, int)
    whole = plan(Width=1.0).rendition.width
    assert (whole, type(whole)) == (1, Fraction)
    assert plan(Width=0.25).rendition.width == Fraction(1, 4)


def test_pixels_may_have_a_decimal_point_since_typed_sdks_send_floats():
    width = plan(Width=512.0).rendition.width
    assert (width, type(width)) == (512, int)


@pytest.mark.parametrize(
    ("members", "last_only"),
    [
        ({"URI": "oss://out-bucket/x.jpg"}, True),
        ({"URI": "oss://out-bucket/x.jpg", "Number": 5}, True),
        ({"URI": "oss://out-bucket/x.jpg", "Number": 1}, False),
        ({"URI": "oss://out-bucket/x"}, False),
        ({"URI": "oss://out-bucket/x-{index}.jpg"}, False),
    ],
)
def test_only_the_last_image_stays_under_a_fixed_key(members, last_only):
    assert plan(**members).last_only is last_only


def test_every_problem_is_told_at_once_with_its_path():
    body = snapshot(Mode="average", Treshold=5, Interval=-1, Width=0, URI="oss://out-bucket/{foo}")
    body |= {"Foo": 1, "Notification": {"MNS": {"TopicName": "a.b"}}, "Sources": [{"URI": "http://x/y"}]}
    error = refused(body)
    entry = "$.Targets[0].Image.Snapshots[0]"
    assert {(problem.path, str(problem.code)) for problem in error.problems} == {
        ("$.Foo", "InvalidArgument"),
        ("$.Sources[0].URI", "InvalidArgument"),
        ("$.Notification.MNS.TopicName", "InvalidArgument"),
        (f"{entry}.Treshold", "InvalidArgument"),
        (f"{entry}.Interval", "InvalidArgument"),
        (f"{entry}.Width", "InvalidArgument"),
        (f"{entry}.URI", "InvalidArgument"),
        (f"{entry}.Number", "MissingNumber"),
    }
    assert error.code == error.problems[0].code
    assert "8 problems in all" in error.message
    assert "did you mean Threshold?" in next(each.message for each in error.problems if "Treshold" in each.path)


def test_a_problem_names_the_value_and_what_is_right():
    problem = refused(snapshot(Threshold=101)).problems[0]
    assert "101" in problem.message
    assert "100" in problem.message.replace("101", "")


def test_refused_target_fields_are_named():
    error = refused(target(Video={"Codec": "h264"}, Speed=1.0))
    assert {problem.path for problem in error.problems} == {"$.Targets[0].Video", "$.Targets[0].Speed"}


def test_two_sources_are_told_that_the_join_comes_later():
    assert "later step" in refused(message(Sources=message()["Sources"] * 2)).message


def test_clashes_are_told_beside_other_problems():
    error = refused(snapshots("oss://out-bucket/{index}", "oss://out-bucket/{index}") | {"Foo": 1})
    assert {problem.path for problem in error.problems} == {"$.Foo", "$.Targets[0].Image.Snapshots[1].URI"}


def test_each_tag_that_is_no_string_is_named():
    error = refused(message(Tags={"a": 1, "b": "fine", "c": True, "d": None}))
    assert [problem.path for problem in error.problems] == ["$.Tags.a", "$.Tags.c"]
    assert "got 1" in error.problems[0].message


def test_too_many_entries_do_not_hide_other_problems():
    body = snapshots(*(f"oss://out-bucket/{place}-{{index}}" for place in range(17)))
    error = refused(body | {"Sources": message()["Sources"] * 2})
    assert {problem.path for problem in error.problems} == {"$.Targets", "$.Sources"}


def test_many_problems_are_counted_and_a_hundred_listed():
    error = refused({f"k{index}": 1 for index in range(20_000)})
    assert len(error.problems) == 100
    assert "20003 problems in all" in error.message
    assert len(error.message) < 1000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_message_takes_long(case):
    started = time.process_time()
    with contextlib.suppress(TaskError):
        parse(case.body)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("uri", ["oss://out-bucket/{fields}.jpg", "oss://{fields}/x.jpg"])
def test_a_small_template_cannot_name_gigabytes(uri):
    body = snapshot(URI=uri.replace("{fields}", "{tags.a}" * 12_000)) | {"Tags": {"a": "z" * 100_000}}
    started = time.process_time()
    assert "too long" in refused(body).message
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("text", ["1e999999999", "1e30000000", "-1e999999999", "9" * 4000])
def test_huge_numbers_are_refused_at_once(text):
    body = json.dumps(snapshot(Interval=7, Width=7, Number=7)).replace("7", text).encode()
    started = time.process_time()
    refused(body)
    assert time.process_time() - started < 0.1


def test_tiny_and_long_numbers_become_small_fractions():
    body = json.dumps(snapshot(StartTime=7, Interval=8)).replace("7", "5e-999999999").replace("8", "0." + "3" * 100_000)
    selection = parse(body.encode()).entries[0].plan.selection
    assert selection.start_s == 0
    assert selection.interval_s.denominator <= 10**12


def test_the_limits_come_from_the_settings():
    limits = LimitSettings(entries=1, frames_per_entry=3)
    assert refused(snapshot(Number=4), limits=limits).code == "LimitExceeded"
    assert parse(snapshot(Number=3), limits=limits).entries[0].plan.selection.number == 3
    assert refused(snapshots("oss://out-bucket/a/{index}", "oss://out-bucket/b/{index}"), limits=limits).problems


def test_entries_keep_their_places():
    body = message(Targets=message()["Targets"] + snapshots("oss://out-bucket/a", "oss://out-bucket/b")["Targets"])
    assert [(each.target, each.snapshot) for each in parse(body).entries] == [(0, 0), (1, 0), (1, 1)]


def test_the_publishers_id_is_the_task_id():
    assert parse(message(), message_id="mine").id == "mine"


@pytest.mark.parametrize("message_id", [None, "", "a\nb", "x" * 256])
def test_without_a_usable_id_it_is_made_of_the_body(message_id):
    task_id = parse(message(), message_id=message_id).id
    assert task_id == parse(message()).id == identify(json.dumps(message()).encode(), message_id).task_id
    assert task_id.startswith("MediaConvert-")
    assert UUID(task_id.removeprefix("MediaConvert-")).version == 5
    assert task_id != parse(message(UserData="x")).id


def test_the_clock_is_the_publishers_then_the_first_attempts_then_ours():
    early, later = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC)
    headers = {"x-created": later.isoformat()}
    assert parse(message(), timestamp=early, headers=headers).created_at == early
    assert parse(message(), headers=headers).created_at == later
    assert parse(message(), headers={"x-created": "soon"}).created_at == NOW


@pytest.mark.parametrize(("value", "attempt"), [(3, 3), (0, 1), (-1, 1), (True, 1), ("3", 1), (2**63, 1), (None, 1)])
def test_counters_are_believed_only_when_sensible(value, attempt):
    task = parse(message(), headers={"x-attempt": value, "x-crashes": value, "x-delivery-count": 999})
    assert task.attempt == attempt
    assert task.crashes == (3 if attempt == 3 else 0)


GOOD_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("parent", "state", "expected"),
    [
        (GOOD_TRACE, "a=b", (GOOD_TRACE, "a=b")),
        (GOOD_TRACE.encode(), b"a=b", (GOOD_TRACE, "a=b")),
        (GOOD_TRACE, "a\r\nb", (GOOD_TRACE, "")),
        (GOOD_TRACE, 5, (GOOD_TRACE, "")),
        (GOOD_TRACE.upper(), "a=b", ("", "")),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", "a=b", ("", "")),
        (GOOD_TRACE + "\n", "a=b", ("", "")),
        (None, "a=b", ("", "")),
    ],
)
def test_traces_are_checked(parent, state, expected):
    task = parse(message(), headers={"traceparent": parent, "tracestate": state})
    assert (task.traceparent, task.tracestate) == expected


def test_what_imms_sdk_sends_is_accepted_as_it_is():
    request = imm.CreateMediaConvertTaskRequest(
        project_name="demo",
        sources=[imm.CreateMediaConvertTaskRequestSources(uri="oss://in-bucket/v.mp4", start_time=1.5)],
        targets=[
            imm.CreateMediaConvertTaskRequestTargets(
                image=imm.TargetImage(
                    snapshots=[
                        imm.TargetImageSnapshots(
                            format="jpg", uri="oss://out-bucket/{index}", interval=0.3, number=5, width=512, height=0.5
                        )
                    ]
                )
            )
        ],
        notification=imm.Notification(mns=imm.MNS(topic_name="my-topic")),
        tags={"a": "b"},
        user_data="mine",
    )
    sent = request.to_map()
    assert sent["Targets"][0]["Image"]["Sprites"] == sent["TargetGroups"] == sent["Sources"][0]["Subtitles"] == []
    task = parse(sent)
    selection, rendition = task.entries[0].plan.selection, task.entries[0].plan.rendition
    assert (selection.interval_s, selection.number) == (Fraction(3, 10), 5)
    assert (rendition.width, rendition.height) == (512, Fraction(1, 2))
    assert (task.topic, task.tags, task.source.start_s) == ("my-topic", (("a", "b"),), Fraction(3, 2))


@pytest.mark.parametrize(
    ("body", "project", "topic"),
    [
        (b"", "unknown", "default"),
        (b"[1]", "unknown", "default"),
        (b"\xff", "unknown", "default"),
        (b'{"ProjectName": "p"', "unknown", "default"),
        (b'{"ProjectName": "a.b", "Notification": 5}', "unknown", "default"),
        (b'{"ProjectName": "p", "Notification": {"MNS": {"TopicName": "#"}}}', "p", "default"),
        (b'{"ProjectName": "p", "Notification": {"RocketMQ": {"TopicName": "t"}}}', "p", "t"),
        (b" " * 2**20 + b'{"ProjectName": "p"}', "unknown", "default"),
    ],
)
def test_identify_tells_what_it_can(body, project, topic):
    identity = identify(body, "id")
    assert (identity.task_id, identity.project, identity.topic) == ("id", project, topic)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ENTRY_FIELDS = [
    "Format",
    "URI",
    "Mode",
    "StartTime",
    "Interval",
    "Number",
    "Threshold",
    "Width",
    "ScaleType",
    "Quality",
]


@given(st.dictionaries(st.sampled_from(ENTRY_FIELDS), json_values), st.dictionaries(st.text(), json_values))
def test_any_json_is_a_task_or_one_error(entry, rest):
    body = json.dumps(snapshot(**entry) | rest).encode("utf-8", "replace")
    with contextlib.suppress(TaskError):
        assert parse(body).entries


@given(st.binary())
def test_any_bytes_are_a_task_or_one_error(body):
    assert refused(body).problems
    assert identify(body, None).project


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "UTF-16 or UTF-32"),
        ("{}".encode("utf-16-le"), "UTF-16 or UTF-32"),
        (b'{"a": 1, "a": 2}', 'a name is given twice in one object: Detected duplicate key "a"'),
    ],
)
def test_what_keeps_a_message_from_being_read_is_named(body, says):
    assert says in refused(body).message


def test_names_that_do_not_fit_are_told_in_words_instead_of_a_pattern():
    error = refused(snapshot() | {"ProjectName": "a b", "Notification": {"MNS": {"TopicName": "a/b"}}})
    assert [problem.message for problem in error.problems] == [
        "Input should be 1 to 128 of A-Z a-z 0-9 _ -; got 'a b'",
        "Input should be 1 to 100 of A-Z a-z 0-9 _ -; got 'a/b'",
    ]
