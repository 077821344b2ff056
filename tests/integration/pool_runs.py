"""Captures by a real decoder pool from a source in memory, and what a test asks of them."""

import asyncio
import json
import os
import select
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest

from worker.adapters.pool import DecoderPool
from worker.errors import TaskError
from worker.media.plan import CapturePlan, EntryPlan, Mode, Rendition, Selection
from worker.settings import Pool

MIB = 2**20


@dataclass
class MemorySource:
    data: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)
    error: TaskError | None = None
    announced: list[tuple[tuple[int, int], ...]] = field(default_factory=list)

    @classmethod
    def command(cls, body=b"", error=None, **command):
        return cls(json.dumps(command).encode() + b"\n" + body, error=error)

    @property
    def size(self):
        return len(self.data)

    async def read(self, offset, size):
        self.reads.append((offset, size))
        if self.error is not None and len(self.reads) > 1:
            raise self.error
        return self.data[offset : offset + size]

    def expect(self, ranges):
        self.announced.append(ranges)

    def reader(self):
        return nullcontext(self)


def make_plan():
    return CapturePlan((EntryPlan(Selection(Mode.DHASH), Rendition(width=7)),))


def make_pool(**settings):
    return DecoderPool(Pool(**{"slots": 1} | settings), "tests.integration.captures:perform")


async def run(pool, source=None, **command):
    source = source or MemorySource.command(**command)
    return [event async for event in pool.capture(make_plan(), source)]


async def fails(pool, source=None, **command):
    with pytest.raises(TaskError) as caught:
        await run(pool, source, **command)
    return caught.value


async def gone(pid):
    """Wait until the process has ended; return at once if it is no more."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = await asyncio.to_thread(select.select, [pidfd], [], [], 10)
        assert ready, f"process {pid} still lives"
    finally:
        os.close(pidfd)
