"""The sources that the end-to-end tests capture, and what is known of them without any decoder."""

import os
import shutil
import wave
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from devkit.media import CounterVideo, Picture, Scene, counter_video, cover_mp3

BUCKET = "examplebucket"
FPS = Fraction(12_000, 1001)  # so that no frame but the first starts at a whole second
SECONDS = 61
LONG_FRAMES = 300
# First frame and pattern of each scene. Neighbours differ in one row of eight (12.5 %), below the example's threshold
# of 15, or in two, three, six or all; the fifth highest score is a tie.
SCENES = (
    (0, 0b00001111), (38, 0b11110000), (77, 0b11110001), (158, 0b01010101), (250, 0b01010100), (336, 0b10101101),
    (434, 0b10110100), (499, 0b10110111), (581, 0b01001000), (638, 0b11001000),
)  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """A directory of buckets, and in it the example tasks' video and song."""

    root: Path
    video: CounterVideo
    cover: Picture

    @property
    def bucket(self) -> Path:
        return self.root / BUCKET


def make_sources(root: Path) -> Sources:
    """Make the files that the example tasks name, and some that no image can be made of."""
    for folder in ("videos", "music"):
        (root / BUCKET / folder).mkdir(parents=True)
    scenes = [Scene(*each) for each in SCENES]
    path = root / BUCKET / "videos" / "sample.mp4"
    video = counter_video(path, fps=FPS, seconds=SECONDS, bframes=2, scenes=scenes)
    (cover,) = cover_mp3(root / BUCKET / "music" / "song.mp3")
    with wave.open(str(root / BUCKET / "music" / "silence.wav"), "wb") as silence:
        silence.setparams((1, 2, 8000, 0, "NONE", ""))
        silence.writeframes(bytes(16_000))
    path.with_name("no-index.mp4").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return Sources(root, video, cover)


def task(*snapshots: dict[str, Any], source: str = "videos/sample.mp4", **members: Any) -> dict[str, Any]:
    """Write a task on a file of the bucket. An entry needs no more than what it is about."""
    entries = [
        {"Format": "jpg", "URI": f"oss://{BUCKET}/out/{place}/{{index}}.jpg"} | each
        for place, each in enumerate(snapshots or [{"Number": 1}])
    ]
    sources = [{"URI": f"oss://{BUCKET}/{source}"}]
    return {"ProjectName": "demo", "Sources": sources, "Targets": [{"Image": {"Snapshots": entries}}]} | members


def long_task(folder: str) -> dict[str, Any]:
    """Write a task that takes a second or more: so many frames that progress is told long before the end."""
    return task({"URI": f"oss://{BUCKET}/{folder}/{{index}}.jpg", "Number": LONG_FRAMES, "Width": 0.5, "Height": 0.5})


def copy_sources(sources: Sources, root: Path) -> Path:
    """Make a directory of buckets for one worker, which writes there."""
    shutil.copytree(sources.root, root, copy_function=os.link)
    return root
