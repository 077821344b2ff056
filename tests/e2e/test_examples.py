"""The eight example tasks, through a real broker to a real S3 server: every image, every event, every count."""

import hashlib
import io
import json

import jsonschema
import numpy as np
import pytest
from PIL import Image

from devkit.counter import read_number
from tests.e2e.bus import TERMINAL
from tests.e2e.examples import SCHEMAS, TRACE_ID, TRACEPARENT
from tests.e2e.media import BUCKET
from worker.messages.examples import EXAMPLE_TASKS


@pytest.fixture(params=["published", "submitted"])
def run(request):
    return request.getfixturevalue(request.param)


def test_the_video_tells_right_from_wrong(sources, expected):
    video = sources.video
    scores = video.scores([video.number_at(second) for second in range(61)])
    assert any(0 < score <= 15 for score in scores)
    assert len(set(scores)) > 4
    assert len(expected["d-events"].numbers) > len(expected["e-representative"].numbers) == 5
    assert not [time_s for time_s in video.times_s[1:] if time_s.denominator == 1]
    assert video.end_s > 60


@pytest.mark.parametrize("name", EXAMPLE_TASKS)
def test_each_image_is_the_frame_asked_for_and_looks_as_asked(run, expected, sources, name):
    wanted = expected[name]
    frames = run.frames(name)
    assert [frame["URI"] for frame in frames] == [f"oss://{BUCKET}/{key}" for key in wanted.keys]
    assert [frame["Index"] for frame in frames] == list(range(1, len(wanted.keys) + 1))
    numbers = []
    for key in wanted.keys:
        stored = run.objects[key]
        with Image.open(io.BytesIO(stored["Body"])) as image:
            assert (image.format, image.size) == (wanted.image_format, wanted.size)
            assert stored["ContentType"] == Image.MIME[wanted.image_format]
            if wanted.numbers:
                numbers.append(read_number(image, scale_type=wanted.scale_type))
            else:
                assert_looks_like(image, sources.cover.data)
    assert numbers == wanted.numbers


def assert_looks_like(image: Image.Image, original: bytes):
    with Image.open(io.BytesIO(original)) as cover:
        difference = np.asarray(image.convert("RGB"), int) - np.asarray(cover.convert("RGB"), int)
    assert np.abs(difference).mean() < 2


@pytest.mark.parametrize("name", EXAMPLE_TASKS)
def test_the_manifest_tells_what_is_stored(run, expected, sources, name):
    wanted = expected[name]
    for place, (key, frame) in enumerate(zip(wanted.keys, run.frames(name), strict=True)):
        stored = run.objects[key]
        assert frame["Bytes"] == len(stored["Body"])
        assert frame["Sha256"] == hashlib.sha256(stored["Body"]).hexdigest()
        assert frame["ETag"] == stored["ETag"].strip('"')
        assert (frame["Width"], frame["Height"]) == wanted.size
        assert frame["Repeated"] is False
        if wanted.numbers:
            number = wanted.numbers[place]
            assert frame["Time"] == round(float(sources.video.times_s[number]), 6)
            assert frame["KeyFrame"] == (number in sources.video.keyframes)
        if wanted.scores:
            assert frame["Score"] == float(wanted.scores[place])
            assert frame["DHash"] == f"{sources.video.dhash_of(wanted.numbers[place]):016x}"


def test_nothing_else_is_stored(run, expected):
    assert sorted(run.objects) == sorted(key for each in expected.values() for key in each.keys)


@pytest.mark.parametrize("name", EXAMPLE_TASKS)
def test_events_come_in_order_under_their_routing_keys(run, expected, name):
    events = run.of(name)
    statuses = [each.status for each in events]
    assert statuses == ["Running"] * (len(events) - 1) + ["Succeeded"]
    progress = [each.data["Progress"] for each in events[:-1]]
    assert progress[0] == 0
    assert progress == sorted(progress)
    assert [each.routing_key for each in events] == [f"frame-capture.demo.{status}" for status in statuses]
    (snapshot,) = events[-1].snapshots
    assert (snapshot["Count"], snapshot["Warnings"]) == (len(expected[name].keys), [])


def test_progress_is_told_between_start_and_end(run):
    assert any(0 < each.data.get("Progress", 0) < 100 for each in run.told)


def test_events_are_cloud_events_of_the_published_schema(run):
    schema = json.loads((SCHEMAS / "event.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for each in run.told:
        validator.validate(each.body)
        assert each.content_type == "application/cloudevents+json"
        assert each.body["specversion"] == "1.0"
        assert each.body["type"] == "imm:Task:MediaConvert"
        assert each.body["source"] == "frame-capture"
        assert each.body["subject"] == each.data["TaskId"]
        assert each.data["TaskType"] == "MediaConvert"
    assert len({each.body["id"] for each in run.told}) == len(run.told)


@pytest.mark.parametrize("name", EXAMPLE_TASKS)
def test_events_echo_the_task(run, name):
    sent = EXAMPLE_TASKS[name]
    for each in run.of(name):
        assert each.data["ProjectName"] == sent["ProjectName"]
        assert each.data["Sources"] == sent["Sources"]
        assert each.snapshots[0].items() >= sent["Targets"][0]["Image"]["Snapshots"][0].items()


def test_metrics_count_what_happened(run, expected):
    by_mode = {"interval": "abch", "dhash": "de", "keyframe": "f", "average": "g"}
    assert {name: value for name, value in run.metrics.items() if name.startswith("tasks_total") and value} == {
        f"tasks_total {mode} succeeded": len(names) for mode, names in by_mode.items()
    }
    images = {"jpg interval": "abh", "png interval": "c", "jpg dhash": "de", "jpg keyframe": "f", "jpg average": "g"}
    assert {name: value for name, value in run.metrics.items() if name.startswith("frames_total") and value} == {
        f"frames_total {labels}": sum(len(each.keys) for name, each in expected.items() if name[0] in names)
        for labels, names in images.items()
    }
    assert run.metrics["store_written_bytes_total"] == sum(len(each["Body"]) for each in run.objects.values())
    assert run.metrics["store_requests_total write ok"] == len(run.objects)
    assert run.metrics["store_requests_total stat ok"] == len(EXAMPLE_TASKS)
    assert run.metrics["task_seconds_count succeeded"] == len(EXAMPLE_TASKS)
    assert run.metrics["source_bytes_count"] == len(EXAMPLE_TASKS)
    for stage in ("stat", "probe", "decode", "encode", "upload", "announce"):
        assert run.metrics[f"stage_seconds_count {stage}"] == len(EXAMPLE_TASKS), stage
    silent = ("task_failures_total", "tasks_parked_total", "retries_total", "deliveries_joined", "decoder_restarts")
    assert {name: value for name, value in run.metrics.items() if name.startswith(silent) and value} == {}


def test_the_worker_is_idle_and_the_queues_are_empty(run):
    assert run.metrics["tasks_in_flight"] == 0
    assert run.metrics["decoders_busy"] == 0
    assert run.metrics["decoders"] == 2
    assert run.metrics["consuming"] == run.metrics["amqp_connected"] == 1
    assert len(run.queues) == 6
    assert set(run.queues.values()) == {(0, 0)}


def test_each_line_of_the_log_that_is_about_a_task_names_it(run):
    about = [line for line in run.log if line["logger"] == "worker.handler"]
    assert {line["task_id"] for line in about} == set(run.tasks.values())
    assert [line["event"] for line in about].count("succeeded") == len(EXAMPLE_TASKS)
    assert not [line for line in run.log if line["level"] in ("warning", "error", "critical")]


def test_the_trace_of_a_task_is_carried_into_its_events_and_log_lines(published):
    assert {each.body["traceparent"] for each in published.told} == {TRACEPARENT}
    assert {line["trace_id"] for line in published.log if line["logger"] == "worker.handler"} == {TRACE_ID}


def test_submit_prints_the_terminal_events_in_the_order_of_the_tasks(submitted):
    ends = {each.task_id: each.body for each in submitted.told if each.status in TERMINAL}
    assert submitted.printed == [ends[task_id] for task_id in submitted.tasks.values()]
    assert submitted.metrics["queue_wait_seconds_count"] == len(EXAMPLE_TASKS)
