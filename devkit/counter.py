"""A test picture that carries its frame's number and its scene in its pixels: how to draw it and how to read it.

The picture is a grid of 9 columns and 8 rows, the grid of the specification's dhash. A scene is an 8-bit pattern: row r
brightens to the right where bit r is set, to the left elsewhere, so the dhash of every frame is known without any
pixels. The number stands in the 20 cells of columns 2 to 6 and rows 2 to 5, which scaling and centre cropping to
a square keep. Each cell holds two bits, each a pair of a bright and a dark block, one above the other: the mean of the
cell stays the same whatever the number, and so does the dhash. For people the number is written in the middle of the
top row. Knows no containers, no codecs and no time.
"""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from worker.media.plan import ScaleType

Plane = npt.NDArray[np.uint8]

COLUMNS, ROWS = 9, 8
CODE_COLUMNS, CODE_ROWS = range(2, 7), range(2, 6)
NUMBER_BITS = 20
CHECK = 0x5A3C9  # the second 20 bits are the number XOR this, so that a mirrored or turned reading does not check out
DARK, BRIGHT = 30, 225
RAMP = tuple(32 + 24 * column for column in range(COLUMNS))  # luma of a row that brightens to the right
TINTS = ((90, 160), (160, 95), (105, 105), (150, 150), (118, 175), (175, 118), (128, 90), (90, 128))  # Cb, Cr of scenes


def draw_scene(width: int, height: int, pattern: int) -> Plane:
    """Draw the background of a scene: the planes of a yuv420p picture (even sizes), stacked as FFmpeg stacks them."""
    tint_cb, tint_cr = TINTS[(pattern >> 3) % len(TINTS)]
    luma = np.empty((height, width), np.uint8)
    for row in range(ROWS):
        ramp = RAMP if pattern >> row & 1 else RAMP[::-1]
        columns = np.array(ramp, np.uint8)[np.arange(width) * COLUMNS // width]
        luma[_edge(row, ROWS, height) : _edge(row + 1, ROWS, height)] = columns
    quarter = height // 2 * (width // 2)
    chroma = np.concatenate([np.full(quarter, tint, np.uint8) for tint in (tint_cb, tint_cr)])
    return np.concatenate([luma, chroma.reshape(height // 2, width)])


def draw_number(scene: Plane, height: int, number: int) -> Plane:
    """Return a copy of a scene of `height` luma rows with `number` drawn on it."""
    if not 0 <= number < 1 << NUMBER_BITS:
        raise ValueError(f"a frame number has {NUMBER_BITS} bits, so 0 to {(1 << NUMBER_BITS) - 1}, not {number}")
    picture = scene.copy()
    width = scene.shape[1]
    word = number << NUMBER_BITS | (number ^ CHECK)
    for bit, (left, right, top, half) in enumerate(_blocks(width, height)):
        upper, lower = (BRIGHT, DARK) if word >> bit & 1 else (DARK, BRIGHT)
        picture[top : top + half, left:right] = upper
        picture[top + half : top + 2 * half, left:right] = lower
    _write_digits(picture, height, number)
    return picture


def read_number(
    image: Image.Image | Plane, *, size: tuple[int, int] = (1280, 720), scale_type: ScaleType | str = ScaleType.STRETCH
) -> int:
    """Read the number from a picture made of one of `size` by `scale_type`; an array is luma, or RGB last.

    Raises `ValueError` when the picture carries no number that checks out, which a blend of two frames does not.
    """
    luma = np.asarray(image.convert("L") if isinstance(image, Image.Image) else image, np.float64)
    luma = luma if luma.ndim == 2 else luma @ (0.299, 0.587, 0.114)
    (scale_x, shift_x), (scale_y, shift_y) = _mapping(size, (luma.shape[1], luma.shape[0]), ScaleType(scale_type))
    contrasts = []
    for left, right, top, half in _blocks(*size):
        x0, x1 = left * scale_x + shift_x, right * scale_x + shift_x
        y0, y1, y2 = ((top + k * half) * scale_y + shift_y for k in range(3))
        contrasts.append(_inner_mean(luma, x0, x1, y0, y1) - _inner_mean(luma, x0, x1, y1, y2))
    faintest = min(map(abs, contrasts))
    word = sum(1 << bit for bit, contrast in enumerate(contrasts) if contrast > 0)
    number, check = word >> NUMBER_BITS, word & (1 << NUMBER_BITS) - 1
    if faintest < (BRIGHT - DARK) / 2 or number ^ CHECK != check:
        raise ValueError(
            f"no frame number: read {number:020b} and {check ^ CHECK:020b}, which should be the same, with blocks"
            f" that differ by {faintest:.0f} levels at the least, which should be near {BRIGHT - DARK}"
        )
    return number


def scene_dhash(pattern: int) -> int:
    """Tell the 64-bit dhash of every frame of a scene, first row and left column in the highest bit."""
    rows = (0xFF if pattern >> row & 1 else 0 for row in range(ROWS))
    return int.from_bytes(bytes(rows), "big")


def dhash(luma: Plane) -> int:
    """Compute the specification's dhash of a luma plane, with exact area averages: slow, and independent."""
    height, width = luma.shape
    cells = _area_weights(height, ROWS) @ luma.astype(np.float64) @ _area_weights(width, COLUMNS).T
    bits = (np.diff(cells, axis=1) > 2).astype(np.uint8)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def score(one: int, other: int) -> Fraction:
    """Tell the percentage of the 64 bits in which two hashes differ."""
    return Fraction(100 * (one ^ other).bit_count(), 64)


def _area_weights(length: int, cells: int) -> npt.NDArray[np.float64]:
    edges = np.arange(cells + 1) * length / cells
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: npt.NDArray[np.float64] = np.maximum(overlap, 0) * cells / length
    return weights


def _edge(index: int, parts: int, length: int) -> int:
    return -(-index * length // parts)


def _write_digits(picture: Plane, height: int, number: int) -> None:
    """Write the number for people, thin and small enough to stay far inside the luma step between two columns."""
    cell = picture[: height // ROWS, _edge(4, COLUMNS, picture.shape[1]) : _edge(5, COLUMNS, picture.shape[1])]
    image = Image.fromarray(cell)
    middle, digits = (cell.shape[1] / 2, cell.shape[0] / 2), str(number)
    font_size = min(cell.shape[0] / 2, 1.4 * cell.shape[1] / len(digits))
    ImageDraw.Draw(image).text(middle, digits, fill=BRIGHT, anchor="mm", font_size=font_size)
    cell[:] = np.asarray(image)


def _blocks(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Tell left, right, top and half height of the block pair of each of the 40 bits, in pixels."""
    half = height * 3 // (ROWS * 8)  # three quarters of a row hold the pair, so that both lie within it at any height
    tops = (height * (2 * row + 1) // (2 * ROWS) - half for row in CODE_ROWS)
    edges = [_edge(step, 2 * COLUMNS, width) for step in range(2 * CODE_COLUMNS.start, 2 * CODE_COLUMNS.stop + 1)]
    return [(left, right, top, half) for top in tops for left, right in pairwise(edges)]


def _mapping(
    size: tuple[int, int], output: tuple[int, int], scale_type: ScaleType
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Tell how an original's coordinates become the output's: scale and shift, of x and of y."""
    ratios = [after / before for before, after in zip(size, output, strict=True)]
    if scale_type is ScaleType.CROP:
        ratios = [max(ratios)] * 2
    elif scale_type in (ScaleType.FILL, ScaleType.FIT):
        ratios = [min(ratios)] * 2
    x, y = ((r, (after - before * r) / 2) for r, before, after in zip(ratios, size, output, strict=True))
    return x, y


def _inner_mean(luma: npt.NDArray[np.float64], x0: float, x1: float, y0: float, y1: float) -> float:
    """Average the middle half of a block, at least the pixel at its centre."""
    span_x, span_y = (_middle(x0, x1, luma.shape[1]), _middle(y0, y1, luma.shape[0]))
    return float(luma[span_y, span_x].mean())


def _middle(start: float, end: float, length: int) -> slice:
    centre, quarter = (start + end) / 2, (end - start) / 4
    first, last = int(max(centre - quarter, 0)), int(min(centre + quarter, length - 1))
    if not 0 <= centre < length:
        raise ValueError(f"the picture ends at {length}, before a block of the number at {centre:.0f}")
    return slice(first, max(last, first + 1))
