"""Messages that are refused: every problem is told with its path and what would be right, in little time and space."""

import contextlib
import json
import time

import pytest

from tests.corpus.messages import CASES, message, snapshot, snapshots, target
from tests.parsing import parse, refused
from worker.errors import TaskError


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
