"""Files read back with Pillow."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from worker.errors import Code, TaskError
from worker.media.encode import encode
from worker.media.plan import Format


def gradient(width, height, channels=3):
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), np.full_like(x, 90), 255 - x % 256]
    return np.ascontiguousarray(np.stack(planes[:channels], -1).astype(np.uint8))


def opened(data):
    image = Image.open(BytesIO(data))
    image.load()
    return image


NAMES = {Format.JPG: "JPEG", Format.PNG: "PNG", Format.WEBP: "WEBP", Format.AVIF: "AVIF"}


@pytest.mark.parametrize("image_format", Format)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (121, 67)])
def test_formats_read_back_at_odd_sizes_without_metadata(image_format, size):
    pixels = gradient(*size)
    data = encode(pixels, image_format, 95)
    image = opened(data)
    assert (image.format, image.size, image.mode) == (NAMES[image_format], size, "RGB")
    assert not image.getexif()
    assert not {"exif", "comment", "icc_profile", "xmp", "XML:com.adobe.xmp"} & set(image.info)
    difference = np.asarray(image).astype(int) - pixels
    brightness = np.abs(difference @ [0.299, 0.587, 0.114])  # colours are at half resolution
    assert not difference.any() if image_format is Format.PNG else brightness.mean() < 6
    assert encode(pixels, image_format, 95) == data


@pytest.mark.parametrize("image_format", [Format.JPG, Format.WEBP, Format.AVIF])
def test_quality_counts(image_format):
    noise = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(encode(noise, image_format, 10)) < len(encode(noise, image_format, 90)) / 2


def test_jpeg_is_420():
    image = opened(encode(gradient(16, 16), Format.JPG, 90))
    assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize("image_format", [Format.PNG, Format.WEBP, Format.AVIF])
def test_transparency_is_kept(image_format):
    pixels = gradient(40, 30, 4)
    image = opened(encode(pixels, image_format, 100))
    assert image.mode == "RGBA"
    assert np.abs(np.asarray(image)[..., 3].astype(int) - pixels[..., 3]).max() <= 1


def test_jpeg_shows_transparency_over_black():
    pixels = np.full((16, 16, 4), (200, 100, 50, 128), np.uint8)
    pixel = np.asarray(opened(encode(pixels, Format.JPG, 100)))[8, 8].astype(int)
    assert np.abs(pixel - (100, 50, 25)).max() <= 2


@pytest.mark.parametrize(("image_format", "limit"), [(Format.WEBP, 16383), (Format.JPG, 65500), (Format.AVIF, 65536)])
def test_a_side_too_long_for_the_format_says_so(image_format, limit):
    with pytest.raises(TaskError, match=f"{limit + 1}x1 .*{image_format.value}.*{limit}") as caught:
        encode(np.zeros((1, limit + 1, 3), np.uint8), image_format, 90)
    assert caught.value.code == Code.LIMIT_EXCEEDED


@pytest.mark.parametrize(("image_format", "limit"), [(Format.WEBP, 16383), (Format.JPG, 65500)])
def test_the_longest_side_of_the_format_works(image_format, limit):
    assert opened(encode(np.zeros((1, limit, 3), np.uint8), image_format, 90)).size == (limit, 1)
