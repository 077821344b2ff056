"""Which FFmpeg PyAV brings, and whether it is new enough to be given what strangers made."""

import re
from typing import Final

import av

from worker.errors import Code, TaskError

OLDEST: Final = (8, 1, 2)
"""The first release without the memory errors in decoders that were found by June 2026 (CVE-2026-8461 and others)."""

_LIBRARIES: Final = {
    "libavutil": (60, 26, 102),
    "libavcodec": (62, 28, 102),
    "libavformat": (62, 12, 102),
    "libavfilter": (11, 14, 102),
    "libswscale": (9, 5, 102),
}
"""The libraries of that release. A build from a repository has no number but theirs."""


def ffmpeg_version() -> str:
    """Tell the version of the FFmpeg that PyAV brings."""
    return av.ffmpeg_version_info


def check_ffmpeg() -> None:
    """Raise `InternalError` where FFmpeg is older than `OLDEST`, or one of its libraries is."""
    found = re.match(r"n?(\d+)\.(\d+)(?:\.(\d+))?", av.ffmpeg_version_info)
    release = tuple(int(part or 0) for part in found.groups()) if found else OLDEST
    old = [name for name, oldest in _LIBRARIES.items() if av.library_versions.get(name, ()) < oldest]
    if release >= OLDEST and not old:
        return
    versions = ", ".join(f"{name} {'.'.join(map(str, av.library_versions.get(name, ())))}" for name in old)
    raise TaskError(
        Code.INTERNAL_ERROR,
        f"the FFmpeg that PyAV {av.__version__} brings is {av.ffmpeg_version_info}{versions and f' ({versions})'}; "
        f"hostile files need at least {'.'.join(map(str, OLDEST))}: install the pinned requirements.txt",
    )
