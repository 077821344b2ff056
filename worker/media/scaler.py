"""FFmpeg's scaler, told exactly what a frame's numbers mean; frames as numpy arrays, without a copy.

Knows nothing of what pictures are for, nor of their orientation.
"""

import re
from typing import Final, TypeVar

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from worker.errors import Code, TaskError
from worker.media.colour import Matrix, Meaning, Tags, meaning
from worker.media.fingerprint import Luma
from worker.media.geometry import Size

Sample = TypeVar("Sample", np.uint8, np.uint16)

# Bicubic widens its kernel when it shrinks, so it does not alias. Without the other flags colours are off by up to
# four levels, with them by half a level (one at full-range 10 and 12 bit).
_QUALITY: Final = int(
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
_JPEG: Final = Meaning(Matrix.BT601, full_range=True)

# Formats whose first plane is luma alone, least significant bits first.
_PLAIN_LUMA: Final = re.compile(r"yuv[aj]?4\d\dp(\d+le)?|nv\d\d|gray([1-9]\d*le)?")


def convert(
    scaler: VideoReformatter, frame: VideoFrame, name: str, means: Meaning, size: Size | None = None
) -> VideoFrame:
    """Convert to another pixel format, full range for RGB and otherwise unchanged, and scale in the same pass.

    `scaler` keeps FFmpeg's tables between frames; not for several threads. Raises `UnsupportedMedia`.
    """
    # swscale takes gray for full range whatever it is told; calling YUV made of it full as well keeps the values.
    own_range = ColorRange.JPEG if means.full_range or is_gray(frame) else ColorRange.MPEG
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
            dst_color_range=ColorRange.JPEG if name.startswith(("rgb", "gbr")) else own_range,
            threads=1,
        )
    except av.FFmpegError as error:
        raise TaskError(
            Code.UNSUPPORTED_MEDIA,
            f"a frame of {frame.width}x{frame.height} in pixel format {frame.format.name} cannot be converted to "
            f"{name}: {error.strerror}",
        ) from error


def with_whole_bytes(frame: VideoFrame) -> VideoFrame:
    """Make RGB of five or six bits a channel, as old MOV and AVI files have, RGB of eight; others stay as they are."""
    name = frame.format.name
    if not frame.format.is_rgb or frame.format.components[0].bits >= 8:
        return frame
    # FFmpeg 8.1 takes the bytes of big-endian words in the wrong order, and when it scales white becomes 248.
    if name.endswith("be"):
        frame = convert(VideoReformatter(), frame, name.removesuffix("be") + "le", frame_meaning(frame))
    return convert(VideoReformatter(), frame, "rgb24", frame_meaning(frame))


def frame_meaning(frame: VideoFrame) -> Meaning:
    """Tell how to read a frame's samples. Raises `UnsupportedMedia` as `meaning` does."""
    tags = Tags(frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries)
    kind = frame.format
    rgb = kind.is_rgb or kind.has_palette
    return meaning(tags, kind.name, rgb=rgb, width=frame.width, height=frame.height)


def packed(frame: VideoFrame, kind: type[Sample]) -> npt.NDArray[Sample]:
    """View a packed RGB frame as (h, w, channels); the frame lives as long as the view."""
    item = np.dtype(kind).itemsize
    channels = len(frame.format.components)
    strides = (frame.planes[0].line_size, channels * item, item)
    return np.ndarray((frame.height, frame.width, channels), kind, memoryview(frame.planes[0]), strides=strides)


def plane(frame: VideoFrame, index: int, kind: type[Sample]) -> npt.NDArray[Sample]:
    """View a plane of single samples as (h, w); the frame lives as long as the view."""
    source = frame.planes[index]
    strides = (abs(source.line_size), np.dtype(kind).itemsize)
    rows = np.ndarray((source.height, source.width), kind, memoryview(source), strides=strides)
    # PyAV hands a picture that is stored bottom up over from its lowest address.
    return rows[:: -1 if source.line_size < 0 else 1]


def is_gray(frame: VideoFrame) -> bool:
    """Tell whether a frame has no colours."""
    return frame.format.name.startswith(("gray", "ya"))


def has_alpha(frame: VideoFrame) -> bool:
    """Tell whether a frame may have transparent pixels."""
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def planar_yuv(frame: VideoFrame) -> str:
    """Name the planar format that takes a YUV or gray frame's samples unchanged."""
    bits = frame.format.components[0].bits
    return ("yuva444p" if has_alpha(frame) else "yuv444p") + (f"{bits}le" if bits > 8 else "")


def luma(frame: VideoFrame) -> tuple[Luma, int]:
    """Give the luma plane as decoded, (h, w), and its depth in bits.

    Planar YUV and gray are a view that keeps the frame alive; other layouts are unpacked without a change of value.
    RGB gets full-range BT.601 luma of 8 bits. Raises `UnsupportedMedia` for what FFmpeg cannot convert.
    """
    frame = with_whole_bytes(frame)
    kind = frame.format
    if kind.is_rgb or kind.has_palette:
        frame = convert(VideoReformatter(), frame, "yuv444p", _JPEG)
    elif not _PLAIN_LUMA.fullmatch(kind.name):
        frame = convert(VideoReformatter(), frame, planar_yuv(frame), _JPEG)
    depth = frame.format.components[0].bits
    return (plane(frame, 0, np.uint8) if depth == 8 else plane(frame, 0, np.uint16)), depth
