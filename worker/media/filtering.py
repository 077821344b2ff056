"""FFmpeg's filters on single frames. Knows nothing of what they are for."""

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from worker.errors import Code, TaskError


def filtered(frame: VideoFrame, *steps: tuple[str, str]) -> VideoFrame:
    """Run one frame through filters in turn: (name, arguments) each. Raises `UnsupportedMedia` where they refuse it."""
    graph = Graph()
    graph.threads = 1
    tags = f"colorspace={frame.colorspace}:range={frame.color_range}"
    size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
    try:
        source = graph.add("buffer", f"{size}:{tags}:time_base=1/1:pixel_aspect=1/1")
        graph.link_nodes(source, *(graph.add(*step) for step in steps), graph.add("buffersink")).configure()
        graph.push(frame)
        graph.push(None)  # some filters hold a frame back until they see the next or the end
        return graph.vpull()
    except av.FFmpegError as error:
        names = ", ".join(name for name, _ in steps)
        raise TaskError(
            Code.UNSUPPORTED_MEDIA,
            f"a frame of {frame.width}x{frame.height} in pixel format {frame.format.name} cannot be filtered "
            f"({names}): {error.strerror}",
        ) from error
