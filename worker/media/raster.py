"""Pixels: from a decoded frame to the picture that is encoded. Knows nothing of times, selections and image files."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from worker.media.colour import Meaning
from worker.media.deinterlace import progressive
from worker.media.encode import INACCURATE, Picture, Planes
from worker.media.filtering import filtered
from worker.media.geometry import NO_MARGINS, Layout, Margins, Orientation, Size, layout, upright_size
from worker.media.plan import Format, Rendition
from worker.media.scaler import (
    Sample,
    convert,
    frame_meaning,
    has_alpha,
    is_gray,
    packed,
    planar_yuv,
    plane,
    with_whole_bytes,
)
from worker.media.tone import to_sdr
from worker.media.upright import frame_orientation, turned
from worker.media.ycc import YccConverter

Pixels = npt.NDArray[np.uint8]

DISTORTED = "Width or Height alone was given with stretch: the picture is distorted"
"""What the warning `AspectRatioChanged` says."""


class Renderer:
    """Makes the pictures of one entry. Keeps FFmpeg's scaling tables between frames; not for several threads.

    Frames may change size, format and tags from one to the next. `aspect_changed` tells whether one was distorted
    in a way that earns the warning `AspectRatioChanged`.
    """

    def __init__(self, rendition: Rendition) -> None:
        self._rendition = rendition
        self._keeps_planes = rendition.format is Format.JPG and rendition.quality not in INACCURATE
        self._convert = VideoReformatter()
        self._scale = VideoReformatter()
        self._ycc = YccConverter()
        self.aspect_changed = False

    def render(self, frame: VideoFrame, sample_aspect: Fraction, margins: Margins = NO_MARGINS) -> Picture:
        """Give the upright picture, (h, w, 3) RGB, or (h, w, 4) RGBA where frame and image format have transparency.

        For JPEG, video that is coded alike keeps its planes.

        `margins` are cut as the `ffmpeg` command does: before turning and scaling, and only whole pixels of chroma.
        Raises `UnsupportedMedia` for colours and pixel formats that cannot be converted, `LimitExceeded` as `layout`.
        """
        turn = frame_orientation(frame)
        means = frame_meaning(frame)
        # Fields first: an odd margin at the top would exchange them.
        frame = _without(progressive(frame), margins)
        place = layout(upright_size(Size(frame.width, frame.height), sample_aspect, turn), self._rendition)
        self.aspect_changed |= place.aspect_changed
        # Scaling before turning moves fewer pixels, and leaves chroma sited where the codec put it.
        size = place.scaled.turned() if turn.transposed else place.scaled
        if self._keeps_planes and _is_even(place) and self._ycc.takes(frame, means):
            return _placed_planes(self._ycc.planes(frame, means, size), turn, place)
        return _placed(turned(self._coded_picture(frame, means, size), turn), place)

    def _coded_picture(self, frame: VideoFrame, means: Meaning, size: Size) -> Pixels:
        """Colour conversion and scaling, in the orientation of the coded frame."""
        frame = with_whole_bytes(frame)
        if is_gray(frame) and not means.full_range:
            frame = convert(VideoReformatter(), frame, planar_yuv(frame), means)
        if has_alpha(frame):
            return self._transparent(frame, size, means)
        if not means.is_plain:
            deep = convert(self._convert, frame, "gbrp16le", means)
            green, blue, red = (plane(deep, index, np.uint16) for index in range(3))
            return self._scaled(to_sdr(red, green, blue, means.hdr, means.primaries), "rgb24", size)
        if frame.format.is_rgb:
            return packed(convert(self._convert, frame, "rgb24", means, size), np.uint8)
        # The same values three times as fast: FFmpeg has SIMD for YUV to planar RGB, and none for YUV to packed.
        planar = convert(self._convert, frame, "gbrp", means, size)
        return packed(convert(self._scale, planar, "rgb24", frame_meaning(planar)), np.uint8)

    def _transparent(self, frame: VideoFrame, size: Size, means: Meaning) -> Pixels:
        """Scale with colours weighted by their opacity, so that what is invisible does not bleed into what is not."""
        opaque = self._rendition.format is Format.JPG
        if means.is_plain and not opaque and size == Size(frame.width, frame.height):
            return packed(convert(self._convert, frame, "rgba", means), np.uint8)
        wide = packed(convert(self._convert, frame, "rgba64le", means), np.uint16).astype(np.uint32)
        if not means.is_plain:
            red, green, blue = (wide[..., channel].astype(np.uint16) for channel in range(3))
            wide[..., :3] = to_sdr(red, green, blue, means.hdr, means.primaries).astype(np.uint32) * 257
        wide[..., :3] = (wide[..., :3] * wide[..., 3:] + 32767) // 65535
        scaled = self._scaled(wide.astype(np.uint16), "rgba64le", size).astype(np.uint32)
        if not opaque:
            alpha = np.maximum(scaled[..., 3:], 1)
            # Bicubic overshoots, so colours may exceed their opacity a little.
            scaled[..., :3] = np.minimum(scaled[..., :3], alpha) * np.uint32(65535) // alpha
        return ((scaled[..., : 3 if opaque else 4] + 128) // 257).astype(np.uint8)

    def _scaled(self, pixels: npt.NDArray[Sample], name: str, size: Size) -> npt.NDArray[Sample]:
        if size == Size(pixels.shape[1], pixels.shape[0]):
            return pixels
        frame = VideoFrame.from_numpy_buffer(pixels, format=name)
        return packed(convert(self._scale, frame, name, frame_meaning(frame), size), pixels.dtype.type)


def _without(frame: VideoFrame, margins: Margins) -> VideoFrame:
    """Cut margins, where they leave anything: a frame may be smaller than the container says."""
    if not margins.fit(Size(frame.width, frame.height)):
        return frame
    width, height = frame.width - margins.left - margins.right, frame.height - margins.top - margins.bottom
    return filtered(frame, ("crop", f"{width}:{height}:{margins.left}:{margins.top}"))


def _is_even(place: Layout) -> bool:
    """Tell whether all sides and positions are even, so that chroma at half the resolution can be cut as well."""
    sides = [side for size in (place.scaled, place.visible, place.canvas) for side in (size.width, size.height)]
    return all(number % 2 == 0 for number in (*sides, *place.crop, *place.offset))


def _placed_planes(planes: Planes, turn: Orientation, place: Layout) -> Planes:
    half = place.halved()
    return Planes(
        _placed(turned(planes.y[..., None], turn), place)[..., 0],
        _placed(turned(planes.cb[..., None], turn), half, 128)[..., 0],
        _placed(turned(planes.cr[..., None], turn), half, 128)[..., 0],
    )


def _placed(pixels: Pixels, place: Layout, border: int = 0) -> Pixels:
    """Cut and border as laid out; contiguous, and a copy only where it has to be."""
    x, y = place.crop
    part = pixels[y : y + place.visible.height, x : x + place.visible.width]
    if place.canvas == place.visible:
        return np.ascontiguousarray(part)
    canvas = np.full((place.canvas.height, place.canvas.width, part.shape[2]), border, np.uint8)
    canvas[..., 3:] = 255
    x, y = place.offset
    canvas[y : y + place.visible.height, x : x + place.visible.width] = part
    return canvas
