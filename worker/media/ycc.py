"""JPEG's own samples out of planar video: full-range BT.601 YCbCr with chroma in the middle of its pixels.

The short way, without RGB between, which keeps chroma as it was coded. Measured on 1080p footage (docs/decisions/0007):
half the time of the way through RGB. Knows nothing of times, orientation and image files.
"""

from typing import Final

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from worker.errors import Code, TaskError
from worker.media.colour import Matrix, Meaning
from worker.media.encode import Planes
from worker.media.filtering import filtered
from worker.media.geometry import Size
from worker.media.scaler import convert, plane

Samples = npt.NDArray[np.uint8]

FORMATS: Final = frozenset({"yuv420p", "yuvj420p"})
MIN_SIDE: Final = 32
_SPACES: Final = {
    Matrix.BT709: "bt709",
    Matrix.FCC: "fcc",
    Matrix.BT601: "smpte170m",
    Matrix.SMPTE240M: "smpte240m",
    Matrix.BT2020: "bt2020nc",
}


class YccConverter:
    """Converts frames, of which `takes` says yes. Keeps FFmpeg's tables between frames; not for several threads."""

    def __init__(self) -> None:
        self._scale = VideoReformatter()
        self._graph: Graph | None = None
        self._made_for: tuple[object, ...] = ()
        self._offset: tuple[float, float] | None = None

    @staticmethod
    def takes(frame: VideoFrame, means: Meaning) -> bool:
        """Tell whether a frame's samples can become JPEG's directly."""
        even = frame.width % 2 == 0 and frame.height % 2 == 0
        large = min(frame.width, frame.height) >= MIN_SIDE
        return frame.format.name in FORMATS and means.is_plain and even and large

    def planes(self, frame: VideoFrame, means: Meaning, size: Size) -> Planes:
        """Convert a frame, scaled to a size of even sides. Raises `UnsupportedMedia`."""
        if self._offset is None:
            self._offset = chroma_offset(frame, means)
        if size != Size(frame.width, frame.height):
            frame = convert(self._scale, frame, "yuv420p", means, size)
        if not (means.matrix is Matrix.BT601 and means.full_range):
            frame = self._as_jpeg(frame, means)
        y, cb, cr = (plane(frame, index, np.uint8) for index in range(3))
        return Planes(y, _centred(cb, self._offset), _centred(cr, self._offset))

    def _as_jpeg(self, frame: VideoFrame, means: Meaning) -> VideoFrame:
        """Change matrix and range, with FFmpeg's filter `colorspace`: it has SIMD for that, swscale goes by RGB."""
        kind = (frame.width, frame.height, frame.format.name, means)
        if self._graph is None or self._made_for != kind:
            self._graph, self._made_for = _colour_graph(frame, means), kind
        try:
            self._graph.vpush(frame)
            return self._graph.vpull()
        except av.FFmpegError as error:
            message = f"a frame of {frame.width}x{frame.height} in {frame.format.name} cannot be converted to JPEG's"
            raise TaskError(Code.UNSUPPORTED_MEDIA, f"{message} colours: {error.strerror}") from error


def _colour_graph(frame: VideoFrame, means: Meaning) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1:pixel_aspect=1/1"
    tags = f"colorspace={frame.colorspace}:range={frame.color_range}"
    same = "iprimaries=bt709:itrc=bt709:primaries=bt709:trc=bt709:format=yuv420p"
    change = f"ispace={_SPACES[means.matrix]}:irange={'pc' if means.full_range else 'tv'}:space=smpte170m:range=pc"
    steps = (graph.add("buffer", f"{source}:{tags}"), graph.add("colorspace", f"{same}:{change}"))
    graph.link_nodes(*steps, graph.add("buffersink")).configure()
    return graph


def chroma_offset(frame: VideoFrame, means: Meaning) -> tuple[float, float]:
    """Tell where a chroma sample lies in its two by two pixels: (x, y), from (0, 0) for top left to (0.5, 0.5).

    PyAV does not say what the frame's tag is. But swscale knows, so a spot of colour is drawn on a corner of the frame,
    and looked for where swscale puts it.
    """
    gray, spot = "x=0:y=0:w=32:h=32:color=gray:t=fill", "x=16:y=16:w=2:h=2:color=blue:t=fill"
    drawn = filtered(frame, ("crop", "32:32:0:0"), ("drawbox", gray), ("drawbox", spot))
    chroma = plane(convert(VideoReformatter(), drawn, "yuv444p", means), 1, np.uint8).astype(np.float64)
    weight = np.abs(chroma - chroma[0, 0])
    across, down = (float((weight.sum(axis) * np.arange(32)).sum() / weight.sum()) - 16 for axis in (0, 1))
    return round(across * 2) / 2, round(down * 2) / 2


def _centred(samples: Samples, offset: tuple[float, float]) -> Samples:
    """Move chroma from where it lies to the middle of its pixels, by a quarter of a sample where it is at an edge."""
    for axis, at in enumerate(reversed(offset)):
        if at < 0.5:
            wide = samples.astype(np.uint16)
            after = np.concatenate([np.delete(wide, 0, axis), np.take(wide, [-1], axis)], axis)
            samples = ((3 * wide + after + 2) >> 2).astype(np.uint8)
    return samples
