"""Sizes and positions: from a coded picture to the output canvas. Pure numbers; knows no pixels and no libraries."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from worker.errors import Code, TaskError
from worker.media.plan import Limits, Rendition, ScaleType


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels, both at least 1."""

    width: int
    height: int

    def turned(self) -> "Size":
        """Give the size after rows and columns change places."""
        return Size(self.height, self.width)


@dataclass(frozen=True, slots=True)
class Orientation:
    """How to turn a coded picture upright: first exchange rows and columns, then mirror x, then mirror y.

    The eight combinations are the four rotations, each with and without a mirror.
    """

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False


UPRIGHT = Orientation()


@dataclass(frozen=True, slots=True)
class Margins:
    """Coded pixels at each side that are not to be shown: MP4's clean aperture, Matroska's PixelCrop."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def fit(self, size: Size) -> bool:
        """Tell whether there is anything to cut, and something left then."""
        across, down = self.left + self.right, self.top + self.bottom
        return across + down > 0 and across < size.width and down < size.height


NO_MARGINS = Margins()


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the upright picture goes: scaled whole to `scaled`, of which `visible` at `crop` lands on a black

    `canvas` at `offset` (both x, y). `aspect_changed` earns the warning `AspectRatioChanged`.
    """

    scaled: Size
    crop: tuple[int, int]
    visible: Size
    canvas: Size
    offset: tuple[int, int]
    aspect_changed: bool

    def halved(self) -> "Layout":
        """Give the same for planes of half the width and height; all numbers must be even."""
        scaled, visible, canvas = (
            Size(size.width // 2, size.height // 2) for size in (self.scaled, self.visible, self.canvas)
        )
        crop, offset = ((x // 2, y // 2) for x, y in (self.crop, self.offset))
        return Layout(scaled, crop, visible, canvas, offset, self.aspect_changed)


def orientation(matrix: Sequence[int]) -> Orientation:
    """Read a display matrix (nine numbers, as in ISO/IEC 14496-12, 8.2.2.3): x' = a·x + c·y, y' = b·x + d·y.

    An angle between quarter turns is taken to the nearest; a matrix that flattens the picture counts as none.
    """
    if len(matrix) != 9:
        return UPRIGHT
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if a * d == b * c:
        return UPRIGHT
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transposed=True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(flip_x=a < 0, flip_y=d < 0)


def upright_size(coded: Size, sample_aspect: Fraction, turn: Orientation) -> Size:
    """Give the size of the picture upright and with square pixels.

    The coded width changes and the height stays, as in FFmpeg's `scale=iw*sar:ih`, so that 720×576 at 64:45 is
    1024×576 and 720×480 at 8:9 is 640×480. An aspect of zero or less means unknown, which means square.
    """
    width = _rounded(coded.width * sample_aspect) if sample_aspect > 0 else coded.width
    square = Size(width, coded.height)
    return square.turned() if turn.transposed else square


def layout(source: Size, rendition: Rendition, max_pixels: int = Limits().max_pixels) -> Layout:
    """Place an upright, square-pixel picture as the specification's section 4 says.

    Raises `LimitExceeded` where `crop` would scale a very long picture to more than `max_pixels`.
    """
    target = Size(side_of(rendition.width, source.width), side_of(rendition.height, source.height))
    if rendition.scale_type is ScaleType.STRETCH:
        one_sided = (rendition.width is None) != (rendition.height is None)
        return _plain(target, aspect_changed=one_sided and _distorts(source, target))
    if rendition.scale_type is ScaleType.CROP:
        return _cropped(source, target, max_pixels)
    if rendition.scale_type is ScaleType.FIT:
        return _plain(_scaled(source, min(_factors(source, target))), aspect_changed=False)
    scaled = _centred(source, min(_factors(source, target)), target)
    offset = ((target.width - scaled.width) // 2, (target.height - scaled.height) // 2)
    return Layout(scaled, (0, 0), scaled, target, offset, aspect_changed=False)


def _plain(size: Size, *, aspect_changed: bool) -> Layout:
    return Layout(size, (0, 0), size, size, (0, 0), aspect_changed)


def _cropped(source: Size, target: Size, max_pixels: int) -> Layout:
    scaled = _centred(source, max(_factors(source, target)), target)
    if scaled.width * scaled.height > max(max_pixels, source.width * source.height):
        raise TaskError(
            Code.LIMIT_EXCEEDED,
            f"ScaleType crop to {target.width}x{target.height} would scale this {source.width}x{source.height} picture "
            f"to {scaled.width}x{scaled.height}, more than {max_pixels} pixels: ask for a smaller size, or use fill",
        )
    crop = ((scaled.width - target.width) // 2, (scaled.height - target.height) // 2)
    return Layout(scaled, crop, target, target, (0, 0), aspect_changed=False)


def side_of(wanted: int | Fraction | None, own: int) -> int:
    """Tell how many pixels a wanted side is, where the picture has its `own` number."""
    if wanted is None:
        return own
    return wanted if isinstance(wanted, int) else _rounded(own * wanted)


def _rounded(value: Fraction) -> int:
    return max(1, floor(value + Fraction(1, 2)))


def _factors(source: Size, target: Size) -> tuple[Fraction, Fraction]:
    return Fraction(target.width, source.width), Fraction(target.height, source.height)


def _scaled(source: Size, factor: Fraction) -> Size:
    return Size(_rounded(source.width * factor), _rounded(source.height * factor))


def _centred(source: Size, factor: Fraction, target: Size) -> Size:
    """Scale to sides as even or odd as the target's, so that the picture's centre comes exactly upon the target's.

    With that no position is off by more than half a pixel; with the nearest sides it could be three quarters.
    """
    return Size(
        _rounded_like(source.width * factor, target.width), _rounded_like(source.height * factor, target.height)
    )


def _rounded_like(value: Fraction, like: int) -> int:
    parity = like % 2
    return max(2 - parity, 2 * floor((value - parity + 1) / 2) + parity)


def _distorts(source: Size, target: Size) -> bool:
    """Tell whether the shapes differ by more than rounding either side to whole pixels explains."""
    difference = abs(target.width * source.height - target.height * source.width)
    return 2 * difference > max(source.width, source.height)
