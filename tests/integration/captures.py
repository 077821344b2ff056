"""What the decoder processes of the pool's tests run: captures that do what the source's first line says."""

import ctypes
import hashlib
import itertools
import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from worker.adapters import wire
from worker.adapters.decoder import BLOCK_BYTES
from worker.errors import Code, TaskError
from worker.media.plan import CapturePlan, Cuts, EntryReport, Image, PartEvent, Progress, Report


def perform(source: BinaryIO, plan: CapturePlan) -> Iterator[PartEvent]:
    command = json.loads(source.read(10_000).split(b"\n")[0])
    report = command.pop("report", True)
    yield from globals()[command.pop("do")](source, plan, **command)
    if not report:
        return
    entries = tuple(EntryReport(1, 1) for _ in plan.entries)
    yield Report(entries, "test", "none", 1, 2, 3, 4, 5, {"decode": 0.5})


def image(index, data, entry=0, **more):
    digest = hashlib.sha256(data).hexdigest()
    return Image(
        entry,
        index,
        Fraction(index, 3),
        Fraction(0),
        index,
        key_frame=True,
        width=7,
        height=3,
        data=data,
        sha256=digest,
        **more,
    )


def echo(source, plan):
    source.seek(0)
    yield Progress(0.5)
    yield image(1, source.read(), dhash=2**64 - 1, score=Fraction(100, 3))


def stream(source, plan, count, size, entry=0):
    for index in range(1, count + 1):
        yield image(index, index.to_bytes(4, "big") * (size // 4), entry)


def claim(source, plan, **changed):
    yield replace(image(1, b"x"), **changed)


def parts(source, plan, borders=4, count=2, size=4, crash_in=None, endless_in=None, cuts=None):
    """Cut itself into five parts; each reads a byte of its own block, then gives images that begin with its number."""
    if plan.may_split:
        yield Cuts(tuple(Fraction(each) for each in (range(1, borders + 1) if cuts is None else cuts)))
    number = int(plan.part.start_s)
    source.seek((number + 1) * BLOCK_BYTES)
    source.read(1)
    if number == crash_in:
        os._exit(3)
    for index in range(2**40 if number == endless_in else min(count, plan.entries[0].selection.number or count)):
        yield image(index + 1, bytes([number, index % 256]) * (size // 2))


def read_all(source, plan, chunk):
    digest = hashlib.sha256()
    source.seek(0)
    while data := source.read(chunk):
        assert len(data) <= chunk
        digest.update(data)
    yield image(1, digest.digest())


def announce(source, plan, ranges, times=1):
    """Announce ranges, then read them as FFmpeg does, which takes short reads."""
    source.expect([tuple(one) for one in ranges] * times)
    digest = hashlib.sha256()
    for offset, size in ranges:
        source.seek(offset)
        left = size
        while left and (data := source.read(min(left, 40_000))):
            digest.update(data)
            left -= len(data)
    yield image(1, digest.digest())


def mislead(source, plan, ranges, times=1):
    yield image(1, b"x")
    for buffer in wire.pack(wire.Expect(*map(tuple, zip(*ranges * times, strict=True)))):
        os.write(3, buffer)
    yield from ()


def jump(source, plan):
    """Seek all over, also past the end, and read only at two places."""
    for offset in range(0, 10_000_000, 1000):
        source.seek(offset)
    beyond = source.read(10)
    source.seek(-5, os.SEEK_END)
    tail = source.read(100)
    yield image(1, json.dumps([len(beyond), tail.decode(), source.tell(), hasattr(source, "name")]).encode())


def segfault(source, plan):
    yield image(1, b"x")
    ctypes.string_at(0)


def leave(source, plan, code):
    yield image(1, b"x")
    os._exit(code)


def spin_in_c(source, plan):
    yield image(1, b"x")
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    sum(itertools.repeat(0))


def loop_in_c(source, plan):
    yield image(1, b"x")
    sum(itertools.repeat(0))


def spin_in_python(source, plan):
    yield image(1, b"x")
    while True:
        try:
            source.seek(0)
        except Exception:  # noqa: BLE001  as a capture may, that skips what is damaged
            continue


def work_silently(source, plan, seconds):
    """Use so much CPU time without a word."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(10_000))
    yield image(1, b"x")


def hog(source, plan, step):
    held = []
    while True:
        held.append(b"\1" * step)
        time.sleep(0.002)  # slow enough that the sampling sees it, and not the kernel's limit


def hold(source, plan, size):
    global held  # noqa: PLW0603  outlives the capture
    held = b"\1" * size
    yield image(1, b"x")


def allocate(source, plan, size):
    yield image(1, bytes(size))


def refuse(source, plan):
    yield image(1, b"x")
    raise TaskError(Code.CORRUPT_MEDIA, "the sample is broken")


def blunder(source, plan):
    yield image(1, b"x")
    raise RuntimeError("boom")


def babble(source, plan, text):
    yield image(1, b"x")
    os.write(3, text.encode("latin-1"))
    signal.pause()


def restart(source, plan):
    for buffer in wire.pack(wire.Started()):
        os.write(3, buffer)
    yield from ()


def spawn(source, plan):
    """Leave a grandchild behind."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    yield image(1, str(pid).encode())
    os.abort()


def tell(source, plan):
    """Tell what the process has and may do."""
    facts = {
        "environ": Path("/proc/self/environ").read_text(),
        "variables": dict(os.environ),
        "descriptors": sorted(int(path.name) for path in Path("/proc/self/fd").iterdir())[
            :-1
        ],  # without the listing's own
        "status": Path("/proc/self/status").read_text(),
        "oom_score_adj": Path("/proc/self/oom_score_adj").read_text().strip(),
        "group": os.getpgid(0) == os.getpid(),
        "limits": {name: resource.getrlimit(getattr(resource, name))[1] for name in ("RLIMIT_CORE", "RLIMIT_FSIZE")},
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    }
    yield image(1, json.dumps(facts).encode())
