"""Makes test and demo media with the encoders inside PyAV: nothing to install, the same bytes for the same call.

Says of each file what it holds, so that a test knows what to expect without asking a decoder. What a frame looks
like and how its number is read belongs to `devkit.counter`.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from PIL import Image, ImageDraw

from devkit.counter import Plane, draw_number, draw_scene, scene_dhash, score

# Neighbours differ in two rows or more of the eight, so in 25 % or more of the bits, by various amounts.
SCENE_PATTERNS = (0b00001111, 0b11110000, 0b11000000, 0b00111111, 0b01010101, 0b01011010, 0b10100101, 0b10101111)
SAMPLE_RATE = 48_000


@dataclass(frozen=True, slots=True)
class Scene:
    """Frames from number `start` on, up to the next scene, with a background of `devkit.counter`'s `pattern`."""

    start: int
    pattern: int


@dataclass(frozen=True, slots=True)
class CounterVideo:
    """What a video made by `counter_video` holds. Frame k carries number k; times are exact seconds as asked for.

    Matroska rounds them to milliseconds; MPEG-TS starts later where there are B-frames. `keyframes` are the numbers
    of the frames that can be decoded on their own.
    """

    path: Path
    width: int
    height: int
    times_s: tuple[Fraction, ...]
    end_s: Fraction
    keyframes: tuple[int, ...]
    scenes: tuple[Scene, ...]

    def number_at(self, time_s: Fraction | int) -> int:
        """Tell which frame is on screen at a time that counts from the first frame."""
        shown = [number for number, start_s in enumerate(self.times_s) if start_s - self.times_s[0] <= time_s]
        return shown[-1]

    def pattern_of(self, number: int) -> int:
        """Tell the pattern of a frame's scene."""
        return [scene.pattern for scene in self.scenes if scene.start <= number][-1]

    def dhash_of(self, number: int) -> int:
        """Tell a frame's dhash."""
        return scene_dhash(self.pattern_of(number))

    def scores(self, numbers: Sequence[int]) -> tuple[Fraction, ...]:
        """Tell the dhash scores of a row of samples: of the first 100, of the others against the one before."""
        hashes = [self.dhash_of(number) for number in numbers]
        return Fraction(100), *(score(before, after) for before, after in pairwise(hashes))


def every(frames: int, frame_count: int) -> tuple[Scene, ...]:
    """Cut to another scene every so many frames."""
    starts = range(0, frame_count, frames)
    return tuple(Scene(start, SCENE_PATTERNS[i % len(SCENE_PATTERNS)]) for i, start in enumerate(starts))


def counter_video(
    path: Path,
    *,
    width: int = 1280,
    height: int = 720,
    fps: Fraction | int = 25,
    seconds: Fraction | int = 60,
    times_s: Sequence[Fraction] | None = None,
    start_s: Fraction | int = 0,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    gop: int = 50,
    bframes: int = 0,
    scenes: Sequence[Scene] | None = None,
    rotation_deg: int = 0,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> CounterVideo:
    """Write a video whose frames carry their numbers; the suffix of `path` says the container.

    `times_s` gives each frame's time (variable rate) in place of `fps` and `seconds`; `start_s` is added to all.
    Times have to be whole multiples of `time_base`, by default 1/fps. GOPs are closed and have exactly `gop`
    frames. Scenes change every three seconds unless `scenes` says otherwise. Width and height are even.
    `rotation_deg` marks the picture as to be shown turned counter-clockwise. `options` go to the encoder.
    """
    frame_s = 1 / Fraction(fps)
    time_base = time_base or frame_s
    times_s = times_s if times_s is not None else [k * frame_s for k in range(int(seconds / frame_s))]
    times_s = tuple(time_s + start_s for time_s in times_s)
    pts = [_whole(time_s / time_base, time_s, time_base) for time_s in times_s]
    scenes = tuple(scenes) if scenes is not None else every(int(3 / frame_s), len(pts))
    muxer = {"fflags": "+bitexact", **(container_options or {})}
    with av.open(path, "w", options=muxer) as container:
        stream = container.add_stream(
            codec, rate=Fraction(fps), options=_encoder_options(codec, gop, bframes) | dict(options or {})
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base, context.gop_size, context.max_b_frames = time_base, gop, bframes
        context.thread_count = 1
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        for picture, frame_pts in zip(_pictures(width, height, scenes, len(pts)), pts, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base, frame.duration = frame_pts, time_base, int(frame_s / time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    keyframes = tuple(range(0, len(pts), gop))
    return CounterVideo(path, width, height, times_s, times_s[-1] + frame_s, keyframes, scenes)


def large_video(path: Path, *, min_bytes: int = 400_000_000) -> CounterVideo:
    """Write a one-minute MP4 of at least `min_bytes` with its index at the end: x264 pads it to a constant bit rate."""
    seconds = 60
    kbit_s = min_bytes * 8 // seconds // 1000 * 102 // 100
    rate = f"nal-hrd=cbr:bitrate={kbit_s}:vbv-maxrate={kbit_s}:vbv-bufsize={kbit_s}"
    video = counter_video(path, fps=10, seconds=seconds, gop=10, options=_x264(10, 0, rate))
    if (size := path.stat().st_size) < min_bytes:
        raise RuntimeError(f"{path} should have {min_bytes} bytes or more, but has {size}")
    return video


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture inside an audio file: `kind` as ID3v2 counts (3 is the front cover), `data` an image file."""

    kind: int
    mime: str
    data: bytes


def cover_picture(text: str = "front cover", *, size: int = 600, file_format: str = "JPEG", kind: int = 3) -> Picture:
    """Draw a square cover with a text on it."""
    ramp = np.linspace(40, 220, size, dtype=np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    image = Image.fromarray(np.stack([red, green, np.full_like(red, 120)], axis=-1))
    ImageDraw.Draw(image).text((size / 2, size / 2), text, anchor="mm", fill="white", font_size=size / 10)
    file = io.BytesIO()
    image.save(file, file_format)
    return Picture(kind, f"image/{file_format.lower()}", file.getvalue())


def cover_mp3(path: Path, *, pictures: Sequence[Picture] = (), seconds: int = 3) -> tuple[Picture, ...]:
    """Write an MP3 (a tone) with an ID3v2.3 tag that embeds `pictures`, by default one front cover; returns them."""
    pictures = tuple(pictures) or (cover_picture(),)
    frames = b"".join(_id3_frame(b"APIC", _apic(picture)) for picture in pictures)
    path.write_bytes(b"ID3\x03\x00\x00" + _synchsafe(len(frames)) + frames + _mp3_stream(seconds))
    return pictures


def _pictures(width: int, height: int, scenes: Sequence[Scene], count: int) -> Iterator[Plane]:
    ends = [scene.start for scene in scenes[1:]] + [count]
    for scene, end in zip(scenes, ends, strict=True):
        background = draw_scene(width, height, scene.pattern)
        for number in range(scene.start, end):
            yield draw_number(background, height, number)


def _whole(pts: Fraction, time_s: Fraction, time_base: Fraction) -> int:
    if pts.denominator != 1:
        raise ValueError(f"{time_s} s is no whole multiple of the time base {time_base} s")
    return int(pts)


def _x264(gop: int, bframes: int, more: str = "") -> dict[str, str]:
    params = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:bframes={bframes}:b-adapt=0:threads=1"
    return {"preset": "ultrafast", "x264-params": f"{params}:{more}" if more else params}


def _encoder_options(codec: str, gop: int, bframes: int) -> dict[str, str]:
    """Choose speed, and closed GOPs of exactly `gop` frames, which each encoder is told in its own way."""
    if codec == "libx264":
        return _x264(gop, bframes)
    if codec == "libx265":
        params = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:bframes={bframes}:b-adapt=0"
        return {"preset": "ultrafast", "x265-params": f"{params}:pools=none:frame-threads=1:log-level=error"}
    if bframes:
        raise ValueError(
            f"B-frames come with libx264 and libx265 only, not with {codec}: their GOPs can be told exactly"
        )
    if codec in ("libvpx", "libvpx-vp9"):
        return {"deadline": "good", "cpu-used": "5", "b": "2M", "keyint_min": str(gop), "lag-in-frames": "0"}
    if codec in ("mpeg4", "mpeg2video"):
        return {"q": "3", "sc_threshold": "1000000000", "flags": "+cgop+bitexact"}
    raise ValueError(f"codec {codec!r} is none of libx264, libx265, libvpx, libvpx-vp9, mpeg4, mpeg2video")


def _mp3_stream(seconds: int) -> bytes:
    file = io.BytesIO()
    muxer = {"id3v2_version": "0", "write_xing": "0", "fflags": "+bitexact"}
    with av.open(file, "w", format="mp3", options=muxer) as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE)
        assert isinstance(stream, AudioStream)
        stream.layout, stream.format = "mono", "s16p"
        times = np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
        tone = (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone[np.newaxis], format="s16p", layout="mono")
        frame.rate, frame.pts = SAMPLE_RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def _apic(picture: Picture) -> bytes:
    return b"\x00" + picture.mime.encode("ascii") + b"\x00" + bytes([picture.kind]) + b"\x00" + picture.data


def _id3_frame(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "big") + b"\x00\x00" + body


def _synchsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
