"""Layouts and orientations, against the sentences of the specification."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Code, TaskError
from worker.media.geometry import UPRIGHT, Layout, Orientation, Size, layout, orientation, upright_size
from worker.media.plan import Rendition, ScaleType

ONE = 65536
HD = Size(1920, 1080)
sides = st.integers(1, 4096)
sizes = st.builds(Size, sides, sides)


def test_nothing_set_keeps_the_full_size_even_above_the_output_limit():
    big = Size(7680, 4320)
    assert layout(big, Rendition()) == Layout(big, (0, 0), big, big, (0, 0), aspect_changed=False)


@pytest.mark.parametrize(
    ("width", "height", "canvas"),
    [
        (Fraction(1, 2), Fraction(1, 2), Size(161, 121)),  # 160.5 and 120.5 round up
        (Fraction(1, 1000), Fraction(1, 1000), Size(1, 1)),
        (1, 1, Size(1, 1)),
        (Fraction(1), 7, Size(321, 7)),
        (None, Fraction(1, 3), Size(321, 80)),
    ],
)
def test_sizes_are_pixels_or_shares_rounded_half_up(width, height, canvas):
    assert layout(Size(321, 241), Rendition(width=width, height=height)).canvas == canvas


@pytest.mark.parametrize(
    ("width", "height", "scale", "changed"),
    [
        (960, None, ScaleType.STRETCH, True),
        (None, 540, ScaleType.STRETCH, True),
        (1920, None, ScaleType.STRETCH, False),
        (960, 540, ScaleType.STRETCH, False),
        (512, 512, ScaleType.STRETCH, False),  # asked for in so many words
        (960, None, ScaleType.FILL, False),
    ],
)
def test_one_side_alone_distorts_with_a_warning(width, height, scale, changed):
    assert layout(HD, Rendition(width=width, height=height, scale_type=scale)).aspect_changed is changed


def test_the_scale_types_on_one_example():
    def of(scale):
        return layout(HD, Rendition(width=512, height=512, scale_type=scale))

    assert of(ScaleType.STRETCH) == Layout(
        Size(512, 512), (0, 0), Size(512, 512), Size(512, 512), (0, 0), aspect_changed=False
    )
    assert of(ScaleType.CROP) == Layout(
        Size(910, 512), (199, 0), Size(512, 512), Size(512, 512), (0, 0), aspect_changed=False
    )
    assert of(ScaleType.FILL) == Layout(
        Size(512, 288), (0, 0), Size(512, 288), Size(512, 512), (0, 112), aspect_changed=False
    )
    assert of(ScaleType.FIT) == Layout(
        Size(512, 288), (0, 0), Size(512, 288), Size(512, 288), (0, 0), aspect_changed=False
    )


@given(source=sizes, target=sizes)
def test_crop_covers_the_target_and_fill_fits_into_it(source, target):
    def of(scale):
        return layout(source, Rendition(width=target.width, height=target.height, scale_type=scale), 2**60)

    crop, fill, fit = of(ScaleType.CROP), of(ScaleType.FILL), of(ScaleType.FIT)
    assert crop.visible == crop.canvas == fill.canvas == target
    for place in (crop, fill, fit):
        for along in ("width", "height"):
            axis = 0 if along == "width" else 1
            assert 0 <= place.crop[axis] <= getattr(place.scaled, along) - getattr(place.visible, along)
            assert 0 <= place.offset[axis] <= getattr(place.canvas, along) - getattr(place.visible, along)
    for place in (crop, fill):
        assert place.scaled.width == target.width or place.scaled.height == target.height
    assert fit.scaled == fit.canvas
    assert abs(fit.scaled.width - fill.scaled.width) <= 1
    assert abs(fit.scaled.height - fill.scaled.height) <= 1


@given(source=sizes, target=sizes, scale=st.sampled_from([ScaleType.CROP, ScaleType.FILL]))
def test_no_position_is_more_than_half_a_pixel_from_the_exact_mapping(source, target, scale):
    """The edges of what is seen, in the target: by the layout's whole numbers, and by the exact factor."""
    place = layout(source, Rendition(width=target.width, height=target.height, scale_type=scale), 2**60)
    ratios = Fraction(target.width, source.width), Fraction(target.height, source.height)
    factor = max(ratios) if scale is ScaleType.CROP else min(ratios)
    for axis, along in enumerate(("width", "height")):
        own, wanted, scaled = (getattr(size, along) for size in (source, target, place.scaled))
        if own * factor < 1:  # thinner than a pixel: there has to be one
            continue
        for edge in (0, wanted):
            exact = (edge - (wanted - own * factor) / 2) / factor  # in the source
            if 0 <= exact <= own:
                laid = exact * Fraction(scaled, own) - place.crop[axis] + place.offset[axis]
                assert abs(laid - edge) <= Fraction(1, 2)
        for exact in (0, own):
            laid = Fraction(exact * scaled, own) - place.crop[axis] + place.offset[axis]
            at = exact * factor + (wanted - own * factor) / 2
            if 0 <= at <= wanted:
                assert abs(laid - at) <= Fraction(1, 2)


def test_crop_of_an_extreme_shape_is_refused_with_the_reason():
    with pytest.raises(TaskError, match=r"4096x4096.*would scale this 4000x40 picture to 409600x4096") as caught:
        layout(Size(4000, 40), Rendition(width=4096, height=4096, scale_type=ScaleType.CROP))
    assert caught.value.code == Code.LIMIT_EXCEEDED


@pytest.mark.parametrize(
    ("coded", "aspect", "turn", "upright"),
    [
        (Size(720, 576), Fraction(64, 45), UPRIGHT, Size(1024, 576)),
        (Size(720, 480), Fraction(8, 9), UPRIGHT, Size(640, 480)),
        (Size(720, 480), Fraction(32, 27), UPRIGHT, Size(853, 480)),
        (Size(480, 272), Fraction(136, 135), Orientation(transposed=True), Size(272, 484)),
        (Size(1, 9), Fraction(1, 9), UPRIGHT, Size(1, 9)),
        (Size(64, 48), Fraction(0), UPRIGHT, Size(64, 48)),
    ],
)
def test_pixels_become_square_by_the_coded_width(coded, aspect, turn, upright):
    assert upright_size(coded, aspect, turn) == upright


def matrix(a, b, c, d):
    return (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 2**30)


@pytest.mark.parametrize(
    ("numbers", "turn"),
    [
        (matrix(1, 0, 0, 1), UPRIGHT),
        (matrix(0, 1, -1, 0), Orientation(transposed=True, flip_x=True)),  # 90 degrees clockwise
        (matrix(-1, 0, 0, -1), Orientation(flip_x=True, flip_y=True)),
        (matrix(0, -1, 1, 0), Orientation(transposed=True, flip_y=True)),
        (matrix(-1, 0, 0, 1), Orientation(flip_x=True)),
        (matrix(0, 1, 1, 0), Orientation(transposed=True)),
        ((60000, 20000, 0, -20000, 60000, 0, 0, 0, 2**30), UPRIGHT),  # 18 degrees
        (matrix(0, 0, 0, 0), UPRIGHT),
        (matrix(1, 0, 1, 0), UPRIGHT),
        ((-(2**31),) * 9, UPRIGHT),
        ((), UPRIGHT),
    ],
)
def test_display_matrices_and_nonsense(numbers, turn):
    assert orientation(numbers) == turn
