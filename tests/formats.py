"""Counts what tests compared with an independent truth, by container, codec and property, for `docs/formats.md`."""

from collections import Counter
from pathlib import Path

COMPARED: Counter[tuple[str, str, str]] = Counter()
EXACT: Counter[tuple[str, str, str]] = Counter()

UNLISTED = (
    "some pictures decode on their own though neither the file's index nor a recovery point says so (plain intra "
    "slices, which FFmpeg's parser guesses to be keyframes); a capture takes those that are announced"
)
DEVIATIONS: dict[str, str] = {
    "footage/chrome_advert_30s.mp4, keyframes": UNLISTED,
    "timing/timestamps_360p.mp4, keyframes": UNLISTED,
}
"""Real files, and of which property, that are not exact, and why: nowhere else."""

HEAD = """\
# Formats and their exactness

Made by `make formats` from what the tests compared in that run; do not edit. A capture is *exact* when its time and its
decoded planes, bit by bit, are those of a full decode from the start of the file. *Real files* are test files of other
projects, not shipped here; *made streams* and *drawn
streams* are made by the tests, the latter of random structure, for random tasks. What is known not to be exact stands
at the end.

Pictures are compared as image files, read back with Pillow, and count as exact when they are as near to the truth as
8 bits allow: *colours* within 2 levels of 255 of the standards' formulas (HDR: of the reference tone mapping, and real
films within 13 on average of another one, the `ffmpeg` command's), *places* within half a pixel, *orientation* and
*covers* equal (JPEG covers: 3 levels on average), *opacity* within 6 levels of what was lossily encoded, *deinterlaced*
pictures 40 dB from the moment of their first field, and *shapes* (margins, pixel aspects) with every sample at its
place.

| container | codec | property | captures compared | exact |
| --- | --- | --- | ---: | ---: |
"""


def tally(container: str, codec: str, what: str, found: list, wanted: list) -> None:
    """Count pairs that are equal, before a test asserts that all are; what is missing or too much is not exact."""
    key = (container, codec, what)
    COMPARED[key] += max(len(found), len(wanted))
    EXACT[key] += sum(one == other for one, other in zip(found, wanted, strict=False))


def within(container: str, codec: str, what: str, off: float, at_most: float = 0) -> None:
    """Count a capture that is right if it is off by so little, and assert that it is."""
    tally(container, codec, what, [bool(off <= at_most)], [True])
    assert off <= at_most, f"{what} of {codec} in {container}: off by {off}, at most {at_most} is right"


def write(path: Path) -> None:
    """Write the table of everything tallied so far."""
    rows = [f"| {' | '.join(key)} | {COMPARED[key]} | {EXACT[key]} |" for key in sorted(COMPARED)]
    total = f"| **all** | | | **{COMPARED.total()}** | **{EXACT.total()}** |"
    known = [f"- `{name}`: {why}" for name, why in sorted(DEVIATIONS.items())] or ["None is known."]
    path.write_text(HEAD + "\n".join([*rows, total]) + "\n\n## Not exact, and why\n\n" + "\n".join(known) + "\n")
