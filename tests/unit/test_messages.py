"""What a task message means: its fields, their defaults, and whose it is, however little of it can be read."""

import contextlib
import json
from fractions import Fraction
from typing import Any

import pytest
from alibabacloud_imm20200930 import models as imm
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.messages import message, snapshot, snapshots
from tests.parsing import parse, refused
from worker.errors import TaskError
from worker.media.plan import Format, Mode, ScaleType
from worker.messages import identify
from worker.settings import LimitSettings
from worker.task import Location


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


def test_the_limits_come_from_the_settings():
    limits = LimitSettings(entries=1, frames_per_entry=3)
    assert refused(snapshot(Number=4), limits=limits).code == "LimitExceeded"
    assert parse(snapshot(Number=3), limits=limits).entries[0].plan.selection.number == 3
    assert refused(snapshots("oss://out-bucket/a/{index}", "oss://out-bucket/b/{index}"), limits=limits).problems


def test_entries_keep_their_places():
    body = message(Targets=message()["Targets"] + snapshots("oss://out-bucket/a", "oss://out-bucket/b")["Targets"])
    assert [(each.target, each.snapshot) for each in parse(body).entries] == [(0, 0), (1, 0), (1, 1)]


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
