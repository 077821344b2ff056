"""Pictures through the whole capture: files made with the bundled encoders, captured, and read back with Pillow."""

import shutil
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph
from PIL import Image as PillowImage

from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, EntryReport, Format, Image, Rendition, Report, Selection

MEDIA = Path(__file__).parents[1].parent / "shared" / "media"
FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(
    FFMPEG is None, reason="there is no ffmpeg command (scripts/setup ffmpeg installs it)"
)
real_files = pytest.mark.skipif(not MEDIA.is_dir(), reason=f"the shared media are not at {MEDIA}")


def frame_of(name, *planes, **tags):
    """A frame with these planes; a plane is an array of samples, interleaved ones with a last axis."""
    height, width = planes[0].shape[:2]
    frame = av.VideoFrame(width, height, name)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        data = np.ascontiguousarray(samples).reshape(samples.shape[0], -1)
        data = data.view(np.uint8)
        rows[:, : data.shape[1]] = data
        plane.update(rows.tobytes())
    for tag, value in tags.items():
        setattr(frame, tag, value)
    return frame


def gray_frame(samples, **tags):
    """A frame with this luma, full range, and no colour."""
    height, width = samples.shape
    chroma = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    return frame_of("yuv420p", samples.astype(np.uint8), chroma, chroma, color_range=2, **tags)


def with_fields(frame, order):
    """Flag a frame as interlaced: `tff` or `bff`, the top or the bottom field first."""
    graph = Graph()
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1:pixel_aspect=1/1"
        f":colorspace={frame.colorspace}:range={frame.color_range}",
    )
    graph.link_nodes(source, graph.add("setfield", order), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.vpull()


def video(codec, frames, *, container="mkv", options=None, aspect=None, **tags):
    """Encode frames of one size and format, 25 a second. `tags` go to the encoder as well: `colorspace` and so on."""
    file = BytesIO()
    with av.open(file, "w", format={"mkv": "matroska", "ts": "mpegts"}.get(container, container)) as output:
        stream = output.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        for tag, value in tags.items():
            setattr(stream.codec_context, tag, value)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    return file


def capture_all(source, number=1, interval_s=Fraction(0), start_s=Fraction(0), **rendition):
    """Capture; give the images and the entry's report. `source` is a file or its name among the shared media."""
    rendition = {"format": Format.PNG} | rendition
    selection = Selection(start_s=start_s, interval_s=interval_s, number=number)
    plan = CapturePlan((EntryPlan(selection, Rendition(**rendition)),))
    data = (MEDIA / source).read_bytes() if isinstance(source, str) else source.getvalue()
    events = list(capture(BytesIO(data), plan))
    assert isinstance(events[-1], Report)
    report = events[-1].entries[0]
    assert isinstance(report, EntryReport)
    return [event for event in events if isinstance(event, Image)], report


def shown(image):
    """Read an image file as any viewer does: (h, w, channels)."""
    return np.asarray(PillowImage.open(BytesIO(image.data)))


def picture(source, **rendition):
    """Capture the first frame and read its image back."""
    images, report = capture_all(source, **rendition)
    assert report.error_code == ""
    return shown(images[0])
