"""Frames decoded beside the fewest possible: small made videos of both codecs and several GOP lengths, all modes."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType

from bench.minimum import Coded, minimum, read
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Mode, Rendition, Report, Selection

FPS = 25
FRAMES = 600
SLACK = 1.05
FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof+global_sidx"  # as of DASH and CMAF, with an index of fragments


@dataclass(frozen=True, slots=True)
class Recipe:
    """A video: `params` go to the encoder, `movflags` to the muxer; each `reset`-th frame is an IDR picture."""

    codec: str
    gop: int
    params: str = ""
    reset: int = 0
    movflags: str = ""


VIDEOS = {
    **{f"{codec} GOP {gop}": Recipe(codec, gop) for codec in ("libx264", "libx265") for gop in (12, 50, 250)},
    "libx264 open GOPs of 50": Recipe("libx264", 50, "open-gop=1:b-pyramid=none:b-adapt=0", reset=200),
    "libx264 GOP 50, fragments": Recipe("libx264", 50, movflags=FRAGMENTS),
}

REQUESTS = {
    "every frame": (Selection(),),
    "interval 0.2 s": (Selection(interval_s=Fraction(1, 5)),),
    "interval 1 s": (Selection(interval_s=Fraction(1)),),
    "interval 1 s, off the beat": (Selection(start_s=Fraction("0.95"), interval_s=Fraction(1)),),
    "interval 5 s": (Selection(interval_s=Fraction(5)),),
    "one in the middle": (Selection(start_s=Fraction("12.48"), number=1),),
    "the last": (Selection(start_s=Fraction("23.97"), number=1),),
    "average 3": (Selection(Mode.AVERAGE, number=3),),
    "average 10": (Selection(Mode.AVERAGE, number=10),),
    "keyframe": (Selection(Mode.KEYFRAME),),
    "dhash 0.2 s": (Selection(Mode.DHASH, interval_s=Fraction(1, 5), threshold=15),),
    "dhash 1 s": (Selection(Mode.DHASH, interval_s=Fraction(1), threshold=15),),
    "dhash 1 s, best 3": (Selection(Mode.DHASH, interval_s=Fraction(1), number=3),),
    "interval 2 s and average 7": (Selection(interval_s=Fraction(2)), Selection(Mode.AVERAGE, number=7)),
    "keyframe and interval 5 s": (Selection(Mode.KEYFRAME), Selection(interval_s=Fraction(5))),
    "150 frames and interval 5 s": (Selection(start_s=Fraction(7), number=150), Selection(interval_s=Fraction(5))),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """Frames that a capture decoded, and the fewest that it had to."""

    decoded: int
    fewest: int

    @property
    def ratio(self) -> float:
        return self.decoded / self.fewest


def make(path: Path, recipe: Recipe, *, frames: int = FRAMES, size: tuple[int, int] = (96, 64)) -> Path:
    """Encode moving noise with three B-frames and keyframes, of the encoder's own kind where nothing else is said."""
    codec = recipe.codec
    params = f"keyint={recipe.gop}:min-keyint={recipe.gop}:scenecut=0:bframes=3:{recipe.params}".rstrip(":")
    options = {"preset": "veryfast" if codec == "libx264" else "ultrafast"}
    if codec == "libx264":
        options |= {"x264-params": params, "forced-idr": "1"}
    else:
        options["x265-params"] = f"{params}:pools=none:frame-threads=1:log-level=none"
    random = np.random.default_rng(7)
    width, height = size
    noise = random.integers(0, 256, (height, width + frames, 3), np.uint8)
    with av.open(path, "w", options={"movflags": recipe.movflags} if recipe.movflags else {}) as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(frames):
            picture = np.ascontiguousarray(noise[:, number : number + width] // (1 + number // 75 % 3))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            if recipe.reset and number % recipe.reset == 0:
                frame.pict_type = PictureType.I
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def measure(path: Path, coded: Coded, selections: tuple[Selection, ...]) -> Cell:
    """Capture for real and compare."""
    entries = tuple(EntryPlan(selection, Rendition(width=16, height=16)) for selection in selections)
    with path.open("rb", buffering=0) as file:
        *_, report = capture(file, CapturePlan(entries))
    assert isinstance(report, Report), report
    if failed := [entry.error_message for entry in report.entries if entry.error_code]:
        raise RuntimeError(f"{path.name}: {failed}")
    return Cell(report.frames_decoded, minimum(coded, selections))


def table(folder: Path) -> dict[tuple[str, str], Cell]:
    """Measure the whole matrix: a cell for each video and request."""
    cells = {}
    for video, recipe in VIDEOS.items():
        path = make(folder / f"{video}.mp4", recipe)
        coded = read(path)
        for name, selections in REQUESTS.items():
            cells[video, name] = measure(path, coded, selections)
    return cells
