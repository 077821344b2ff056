"""Image files from pixels. The only module that knows image libraries; knows nothing of frames, times and sizes wanted.

The same pixels and arguments give the same bytes. No metadata is written.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import AvifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL import Image as PillowImage

from worker.errors import Code, TaskError
from worker.media.plan import Format

Pixels = npt.NDArray[np.uint8]

# Pillow would import these with the first image, but in a decoder's sandbox nothing can be imported any more.
PLUGINS: Final = (AvifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
PillowImage.preinit()

# What the formats' headers can say; AVIF's is that of the AV1 sequence header.
MAX_SIDE: Final = {Format.JPG: 65_500, Format.PNG: 2**31 - 1, Format.WEBP: 16_383, Format.AVIF: 65_536}

INACCURATE: Final = range(91, 96)
"""Qualities at which the encoder of planes loses up to 1 dB: below 96 it takes libjpeg-turbo's fast transform."""


@dataclass(frozen=True, slots=True)
class Planes:
    """A picture as JPEG stores it: full-range BT.601 luma, (h, w), and chroma, (h/2, w/2), in the middle of its pixels.

    The sides are even.
    """

    y: Pixels
    cb: Pixels
    cr: Pixels


Picture = Pixels | Planes


def size_of(picture: Picture) -> tuple[int, int]:
    """Tell width and height in pixels."""
    height, width = (picture.y if isinstance(picture, Planes) else picture).shape[:2]
    return width, height


def encode(pixels: Picture, image_format: Format, quality: int) -> bytes:
    """Encode (h, w, 3) RGB or (h, w, 4) RGBA, contiguous, or for JPEG its own planes.

    `quality` is 1..100 for all but PNG, which is lossless. JPEG shows transparent pixels over black. Raises
    `LimitExceeded` for a side that the format cannot express.
    """
    width, height = size_of(pixels)
    if max(width, height) > MAX_SIDE[image_format]:
        raise TaskError(
            Code.LIMIT_EXCEEDED,
            f"a picture of {width}x{height} is too large for {image_format.value}, whose sides are at most "
            f"{MAX_SIDE[image_format]} pixels: set Width and Height, or choose png",
        )
    if isinstance(pixels, Planes):
        planes = (np.ascontiguousarray(each) for each in (pixels.y, pixels.cb, pixels.cr))
        return bytes(simplejpeg.encode_jpeg_yuv_planes(*planes, quality, fastdct=False))
    if image_format is Format.JPG and pixels.shape[2] == 4:
        pixels = _over_black(pixels)
    mode = "RGBA" if pixels.shape[2] == 4 else "RGB"
    image = PillowImage.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)
    out = BytesIO()
    match image_format:
        case Format.JPG:
            image.save(out, "JPEG", quality=quality, subsampling="4:2:0")
        case Format.PNG:
            # 1080p footage, level 1 / 6 (the default): 59 / 171 ms, 507 / 403 KB.
            image.save(out, "PNG", compress_level=1)
        case Format.WEBP:
            # The same frame, method 2 / 4 (the default): 69 / 139 ms, 53 / 51 KB.
            image.save(out, "WEBP", quality=quality, method=2)
        case Format.AVIF:
            # The same frame, speed 8 / 6 (the default): 350 / 1,015 ms, 73 / 65 KB; the threads would not be ours.
            image.save(out, "AVIF", quality=quality, subsampling="4:2:0", speed=8, max_threads=1)
    return out.getvalue()


def _over_black(pixels: Pixels) -> Pixels:
    weighted = pixels[..., :3].astype(np.uint16) * pixels[..., 3:]
    return np.ascontiguousarray(((weighted + 127) // 255).astype(np.uint8))
