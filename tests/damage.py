"""Ways to damage a file, and what must hold of a capture from it all the same."""

import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av

from tests.naive import Naive, decode_all, digest
from worker.errors import Code, TaskError
from worker.media.capture import capture
from worker.media.container import Media
from worker.media.decode import FrameReader
from worker.media.plan import CapturePlan, EntryPlan, Image, Limits, Mode, Rendition, Report, Selection
from worker.media.timeline import first_pts

LIMITS = Limits(max_pixels=9_000_000, max_side=16_384, max_decoded_frames=5_000)
HONEST = {Code.CORRUPT_MEDIA, Code.UNSUPPORTED_MEDIA, Code.LIMIT_EXCEEDED, Code.RESOURCE_NOT_FOUND}
SMALL = Rendition(width=16, height=16)
SILENT = {"libdav1d", "ffv1", "rv10", "rv20"}
"""Decoders that make up for damage without a word, even when told to be strict: nothing tells their good frames."""
ENTRIES = (
    Selection(Mode.INTERVAL),
    Selection(Mode.INTERVAL, interval_s=Fraction(37, 100), number=20),
    Selection(Mode.INTERVAL, start_s=Fraction(1), number=1),
    Selection(Mode.AVERAGE, number=5),
    Selection(Mode.KEYFRAME),
    Selection(Mode.DHASH, interval_s=Fraction(1, 5), number=3),
)


class Apart:
    """Runs functions in a process of its own, another one after a crash."""

    def __init__(self):
        self._pool = None

    def run(self, function, *arguments):
        """Give what the function returns or raises; raises `BrokenProcessPool` when its process crashes."""
        self._pool = self._pool or ProcessPoolExecutor(1, get_context("fork"))
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            self.close()
            raise

    def close(self):
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = None


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flip bytes, or lose, blank, repeat or swap a stretch."""
    out = bytearray(data)
    kind = rng.choice(["flip", "flip", "flip", "lose", "blank", "repeat", "cut"])
    at = rng.randrange(len(out))
    length = min(rng.choice([1, 10, 188, 1000, 5000]), len(out) - at)
    if kind == "flip":
        for _ in range(rng.choice([1, 3, 10, 60])):
            out[rng.randrange(len(out))] ^= rng.randrange(1, 256)
    elif kind == "lose":
        del out[at : at + length]
    elif kind == "blank":
        out[at : at + length] = bytes(length)
    elif kind == "repeat":
        out[at:at] = out[at : at + length]
    else:
        del out[at:]
    return bytes(out)


def check(path: Path, whole: Path | None = None) -> tuple[int, set[str]]:
    """Capture from a damaged file in all ways; gives the number of frames compared, and warning and error codes.

    Raises what `compared` does; and every end must be an honest one.
    """
    count = compared(path, whole)
    codes = outcomes(path, CapturePlan(tuple(EntryPlan(each, SMALL) for each in ENTRIES), limits=LIMITS))
    for selection in ENTRIES:
        codes |= outcomes(path, CapturePlan((EntryPlan(selection, SMALL),), limits=LIMITS))
    return count, codes


def compared(path: Path, whole: Path | None = None) -> int:
    """Compare the frames of a damaged file with those of full decodes, and give how many; raises for a wrong one.

    Every frame must be one that a full decode of the same file gives at that time, or of the `whole` file before it
    was damaged, since after an error a decoder may also lose good frames. Where two full decodes differ, FFmpeg shows
    memory that it never wrote: that proves nothing.
    """
    naive = truth(path, keep=True)
    kept, freed = naive.frames, truth(path).frames
    unwritten = {a.pts for a, b in zip(kept, freed, strict=True) if a.digest != b.digest}
    frames = [*kept, *(truth(whole).frames if whole else ())]
    allowed = {(pts, frame.digest) for frame in frames for pts in (frame.pts, frame.own_pts)}
    # Where packets carry no times, how much time what is lost took is anyone's guess; others may be damaged themselves.
    timeless = None in {frame.own_pts for frame in frames}
    digests = {frame.digest for frame in frames} if timeless else {frame.digest for frame in frames[len(kept) :]}
    count = 0
    for pts, found in given(path):
        right = (pts, found) in allowed or pts in unwritten or found in digests
        assert right or naive.codec in SILENT, f"frame at pts {pts} is not that of a full decode"
        count += 1
    return count


def truth(path: Path, *, keep: bool = False) -> Naive:
    """The full decode; nothing where not even the container opens."""
    try:
        return decode_all(path, keep=keep)
    except (av.FFmpegError, StopIteration, AttributeError, OSError):
        return Naive()


def given(path: Path) -> Iterator[tuple[int, str]]:
    """All frames, some at rising times, and keyframes, as the reader of captures gives them."""
    for walk in (_every, _rising, _keys):
        try:
            with path.open("rb") as file, Media(file, LIMITS) as media:
                if media.video is not None:
                    reader = FrameReader(media, LIMITS, first_pts(media))
                    yield from ((shot.pts, digest(shot.frame)) for shot in walk(reader))
        except TaskError as error:
            _assert_honest(error)


def _assert_honest(error):
    assert error.code in HONEST, error
    assert error.message


def _every(reader):
    shot = reader.at(Fraction(0))
    for _ in range(2000):
        if shot is None:
            return
        yield shot
        shot = reader.following()


def _rising(reader):
    for number in range(12):
        yield reader.at(Fraction(number * 23, 100))


def _keys(reader):
    yield from reader.keyframes(Fraction(0))


def outcomes(path: Path, plan: CapturePlan) -> set[str]:
    """Codes that a capture ends with; it must end, with frames or an honest error for every entry."""
    images = [0] * len(plan.entries)
    try:
        with path.open("rb") as file:
            for event in capture(file, plan):
                if isinstance(event, Image):
                    images[event.entry] += 1
                last = event
    except TaskError as error:
        _assert_honest(error)
        return {error.code}
    assert isinstance(last, Report)
    codes = set()
    for count, entry in zip(images, last.entries, strict=True):
        assert count == entry.count
        assert count or entry.error_code, "an empty success"
        codes |= {entry.error_code, *(warning.code for warning in entry.warnings)} - {""}
    assert codes <= HONEST | {Code.INVALID_ARGUMENT, "FrameDamaged", "SourceTruncated", "StartTimeClamped"}, codes
    return codes
