"""Captures of drawn streams against the naive full decode: the same frames, and the same pixels bit by bit.

`HYPOTHESIS_SEED=n pytest …` explores with another seed; without, the same examples are drawn each time. A failure
prints the stream's recipe and the request.
"""

import os
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.exact import assert_as_expected
from tests.streams import make, streams
from worker.media.plan import CapturePlan, EntryPlan, Format, Mode, Rendition, Selection

PNG = Rendition(format=Format.PNG)
SEED = int(os.environ.get("HYPOTHESIS_SEED", "20261122"))
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "300"))


@st.composite
def selections(draw, length_s):
    mode = draw(st.sampled_from(list(Mode)))
    start_s = draw(st.one_of(st.just(Fraction(0)), shares(length_s)))
    intervals = st.one_of(st.just(Fraction(0)), shares(length_s), st.sampled_from([Fraction(1, 5), Fraction(1)]))
    number = draw(st.integers(1 if mode is Mode.AVERAGE else 0, 8))
    threshold = draw(st.sampled_from([0, 5, 15, 40])) if mode is Mode.DHASH else 0
    return Selection(mode, start_s, draw(intervals), number, threshold)


def shares(length_s):
    """Times between 0 and a little past the end, on a grid that hits frames' borders and misses them."""
    return st.one_of(
        st.integers(0, 1000).map(lambda share: Fraction(round(length_s * share * 12 / 10), 1000)),
        st.fractions(0, Fraction(6, 5), max_denominator=7).map(lambda share: share * length_s),
    )


@st.composite
def plans(draw, length_s):
    entries = tuple(
        EntryPlan(draw(selections(length_s)), PNG, last_only=draw(st.integers(0, 6)) == 0)
        for _ in range(draw(st.integers(1, 4)))
    )
    if draw(st.integers(0, 3)):
        return CapturePlan(entries)
    return CapturePlan(entries, draw(shares(length_s)), draw(st.one_of(st.just(Fraction(0)), shares(length_s))))


def check(data):
    stream = data.draw(streams(), label="stream")
    length_s = sum(stream.steps) * stream.time_base
    plan = data.draw(plans(length_s), label="plan")
    with tempfile.TemporaryDirectory() as folder:
        path = make(stream, Path(folder))
        assert_as_expected(path, plan, (stream.container, stream.codec))


def explore(examples):
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(max_examples=examples, deadline=None, database=None, print_blob=True, suppress_health_check=quiet)


@seed(SEED)
@explore(40)
@given(st.data())
def test_frames_and_pixels_are_those_of_a_full_decode(data):
    check(data)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@seed(SEED + 1)
@explore(EXAMPLES)
@given(st.data())
def test_frames_and_pixels_of_many_more_streams(data):
    check(data)
