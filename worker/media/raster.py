"""Pixels: from a decoded frame to the picture that is encoded, and to the luma that is hashed.

Owns FFmpeg's scaler and deinterlacer. Knows nothing of times, selections and image files.
"""

import re
from fractions import Fraction
from typing import Final, TypeVar

import av
import numpy as np
import numpy.typing as npt
from av.buffer import Buffer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from worker.errors import Code, TaskError
from worker.media.colour import Matrix, Meaning, Tags, meaning, tone_map
from worker.media.fingerprint import Luma
from worker.media.geometry import UPRIGHT, Layout, Orientation, Size, layout, orientation, upright_size
from worker.media.plan import Format, Rendition

Pixels = npt.NDArray[np.uint8]
_Sample = TypeVar("_Sample", np.uint8, np.uint16)

# Bicubic widens its kernel when it shrinks, so it does not alias. Without the other flags colours are off by up to
# four levels, with them by half a level (one at full-range 10 and 12 bit).
_QUALITY: Final = int(
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
_JPEG: Final = Meaning(Matrix.BT601, full_range=True, hdr=None)

# Formats whose first plane is luma alone, least significant bits first.
_PLAIN_LUMA: Final = re.compile(r"yuv[aj]?4\d\dp(\d+le)?|nv\d\d|gray([1-9]\d*le)?")


class Renderer:
    """Makes the pictures of one entry. Keeps FFmpeg's scaling tables between frames; not for several threads.

    Frames may change size, format and tags from one to the next. `aspect_changed` tells whether one was distorted
    in a way that earns the warning `AspectRatioChanged`.
    """

    def __init__(self, rendition: Rendition) -> None:
        self._rendition = rendition
        self._convert = VideoReformatter()
        self._scale = VideoReformatter()
        self.aspect_changed = False

    def render(self, frame: VideoFrame, sample_aspect: Fraction) -> Pixels:
        """Give the upright picture, (h, w, 3) RGB, or (h, w, 4) RGBA where frame and image format have transparency.

        Raises `UnsupportedMedia` for pixel formats that FFmpeg cannot convert, `LimitExceeded` as `layout` does.
        """
        turn = _orientation(frame)
        place = layout(upright_size(Size(frame.width, frame.height), sample_aspect, turn), self._rendition)
        self.aspect_changed |= place.aspect_changed
        # Scaling before turning moves fewer pixels, and leaves chroma sited where the codec put it.
        size = place.scaled.turned() if turn.transposed else place.scaled
        return _placed(_turned(self._coded_picture(_progressive(frame), size), turn), place)

    def _coded_picture(self, frame: VideoFrame, size: Size) -> Pixels:
        """Colour conversion and scaling, in the orientation of the coded frame."""
        means = _meaning(frame)
        if _is_gray(frame) and not means.full_range:
            frame = _reformat(VideoReformatter(), frame, _yuv444(frame), means)
        if means.hdr:
            signal = _samples(_reformat(self._convert, frame, "rgb48le", means), np.uint16)
            return self._scaled(tone_map(signal, means.hdr, frame.color_primaries), "rgb24", size)
        if _has_alpha(frame):
            return self._transparent(frame, size, means)
        return _samples(_reformat(self._convert, frame, "rgb24", means, size), np.uint8)

    def _transparent(self, frame: VideoFrame, size: Size, means: Meaning) -> Pixels:
        """Scale with colours weighted by their opacity, so that what is invisible does not bleed into what is not."""
        opaque = self._rendition.format is Format.JPG
        if not opaque and size == Size(frame.width, frame.height):
            return _samples(_reformat(self._convert, frame, "rgba", means), np.uint8)
        wide = _samples(_reformat(self._convert, frame, "rgba64le", means), np.uint16).astype(np.uint32)
        wide[..., :3] = (wide[..., :3] * wide[..., 3:] + 32767) // 65535
        scaled = self._scaled(wide.astype(np.uint16), "rgba64le", size).astype(np.uint32)
        if not opaque:
            alpha = np.maximum(scaled[..., 3:], 1)
            # Bicubic overshoots, so colours may exceed their opacity a little.
            scaled[..., :3] = np.minimum(scaled[..., :3], alpha) * np.uint32(65535) // alpha
        return ((scaled[..., : 3 if opaque else 4] + 128) // 257).astype(np.uint8)

    def _scaled(self, pixels: npt.NDArray[_Sample], name: str, size: Size) -> npt.NDArray[_Sample]:
        if size == Size(pixels.shape[1], pixels.shape[0]):
            return pixels
        frame = VideoFrame.from_numpy_buffer(pixels, format=name)
        return _samples(_reformat(self._scale, frame, name, _meaning(frame), size), pixels.dtype.type)


def luma(frame: VideoFrame) -> tuple[Luma, int]:
    """Give the luma plane as decoded, (h, w), and its depth in bits.

    Planar YUV and gray are a view that keeps the frame alive; other layouts are unpacked without a change of value.
    RGB gets full-range BT.601 luma of 8 bits. Raises `UnsupportedMedia` for what FFmpeg cannot convert.
    """
    kind = frame.format
    if kind.is_rgb or kind.has_palette:
        frame = _reformat(VideoReformatter(), frame, "yuv444p", _JPEG)
    elif not _PLAIN_LUMA.fullmatch(kind.name):
        frame = _reformat(VideoReformatter(), frame, _yuv444(frame), _meaning(frame))
    plane, depth = frame.planes[0], frame.format.components[0].bits
    sample = np.dtype(np.uint8 if depth == 8 else "<u2")
    rows = np.ndarray(
        (frame.height, frame.width), sample, memoryview(plane), strides=(abs(plane.line_size), sample.itemsize)
    )
    # PyAV hands a picture that is stored bottom up over from its lowest address.
    return rows[:: -1 if plane.line_size < 0 else 1], depth


def _reformat(
    scaler: VideoReformatter, frame: VideoFrame, name: str, means: Meaning, size: Size | None = None
) -> VideoFrame:
    """Convert to another pixel format, full range for RGB and otherwise unchanged, and scale in the same pass."""
    # swscale takes gray for full range whatever it is told; calling YUV made of it full as well keeps the values.
    own_range = ColorRange.JPEG if means.full_range or _is_gray(frame) else ColorRange.MPEG
    try:
        return scaler.reformat(
            frame,
            width=size.width if size else None,
            height=size.height if size else None,
            format=name,
            src_colorspace=int(means.matrix),
            dst_colorspace=int(means.matrix),
            interpolation=_QUALITY,
            src_color_range=own_range,
            dst_color_range=ColorRange.JPEG if name.startswith("rgb") else own_range,
            threads=1,
        )
    except av.FFmpegError as error:
        raise TaskError(
            Code.UNSUPPORTED_MEDIA,
            f"a frame of {frame.width}x{frame.height} in pixel format {frame.format.name} cannot be converted to "
            f"{name}: {error.strerror}",
        ) from error


def _samples(frame: VideoFrame, kind: type[_Sample]) -> npt.NDArray[_Sample]:
    """View a packed RGB frame as (h, w, channels); the frame lives as long as the view."""
    plane, channels = frame.planes[0], len(frame.format.components)
    strides = (plane.line_size, channels * np.dtype(kind).itemsize, np.dtype(kind).itemsize)
    return np.ndarray((frame.height, frame.width, channels), kind, memoryview(plane), strides=strides)


def _meaning(frame: VideoFrame) -> Meaning:
    tags = Tags(frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries)
    kind = frame.format
    rgb = kind.is_rgb or kind.has_palette
    return meaning(tags, kind.name, rgb=rgb, width=frame.width, height=frame.height)


def _is_gray(frame: VideoFrame) -> bool:
    return frame.format.name.startswith(("gray", "ya"))


def _yuv444(frame: VideoFrame) -> str:
    """Name the planar format that takes a frame's samples unchanged."""
    bits = frame.format.components[0].bits
    return ("yuva444p" if _has_alpha(frame) else "yuv444p") + (f"{bits}le" if bits > 8 else "")


def _has_alpha(frame: VideoFrame) -> bool:
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def _progressive(frame: VideoFrame) -> VideoFrame:
    """Replace the second field of an interlaced frame by lines made of the first.

    `w3fdif`, since of a lone frame yadif keeps half of the combing and bwdif all of it; `estdif` is hardly better and
    takes 150 ms for 1080i instead of 3.
    """
    if not frame.interlaced_frame:
        return frame
    graph = Graph()
    graph.threads = 1
    tags = f"colorspace={frame.colorspace}:range={frame.color_range}"
    size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
    source = graph.add("buffer", f"{size}:{tags}:time_base=1/1:pixel_aspect=1/1")
    graph.link_nodes(source, graph.add("w3fdif", "mode=frame:deint=interlaced"), graph.add("buffersink")).configure()
    graph.push(frame)
    graph.push(None)  # the filter holds a frame back until it sees the next or the end
    return graph.vpull()


def _orientation(frame: VideoFrame) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return orientation(np.frombuffer(memoryview(matrix), np.int32).tolist()) if isinstance(matrix, Buffer) else UPRIGHT


def _turned(pixels: Pixels, turn: Orientation) -> Pixels:
    """Turn upright, as a view."""
    if turn.transposed:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if turn.flip_y else 1, :: -1 if turn.flip_x else 1]


def _placed(pixels: Pixels, place: Layout) -> Pixels:
    """Cut and border as laid out; contiguous, and a copy only where it has to be."""
    x, y = place.crop
    part = pixels[y : y + place.visible.height, x : x + place.visible.width]
    if place.canvas == place.visible:
        return np.ascontiguousarray(part)
    canvas = np.zeros((place.canvas.height, place.canvas.width, part.shape[2]), np.uint8)
    canvas[..., 3:] = 255
    x, y = place.offset
    canvas[y : y + place.visible.height, x : x + place.visible.width] = part
    return canvas
