"""How others do our requests: command lines as a competent user would write them. Pure: from a request to commands.

Each writes JPEGs into a folder, named so that they sort by time. `{folder}` stands for it.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PYTHON = Path(__file__).parents[1] / ".venv-bench/bin/python"  # has OpenCV and PySceneDetect
_FFMPEG = ["ffmpeg", "-nostdin", "-nostats", "-v", "verbose", "-y"]
_CROP = "scale=512:512:force_original_aspect_ratio=increase,crop=512:512"
_JPEG = ["-q:v", "2"]  # about as large as ours at quality 90, on real footage

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do a job: its commands, run one after the other."""

    name: str
    commands: tuple[Command, ...]


def seeks(file: Path, times_s: Iterable[float], *, crop: bool = False) -> Way:
    """A process per frame."""
    sizing = ["-vf", _CROP] if crop else []
    commands = tuple(
        (
            *_FFMPEG,
            "-ss",
            str(time_s),
            "-i",
            str(file),
            "-frames:v",
            "1",
            *sizing,
            *_JPEG,
            f"{{folder}}/{number:05d}.jpg",
        )
        for number, time_s in enumerate(times_s)
    )
    return Way("ffmpeg -ss, a process each" if len(commands) > 1 else "ffmpeg -ss", commands)


def fps_filter(file: Path, interval_s: int, *, crop: bool = False) -> Way:
    """One process that decodes everything."""
    chain = f"fps=1/{interval_s}:round=up{',' + _CROP if crop else ''}"
    return Way(f"ffmpeg fps=1/{interval_s}", (_whole(file, [], ["-vf", chain]),))


def keyframes(file: Path) -> Way:
    """One process whose decoder gives only keyframes."""
    return Way("ffmpeg -skip_frame nokey", (_whole(file, ["-skip_frame", "nokey"], ["-fps_mode", "passthrough"]),))


def scene_filter(file: Path, percent: int) -> Way:
    """One process that samples every second and keeps what differs: the nearest that there is to our dhash mode."""
    chain = f"fps=1:round=up,select='gt(scene,{percent / 100})'"
    return Way("ffmpeg fps=1, select scene", (_whole(file, [], ["-vf", chain, "-fps_mode", "passthrough"]),))


def every_frame(file: Path) -> Way:
    """One process that writes every frame."""
    return Way("ffmpeg", (_whole(file, [], ["-fps_mode", "passthrough"]),))


def _whole(file: Path, before: list[str], after: list[str]) -> Command:
    return (*_FFMPEG, *before, "-i", str(file), *after, *_JPEG, "{folder}/%05d.jpg")


def loop(name: str, file: Path, interval_s: int) -> Way:
    """A Python loop of `bench.loops`."""
    python = sys.executable if name.startswith("PyAV") else str(PYTHON)
    script = str(Path(__file__).with_name("loops.py"))
    return Way(name, ((python, script, name, str(file), "{folder}", str(interval_s)),))
