"""Small videos of all kinds for property tests, drawn by hypothesis and made with the encoders inside PyAV."""

import contextlib
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType
from hypothesis import strategies as st

FAST = {
    "libx264": {"preset": "veryfast"},
    "libx265": {"preset": "ultrafast"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}
REORDERING = {"libx264", "libx265", "mpeg4", "mpeg2video", "mpeg1video"}
CONTAINERS = {
    "libx264": ["mp4", "mov", "mkv", "ts", "flv", "fmp4", "avi", "h264"],
    "libx265": ["mp4", "mkv", "ts", "fmp4"],
    "mpeg4": ["mp4", "mkv", "avi", "mov"],
    "mpeg2video": ["ts", "mpg", "mp4", "vob"],
    "mpeg1video": ["mpg"],
    "libvpx": ["webm", "mkv", "ivf"],
    "libvpx-vp9": ["webm", "mp4", "mkv"],
    "libsvtav1": ["mp4", "mkv"],
    "mjpeg": ["avi", "mov", "mkv"],
    "ffv1": ["mkv"],
    "prores_ks": ["mov"],
    "flv": ["flv"],
    "wmv2": ["asf"],
    "msmpeg4v2": ["avi"],
    "gif": ["gif"],
    "huffyuv": ["avi"],
    "rv20": ["rm"],
    "h263": ["3gp"],
}
PIXELS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le", "gif": "rgb8", "huffyuv": "yuv422p"}
CONSTANT_RATE = {"avi", "mpg", "vob", "h264", "rm", "gif", "ivf", "3gp"}
FIXED_RATES = {"mpeg2video", "mpeg1video"}


@dataclass(frozen=True)
class Stream:
    """A recipe. `steps` are the frames' durations in units of `time_base`; `static` the frames that repeat the last;

    before `plain` frames none is a B-frame.
    """

    codec: str
    container: str
    gop: int
    bframes: int
    options: tuple[tuple[str, str], ...]
    time_base: Fraction
    rate: Fraction
    steps: tuple[int, ...]
    start: int
    static: int
    size: tuple[int, int]
    interlaced: bool
    plain: int = 0

    @property
    def suffix(self):
        return "mp4" if self.container == "fmp4" else self.container


WEIGHED = (*CONTAINERS, *["libx264"] * 6, *["libx265"] * 3)
"""Most of what people upload, and most of what can go wrong, is H.264 and HEVC."""


@st.composite
def streams(draw, codecs=WEIGHED):
    codec = draw(st.sampled_from(codecs))
    container = draw(st.sampled_from(CONTAINERS[codec]))
    gop = draw(st.sampled_from([1, 2, 5, 12, 25, 300]))
    bframes = draw(st.integers(0, 3)) if codec in REORDERING else 0
    if codec in {"mpeg4", "mpeg2video", "mpeg1video"}:
        bframes = min(bframes, 2)
    interlaced = codec in {"libx264", "mpeg2video"} and draw(st.integers(0, 4)) == 0
    options = draw(encoder_options(codec, gop, bframes, interlaced))
    rate = draw(st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(24), Fraction(50), Fraction(10)]))
    if codec in FIXED_RATES and rate == 10:
        rate = Fraction(25)
    count = draw(st.integers(1, 60))
    variable = container not in CONSTANT_RATE and codec not in FIXED_RATES and draw(st.booleans())
    if variable:
        time_base = Fraction(1, draw(st.sampled_from([1000, 600] if codec == "mpeg4" else [1000, 90000, 600])))
        unit = max(int(Fraction(1, 100) / time_base), 1)
        steps = draw(st.lists(st.integers(unit, unit * 30), min_size=count, max_size=count))
    else:
        time_base, steps = 1 / rate, [1] * count
    start = 0
    if container not in CONSTANT_RATE and draw(st.booleans()):
        start_s = draw(st.sampled_from([Fraction(1), Fraction(5, 2), Fraction(95443), Fraction(36000)]))
        start = int(start_s / time_base)
    size = draw(st.sampled_from([(64, 48), (66, 50), (32, 64), (176, 144)])) if codec != "h263" else (176, 144)
    if codec in {"libsvtav1", "rv20"}:  # which want at least 64x64, and multiples of 4
        size = (96, 64)
    return Stream(
        codec, container, gop, bframes, tuple(options.items()), time_base, rate, tuple(steps), start,
        draw(st.integers(0, 20)), size, interlaced,
    )  # fmt: skip


@st.composite
def encoder_options(draw, codec, gop, bframes, interlaced):
    options = dict(FAST.get(codec, {}))
    if codec == "libx264":
        parts = [f"keyint={gop}", f"bframes={bframes}", "threads=1", "lookahead-threads=1"]
        parts.append(f"open-gop={draw(st.integers(0, 1))}")
        parts.append(f"b-pyramid={draw(st.sampled_from(['none', 'normal', 'strict']))}")
        parts.append(f"ref={draw(st.integers(1, 4))}")
        parts.append(f"scenecut={draw(st.sampled_from([0, 40]))}")
        parts.append(f"b-adapt={draw(st.integers(0, 1))}")
        parts.append(f"slices={draw(st.sampled_from([1, 3]))}")
        if draw(st.integers(0, 5)) == 0:
            parts += ["intra-refresh=1"]
        if interlaced:
            parts.append(draw(st.sampled_from(["tff=1", "bff=1", "fake-interlaced=1"])))
        options["x264-params"] = ":".join(parts)
    elif codec == "libx265":
        parts = [f"keyint={gop}", f"bframes={bframes}", "pools=none", "frame-threads=1", "log-level=none"]
        parts.append(f"open-gop={draw(st.integers(0, 1))}")
        parts.append(f"b-pyramid={draw(st.integers(0, 1))}")
        parts.append(f"temporal-layers={draw(st.integers(0, 1))}" if bframes else "ref=3")
        parts.append(f"scenecut={draw(st.sampled_from([0, 40]))}")
        parts.append("min-keyint=1")
        options["x265-params"] = ":".join(parts)
    elif codec in {"libvpx", "libvpx-vp9"}:
        options["auto-alt-ref"] = str(draw(st.integers(0, 1)))
        options["lag-in-frames"] = str(draw(st.sampled_from([0, 8])))
        if options["lag-in-frames"] == "8":
            options["deadline"] = "good"
    elif codec == "mpeg2video" and interlaced:
        options["flags"] = "+ildct+ilme"
    elif codec == "mpeg2video" and draw(st.booleans()):
        options |= {"flags": "+cgop", "sc_threshold": "1000000000"}
    return options


def make(stream: Stream, folder: Path) -> Path:
    """Encode and write a stream."""
    path = folder / f"video.{stream.suffix}"
    muxer = {"fflags": "+bitexact"}
    if stream.container == "fmp4":
        muxer["movflags"] = "frag_keyframe+empty_moov+default_base_moof"
    if stream.suffix == "ts":
        muxer["muxdelay"] = "0"
    with quiet(), at_its_priority(), av.open(str(path), "w", options=muxer) as container:
        video = container.add_stream(stream.codec, rate=stream.rate, options=dict(stream.options))
        video.width, video.height = stream.size
        video.pix_fmt = PIXELS.get(stream.codec, "yuv420p")
        context = video.codec_context
        context.time_base, context.gop_size, context.max_b_frames = stream.time_base, stream.gop, stream.bframes
        context.thread_count = 1
        pts = stream.start
        for number, (picture, step) in enumerate(zip(pictures(stream), stream.steps, strict=True)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=video.pix_fmt)
            frame.pts, frame.time_base, frame.duration = pts, stream.time_base, step
            pts += step
            if 0 < number < stream.plain:
                frame.pict_type = PictureType.P
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def pictures(stream):
    """Moving shapes over noise, each picture different from the others, but for a still stretch at the start."""
    width, height = stream.size
    random = np.random.default_rng(7)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    noise = random.integers(0, 40, (height, width))
    for number in range(len(stream.steps)):
        n = max(number - stream.static, 0)
        waves = 100 + 60 * np.sin((x + 5 * n) / 9) + 40 * np.cos((y - 3 * n) / 7)
        picture = np.stack([waves + np.roll(noise, 3 * n, 1), waves * ((n // 15) % 3) / 2, 255 - waves], axis=2)
        left, top = (7 * n) % (width - 8), (5 * n) % (height - 8)
        picture[top : top + 8, left : left + 8] = (n * 37 % 256, 255, n * 91 % 256)
        yield np.clip(picture, 0, 255).astype(np.uint8)


@contextlib.contextmanager
def at_its_priority():
    """Take back the real-time priority that SVT-AV1 gives to root's threads: they, and what they start, starve all."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


@contextlib.contextmanager
def quiet():
    """Silence what encoders print to standard error past Python."""
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
