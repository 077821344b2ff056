"""Compares what the worker gives of a damaged file with independent full decodes, in a process of its own.

`python -m tests.fuzz.truth damaged whole` prints how many frames were compared, or what was wrong with one.
"""

import asyncio
import resource
import signal
import sys
from pathlib import Path

import av

from tests.damage import SILENT, compared, given, truth

MOST_CPU_S = 120
LARGEST_PIXELS = 640 * 480
MOST_FRAMES = 400
HERE = Path(__file__).parents[2]
UNDECIDED = {-signal.SIGXCPU, -signal.SIGKILL}


async def compare(path: Path, whole: Path) -> tuple[int, str]:
    """Give how many frames were compared, none where that would take too much, and what was found, if anything."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fuzz.truth", str(path), str(whole), cwd=HERE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    said, _ = await process.communicate()
    text = said.decode().strip()
    if process.returncode == 0:
        return int(text), ""
    if process.returncode in UNDECIDED:  # the full decode took too long: that says nothing of the worker
        return 0, ""
    return 0, text or f"crash: the process that compares, which has no sandbox, ended with {process.returncode}"


def _small(path: Path) -> bool:
    """Tell whether a file has few enough frames, and small enough ones, to keep them all."""
    try:
        with av.open(str(path), format="mpegts" if path.suffix == ".ts" else None, metadata_errors="replace") as file:
            stream = file.streams.video[0]
            stream.codec_context.thread_count = 1
            for number, frame in enumerate(file.decode(stream)):
                if number >= MOST_FRAMES or frame.width * frame.height > LARGEST_PIXELS:
                    return False
    except (av.FFmpegError, IndexError, AttributeError):
        return True  # a full decode goes on behind the damage, but not for long
    return True


def strictly(path: Path) -> int:
    """Compare, by time and one by one, the frames of a file in which a full decode meets no damage.

    Gives how many; none of a file with damage. Raises `AssertionError` for one that is wrong, or not there. Where two
    full decodes differ, FFmpeg shows memory that it never wrote.
    """
    naive, freed = truth(path, keep=True), truth(path)
    if naive.errors or not naive.monotonic or naive.codec in SILENT:
        return 0
    wanted = {frame.pts: frame.digest for frame in naive.frames}
    unwritten = {a.pts for a, b in zip(naive.frames, freed.frames, strict=True) if a.digest != b.digest}
    found = list(given(path))
    for pts, digest in found:
        same = wanted.get(pts) == digest or pts in unwritten
        assert same, f"frame at pts {pts} is another than in a full decode, which met no damage"
    missing = sorted(set(wanted) - {pts for pts, _ in found})
    assert not missing, f"frames at {missing[:5]} of a full decode, which met no damage, are not given"
    return len(found)


def main() -> int:
    """Compare the two files that the arguments name."""
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path, whole = map(Path, sys.argv[1:])
    try:
        small = _small(path) and _small(whole)
        sys.stdout.write(str((strictly(path) or compared(path, whole)) if small else 0))
    except AssertionError as error:
        # Where FFmpeg noticed damage, the next frames may miss what they refer to without its noticing that.
        sys.stdout.write(f"{'unlike' if truth(path).errors else 'wrong'}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
