"""When to try again: whatever goes wrong, a task is attempted a bounded number of times."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Code, TaskError
from worker.messages import headers
from worker.task import CRASHES, Failed, Location, Postponed, RetryPolicy, Template

LADDER = RetryPolicy()
DOWN = TaskError(Code.STORAGE_UNAVAILABLE, "the store is down", retryable=True)
CRASHED = TaskError(Code.WORKER_CRASHED, "the decoder died", retryable=True)


def test_what_cannot_pass_is_not_tried_again():
    error = TaskError(Code.CORRUPT_MEDIA, "broken")
    assert LADDER.judge(error, 1, 0) == Failed(error)


def test_attempts_follow_the_ladder_and_end_with_the_last():
    verdicts = [LADDER.judge(DOWN, attempt, 0) for attempt in range(1, 6)]
    assert verdicts == [
        Postponed(DOWN, 5, 2, 0),
        Postponed(DOWN, 30, 3, 0),
        Postponed(DOWN, 120, 4, 0),
        Postponed(DOWN, 600, 5, 0),
        Failed(DOWN),
    ]


def test_more_attempts_than_delays_repeat_the_longest():
    policy = RetryPolicy((1, 2), max_attempts=9)
    verdicts = [policy.judge(DOWN, attempt, 0) for attempt in range(1, 9)]
    assert [verdict.delay_s for verdict in verdicts] == [1, 2, 2, 2, 2, 2, 2, 2]


def test_crashes_end_sooner():
    assert LADDER.judge(CRASHED, 1, 0) == Postponed(CRASHED, 5, 2, 1)
    assert LADDER.judge(CRASHED, 2, 1) == Failed(CRASHED)


def test_a_crash_is_remembered_over_other_failures():
    assert LADDER.judge(DOWN, 2, 1) == Postponed(DOWN, 30, 3, 1)
    assert LADDER.judge(CRASHED, 3, 1) == Failed(CRASHED)


@pytest.mark.parametrize("attempt", [5, 6, 1000])
def test_an_attempt_beyond_the_last_fails(attempt):
    assert LADDER.judge(DOWN, attempt, 0) == Failed(DOWN)


errors = st.builds(
    lambda code, retryable: TaskError(code, "x", retryable=retryable), st.sampled_from(list(Code)), st.booleans()
)
policies = st.builds(
    RetryPolicy,
    st.lists(st.integers(0, 10_000), min_size=1, max_size=8).map(tuple),
    st.integers(1, 12),
    st.integers(1, 12),
)


@given(policies, st.lists(errors, min_size=12, max_size=12))
def test_whatever_goes_wrong_executions_are_bounded(policy, failures):
    """As the handler does it: each attempt's counters come out of the headers of the copy before."""
    carried: dict[str, object] = {}
    seen: list[TaskError] = []
    for failure in failures:
        attempt, crashes = headers.count(carried, headers.ATTEMPT, 1), headers.count(carried, headers.CRASHES, 0)
        seen.append(failure)
        verdict = policy.judge(failure, attempt, crashes)
        if isinstance(verdict, Failed):
            break
        assert failure.retryable
        assert verdict.delay_s in policy.delays_s
        carried = {headers.ATTEMPT: verdict.attempt, headers.CRASHES: verdict.crashes}
    assert verdict == Failed(seen[-1])
    assert len(seen) <= policy.max_attempts
    assert sum(error.code in CRASHES for error in seen) <= policy.crash_attempts


@given(st.integers(min_value=1, max_value=1000), st.integers(min_value=0, max_value=1000), errors)
def test_any_counters_lead_to_the_next_attempt_or_to_the_end(attempt, crashes, error):
    verdict = LADDER.judge(error, attempt, crashes)
    if isinstance(verdict, Postponed):
        assert verdict.attempt == attempt + 1 <= LADDER.max_attempts
        assert crashes <= verdict.crashes < LADDER.crash_attempts


def test_a_location_reads_as_its_uri():
    assert str(Location("oss", "bucket", "a/b.jpg")) == "oss://bucket/a/b.jpg"


def test_a_template_knows_whether_images_get_keys_of_their_own():
    assert Template("oss", "bucket", ("a-", ".jpg"), ("",)).indexed
    assert not Template("oss", "bucket", ("a.jpg",), ()).indexed


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "no time", "", 5, b"\xff"])
def test_a_clock_that_no_clock_shows_is_ignored(text):
    """A header from outside: what it holds must not end the worker."""
    received = datetime(2026, 1, 2, tzinfo=UTC)
    assert headers.created_at(None, {headers.CREATED: text}, received) == received
