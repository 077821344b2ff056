"""Clocks that jump are joined, and frames without times get plausible ones."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.media.clock import BestEffort, Continuity

MS = Fraction(1, 1000)


def joined(*dts, duration=40):
    clock = Continuity(MS)
    return [each + clock.offset(each, duration) for each in dts]


def test_a_steady_clock_is_left_alone():
    assert joined(500, 540, 580) == [500, 540, 580]


def test_a_clock_that_starts_again_goes_on():
    assert joined(5000, 5040, 0, 40, 80) == [5000, 5040, 5080, 5120, 5160]


def test_a_jump_of_hours_is_closed_and_a_gap_of_seconds_is_not():
    assert joined(0, 40, 7_200_000, 7_200_040) == [0, 40, 80, 120]
    assert joined(0, 40, 9000, 9040) == [0, 40, 9000, 9040]


def test_small_steps_back_are_no_new_clock():
    assert joined(0, 40, 20, 60) == [0, 40, 20, 60]


def test_packets_without_dts_move_with_the_others():
    clock = Continuity(MS)
    for dts in (5000, 5040, 0):
        offset = clock.offset(dts, 40)
    assert clock.offset(None, 40) == offset == 5080


def test_frames_without_times_follow_each_other():
    clock = BestEffort(40)
    assert [clock.time(None, None) for _ in range(3)] == [0, 40, 80]


def test_the_dts_stands_in_for_pts_that_go_back():
    clock = BestEffort(40)
    # A container that lost the reordering: pts equal dts, in decoding order, and the decoder reorders.
    pts_dts = [(0, 80), (120, 120), (40, 160), (80, 200), (240, 240)]
    assert [clock.time(*each) for each in pts_dts] == [0, 120, 160, 200, 240]


@given(st.lists(st.tuples(st.none() | st.integers(-100, 1000), st.none() | st.integers(-100, 1000)), max_size=30))
def test_times_never_fall(frames):
    clock = BestEffort(40)
    times = [clock.time(*frame) for frame in frames]
    assert all(a <= b for a, b in pairwise(times))


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30))
def test_times_in_order_are_kept(steps):
    clock = BestEffort(40)
    times = [sum(steps[: n + 1]) for n in range(len(steps))]
    assert [clock.time(pts, None) for pts in times] == times
