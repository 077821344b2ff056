"""The limit on each allocation of FFmpeg, which PyAV has no name for. Knows nothing of media.

Without it a small header makes FFmpeg take gigabytes at once, and where the kernel refuses those, FFmpeg goes on with
nothing, as if the file had no frames.
"""

import ctypes
from pathlib import Path
from typing import Final

import av  # noqa: F401 - it brings the library


def _mapped(library: str) -> ctypes.CDLL:
    """Open a library of FFmpeg's again that this process has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        if path.name.startswith(library):
            return ctypes.CDLL(str(path))
    raise ImportError(f"PyAV has loaded no {library}: it is of another build than its wheels, which bundle FFmpeg")


_AVUTIL: Final = _mapped("libavutil")


def limit_allocations(max_bytes: int) -> None:
    """Let every allocation of FFmpeg's of more than this fail, in this process, from now on."""
    _AVUTIL.av_max_alloc(ctypes.c_size_t(max_bytes))
