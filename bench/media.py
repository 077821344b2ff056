"""The videos that are measured, made once by the `ffmpeg` command below a directory and kept there.

Their scenes are of several kinds, with noise, cuts at uneven times, and fixed seeds.
"""

import random
from collections.abc import Callable
from pathlib import Path

from bench import processes

SCENES_S = 55  # so that no round number of seconds or frames falls on the same places of each repeat
LONG_REPEATS, BIG_REPEATS = 11, 30
LONG_S, BIG_S = LONG_REPEATS * SCENES_S, BIG_REPEATS * SCENES_S
_X264 = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-b_strategy", "1", "-g", "250", "-crf", "26"]
_X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-crf", "28", "-x265-params", "keyint=250:bframes=3:log-level=error"]  # noqa: E501  # fmt: skip
_SOURCES = (
    "testsrc2=s={size}:r=25",
    "mandelbrot=s={size}:r=25:start_scale=0.3:end_scale=0.002:maxiter=200",
    "gradients=s={size}:r=25:speed=0.02:seed={seed}",
    "life=s=480x270:mold=10:r=25:ratio=0.1:death_color=#C83232:life_color=#00ff00:seed={seed},scale={size}:flags=neighbor",
)


def prepare(folder: Path) -> dict[str, Path]:
    """Make what is not there yet; gives the files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _made(folder / f"{name}.mp4", make) for name, make in _RECIPES.items()}


def _made(path: Path, make: Callable[[Path], None]) -> Path:
    if not path.exists():
        print(f"making {path}", flush=True)
        part = path.with_name(f"part-{path.name}")
        make(part)
        part.rename(path)
    return path


def _scenes(path: Path, size: str, seconds: int, encoder: list[str]) -> None:
    draw = random.Random(3)
    inputs, chains, length_s = [], [], 0.0
    while length_s < seconds:
        source, _, scaling = draw.choice(_SOURCES).format(size=size, seed=draw.randint(1, 9999)).partition(",")
        scene_s = draw.choice([1.2, 1.8, 2.6, 3.4, 4.6, 7.4])
        inputs += ["-f", "lavfi", "-t", str(scene_s), "-i", source]
        chains.append(f"{scaling or 'null'},noise=alls=6:allf=t,format=yuv420p,setsar=1")
        length_s += scene_s
    labels = [f"[v{number}]" for number in range(len(chains))]
    graph = [f"[{number}:v]{chain}{label}" for number, (chain, label) in enumerate(zip(chains, labels, strict=True))]
    graph.append(f"{''.join(labels)}concat=n={len(labels)}:v=1:a=0[v]")
    _ffmpeg(*inputs, "-filter_complex", ";".join(graph), "-map", "[v]", "-t", str(seconds), *encoder, str(path))


def _repeated(path: Path, times: int) -> None:
    once = path.with_name("scenes.mp4")
    _ffmpeg("-stream_loop", str(times - 1), "-i", str(once), "-c", "copy", "-movflags", "+faststart", str(path))


def _hevc(path: Path) -> None:
    _ffmpeg("-i", str(path.with_name("scenes.mp4")), *_X265, str(path))


def _ffmpeg(*arguments: str) -> None:
    processes.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments])


_RECIPES: dict[str, Callable[[Path], None]] = {
    "scenes": lambda path: _scenes(path, "1920x1080", SCENES_S, _X264),
    "long": lambda path: _repeated(path, LONG_REPEATS),
    "big": lambda path: _repeated(path, BIG_REPEATS),
    "hevc": _hevc,
    "4k": lambda path: _scenes(path, "3840x2160", 10, _X264),
    "short": lambda path: _scenes(path, "1280x720", 10, _X264),
}
