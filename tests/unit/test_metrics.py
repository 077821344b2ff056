"""What is counted exists from the start, under labels from closed sets."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from worker.errors import Code
from worker.media.plan import Format, Mode
from worker.metrics import OPERATIONS, OUTCOMES, RESTARTS, RESULTS, STAGES, Metrics, code_label


@pytest.fixture
def metrics():
    return Metrics(CollectorRegistry())


def scrape(metrics):
    """All samples as a scraper reads them."""
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {(sample.name, *sorted(sample.labels.items())): sample.value for each in families for sample in each.samples}


def series(metrics, name):
    return {tuple(value for _, value in labels) for found, *labels in scrape(metrics) if found == name}


def test_every_series_is_there_before_anything_happened(metrics):
    assert series(metrics, "frame_capture_tasks_total") == {(mode, outcome) for mode in Mode for outcome in OUTCOMES}
    assert series(metrics, "frame_capture_task_failures_total") == {(code,) for code in Code}
    assert series(metrics, "frame_capture_tasks_parked_total") == {(code,) for code in Code}
    assert series(metrics, "frame_capture_frames_total") == {(form, mode) for form in Format for mode in Mode}
    assert series(metrics, "frame_capture_stage_seconds_count") == {(stage,) for stage in STAGES}
    assert series(metrics, "frame_capture_store_request_seconds_count") == {(each,) for each in OPERATIONS}
    assert len(series(metrics, "frame_capture_store_requests_total")) == len(RESULTS) * len(OPERATIONS)
    ours = {key: value for key, value in scrape(metrics).items() if key[0].startswith("frame_capture_")}
    assert {key[0] for key, value in ours.items() if value} == {"frame_capture_build_info"}


def test_names_say_their_unit_and_kind(metrics):
    for family in metrics.registry.collect():
        if not family.name.startswith("frame_capture_"):
            continue
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_bytes")), family.name


def test_requests_are_counted_with_their_bytes(metrics):
    metrics.observe_request("read", 0.5, 100, 0, "")
    metrics.observe_request("read", 0.25, 0, 0, "StorageUnavailable")
    metrics.observe_request("write", 0.1, 0, 7, "")
    metrics.observe_request("stat", 0.1, 0, 0, "ResourceNotFound")
    metrics.observe_request("stat", 0.1, 0, 0, "Canceled")
    values = scrape(metrics)
    assert values["frame_capture_store_requests_total", ("operation", "read"), ("result", "ok")] == 1
    assert values["frame_capture_store_requests_total", ("operation", "read"), ("result", "error")] == 1
    # Of neither is the store to blame.
    assert values["frame_capture_store_requests_total", ("operation", "stat"), ("result", "missing")] == 1
    assert values["frame_capture_store_requests_total", ("operation", "stat"), ("result", "abandoned")] == 1
    assert values["frame_capture_store_requests_total", ("operation", "stat"), ("result", "error")] == 0
    assert values["frame_capture_store_read_bytes_total",] == 100
    assert values["frame_capture_store_written_bytes_total",] == 7
    assert values["frame_capture_store_request_seconds_sum", ("operation", "read")] == 0.75


def test_gauges_are_asked_at_each_scrape(metrics):
    facts = {"decoders": 1, "crashed": 0}
    metrics.watch("decoders", "Live decoder processes.", lambda: facts["decoders"])
    metrics.watch_restarts(lambda reason: facts.get(reason, 0))
    assert series(metrics, "frame_capture_decoder_restarts") == {(each,) for each in RESTARTS}
    assert scrape(metrics)["frame_capture_decoders",] == 1
    facts.update(decoders=2, crashed=3)
    assert scrape(metrics)["frame_capture_decoders",] == 2
    assert scrape(metrics)["frame_capture_decoder_restarts", ("reason", "crashed")] == 3


def test_an_undeclared_label_is_an_error(metrics):
    with pytest.raises(ValueError, match="label"):
        metrics.tasks.labels("succeeded")


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("MissingFormat", "Missing"),
        ("Missing", "Missing"),
        ("Timeout", "Timeout"),
        ("made up", "InternalError"),
        ("", "InternalError"),
    ],
)
def test_codes_are_a_closed_set(code, label):
    assert code_label(code) == label


def test_the_process_is_measured_too(metrics):
    assert scrape(metrics)["process_resident_memory_bytes",] > 2**20


def test_only_so_many_projects_have_series_of_their_own():
    metrics = Metrics(CollectorRegistry(), projects=2)
    for project in ("a", "b", "c", "a", "d"):
        metrics.count_task(project, "succeeded", Mode.INTERVAL, 0.5, 3)
    counted = {
        key[-1][1]: value for key, value in scrape(metrics).items() if key[0] == "frame_capture_project_frames_total"
    }
    assert counted == {"a": 6, "b": 3, "(other)": 6}
    # Whoever asks for a ratio of a project's failures finds them at zero.
    assert series(metrics, "frame_capture_project_tasks_total") == {
        (outcome, project) for outcome in OUTCOMES for project in ("a", "b", "(other)")
    }
    assert scrape(metrics)["frame_capture_tasks_total", ("mode", "interval"), ("outcome", "succeeded")] == 5
    assert scrape(metrics)["frame_capture_task_seconds_sum", ("outcome", "succeeded")] == 2.5
