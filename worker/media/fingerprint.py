"""The 64-bit difference hash of a luma plane (specification, section 3), in exact integers. Knows only numbers."""

from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

COLUMNS: Final = 9
ROWS: Final = 8
DEAD_BAND_LEVELS: Final = 2  # of 8 bits


def dhash(luma: Luma, depth: int) -> int:
    """Hash a plane (h, w) of samples of `depth` bits: 8 bits a row, top row and left pair first.

    A bit is set where the mean of the right cell exceeds that of the left by more than the dead band.
    """
    height, width = luma.shape
    cells = _cell_sums(_cell_sums(luma, ROWS).T, COLUMNS).T
    # Cell sums are means times width·height, and levels of `depth` bits are 2^(depth-8) finer than those of 8 bits.
    band = DEAD_BAND_LEVELS * width * height << (depth - 8)
    bits = np.diff(cells, axis=1) > band
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _cell_sums(values: npt.NDArray[np.generic], count: int) -> npt.NDArray[np.int64]:
    """Split axis 0 into `count` equal cells and sum each; a value on a border counts to both by its exact share.

    Sums are in units of 1/`count` value: borders lie at whole multiples of that, so nothing is rounded.
    """
    whole, part = np.divmod(np.arange(count + 1) * len(values), count)
    # Sums of 16-bit samples fit 32 bits up to 65,537 of them, and add up twice as fast so.
    small = values.dtype.itemsize <= 2 and len(values) <= 65_536 * count
    accumulator = np.uint32 if small else np.int64
    before = np.zeros((count + 1, *values.shape[1:]), np.int64)
    for i, (first, last) in enumerate(pairwise(whole), start=1):
        before[i] = before[i - 1] + values[first:last].sum(axis=0, dtype=accumulator)
    before *= count
    inside = part > 0
    before[inside] += part[inside, None] * values[whole[inside]].astype(np.int64)
    return np.diff(before, axis=0)
