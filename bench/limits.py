"""Frames decoded beside the fewest possible: small made videos of both codecs and several GOP lengths, all modes."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from bench.minimum import Coded, minimum, read
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Mode, Rendition, Report, Selection

CODECS = ("libx264", "libx265")
GOPS = (12, 50, 250)
FPS = 25
FRAMES = 600
SLACK = 1.05

REQUESTS = {
    "every frame": (Selection(),),
    "interval 0.2 s": (Selection(interval_s=Fraction(1, 5)),),
    "interval 1 s": (Selection(interval_s=Fraction(1)),),
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
}


@dataclass(frozen=True, slots=True)
class Cell:
    """Frames that a capture decoded, and the fewest that it had to."""

    decoded: int
    fewest: int

    @property
    def ratio(self) -> float:
        return self.decoded / self.fewest


def make(path: Path, codec: str, gop: int, *, frames: int = FRAMES, size: tuple[int, int] = (96, 64)) -> Path:
    """Encode moving noise with three B-frames and keyframes, of the encoder's own kind, every `gop` frames."""
    params = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=3"
    options = {"preset": "veryfast" if codec == "libx264" else "ultrafast"}
    if codec == "libx264":
        options["x264-params"] = params
    else:
        options["x265-params"] = f"{params}:pools=none:frame-threads=1:log-level=none"
    random = np.random.default_rng(7)
    width, height = size
    noise = random.integers(0, 256, (height, width + frames, 3), np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(frames):
            picture = np.ascontiguousarray(noise[:, number : number + width] // (1 + number // 75 % 3))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
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


def table(folder: Path) -> dict[tuple[str, int, str], Cell]:
    """Measure the whole matrix."""
    cells = {}
    for codec in CODECS:
        for gop in GOPS:
            path = make(folder / f"{codec}-{gop}.mp4", codec, gop)
            coded = read(path)
            for name, selections in REQUESTS.items():
                cells[codec, gop, name] = measure(path, coded, selections)
    return cells
