"""Times and scores: exact numbers in, exact numbers out."""

from fractions import Fraction
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from worker.media.select import Best, grid, score, spread

times = st.fractions(0, 10_000, max_denominator=100_000)


def test_a_grid_goes_on_until_nobody_asks():
    assert list(islice(grid(Fraction(1, 3), Fraction(1, 10), 0), 3)) == [
        Fraction(1, 3), Fraction(13, 30), Fraction(8, 15)
    ]  # fmt: skip


@given(times, times, st.integers(1, 500))
def test_no_error_adds_up_on_a_grid(start_s, interval_s, number):
    points = list(grid(start_s, interval_s, number))
    assert len(points) == number
    assert points[-1] == start_s + (number - 1) * interval_s


@given(times, times, st.integers(1, 500))
def test_spread_times_divide_the_whole_evenly(start_s, length_s, number):
    points = list(spread(start_s, start_s + length_s, number))
    assert points[0] == start_s
    assert len(points) == number
    assert points[-1] + length_s / number == start_s + length_s


def test_scores_are_percent_of_64_bits():
    assert score(0b1011, None) == 100
    assert score(0b1011, 0b1011) == 0
    assert score(0b1011, 0b0001) == Fraction(100 * 2, 64)
    assert score(2**64 - 1, 0) == 100


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 8))
def test_the_best_are_the_highest_with_ties_to_the_earlier(scores, number):
    best = Best(number)
    for item, value in enumerate(scores):
        if best.admits(Fraction(value)):
            best.add(Fraction(value), item)
    wanted = sorted(range(len(scores)), key=lambda item: (-scores[item], item))[:number]
    assert best.in_order() == sorted(wanted)


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 8))
def test_what_leaves_the_best_is_told(scores, number):
    best, kept = Best(number), set()
    for item, value in enumerate(scores):
        if best.admits(Fraction(value)):
            dropped = best.add(Fraction(value), item)
            kept = (kept | {item}) - {dropped}
    assert kept == set(best.in_order())
    assert len(kept) == min(number, len(scores))
