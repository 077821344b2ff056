"""Counts what tests compared with an independent truth, by container, codec and property, for `docs/formats.md`."""

from collections import Counter
from pathlib import Path

COMPARED: Counter[tuple[str, str, str]] = Counter()
EXACT: Counter[tuple[str, str, str]] = Counter()

UNLISTED = "some keyframes are missing, since the file's index does not list them, and a capture reads no others"
DEVIATIONS: dict[str, str] = {
    "footage/chrome_advert_30s.mp4, keyframes": UNLISTED,
    "timing/timestamps_360p.mp4, keyframes": UNLISTED,
}
"""Real files, and of which property, that are not exact, and why: nowhere else."""

HEAD = """\
# Formats and their exactness

Made by `make formats` from what the tests compared in that run; do not edit. A capture is *exact* when its time and its
decoded planes, bit by bit, are those of a full decode from the start of the file. *Real files* are test files of other
projects, not shipped here; *drawn streams* are made by the tests, of random structure, for random tasks. What is known
not to be exact stands at the end.

| container | codec | property | captures compared | exact |
| --- | --- | --- | ---: | ---: |
"""


def tally(container: str, codec: str, what: str, found: list, wanted: list) -> None:
    """Count pairs that are equal, before a test asserts that all are; what is missing or too much is not exact."""
    key = (container, codec, what)
    COMPARED[key] += max(len(found), len(wanted))
    EXACT[key] += sum(one == other for one, other in zip(found, wanted, strict=False))


def write(path: Path) -> None:
    """Write the table of everything tallied so far."""
    rows = [f"| {' | '.join(key)} | {COMPARED[key]} | {EXACT[key]} |" for key in sorted(COMPARED)]
    total = f"| **all** | | | **{COMPARED.total()}** | **{EXACT.total()}** |"
    known = [f"- `{name}`: {why}" for name, why in sorted(DEVIATIONS.items())] or ["None is known."]
    path.write_text(HEAD + "\n".join([*rows, total]) + "\n\n## Not exact, and why\n\n" + "\n".join(known) + "\n")
