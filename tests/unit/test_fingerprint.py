"""The hash against a naive one in fractions, and its dead band."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.media.fingerprint import dhash


def naive(luma, depth):
    """The specification's words, in exact fractions and without any regard to speed."""
    height, width = luma.shape

    def overlap(i, cell, total, count):
        low, high = Fraction(cell * total, count), Fraction((cell + 1) * total, count)
        return max(Fraction(0), min(Fraction(i + 1), high) - max(Fraction(i), low))

    def mean(row, column):
        total = sum(
            overlap(y, row, height, 8) * overlap(x, column, width, 9) * int(luma[y, x])
            for y in range(height)
            for x in range(width)
        )
        return total / (Fraction(height, 8) * Fraction(width, 9)) / 2 ** (depth - 8)

    bits = 0
    for row in range(8):
        cells = [mean(row, column) for column in range(9)]
        for left, right in pairwise(cells):
            bits = bits << 1 | (right - left > 2)
    return bits


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 24),
    height=st.integers(1, 20),
    depth=st.sampled_from([8, 10, 16]),
    spread=st.sampled_from([6, 40, 255]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_naive_hash(width, height, depth, spread, seed):
    samples = np.random.default_rng(seed).integers(0, (spread << (depth - 8)) + 1, (height, width))
    luma = samples.astype(np.uint8 if depth == 8 else np.uint16)
    assert dhash(luma, depth) == naive(luma, depth)


@pytest.mark.parametrize("depth", [8, 10, 12, 16])
def test_the_dead_band_is_two_levels_of_eight_bits_and_strict(depth):
    level = 1 << (depth - 8)
    dtype = np.uint8 if depth == 8 else np.uint16

    def steps(size):
        return np.repeat(np.arange(9) * size + 16 * level, 11).astype(dtype)[None].repeat(13, axis=0)

    assert dhash(steps(2 * level), depth) == 0
    assert dhash(steps(2 * level + 1), depth) == 2**64 - 1
    assert dhash(steps(2 * level)[:, ::-1], depth) == 0


def test_bits_run_from_the_top_left():
    luma = np.zeros((8, 9), np.uint8)
    luma[0, 1] = 200
    assert dhash(luma, 8) == 1 << 63
    luma[:] = 0
    luma[7, 8] = 200
    assert dhash(luma, 8) == 1


def test_large_deep_and_strided_planes_do_not_overflow():
    luma = np.full((4000, 4000), 65535, np.uint16)[::2, 1::2]
    luma[:, :1000] = 0
    assert dhash(luma, 16) == int("00011000" * 8, 2)  # the fifth column is half black
