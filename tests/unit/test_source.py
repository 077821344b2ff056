"""Which ranges a source requests, and that any sequence of reads gives the object's bytes."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Code, TaskError
from worker.ports import ObjectInfo
from worker.source import MAX_AHEAD_BLOCKS, CachedSource
from worker.task import Location

MIB = 2**20
PLACE = Location("oss", "bucket", "video.mp4")


class MemoryStore:
    """An object in memory that records what is read of it, and answers when `gate` is open."""

    def __init__(self, data=b"", *, size=None):
        self.data = data
        self.info = ObjectInfo(len(data) if size is None else size, "tag")
        self.ranges = []
        self.failures = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Condition()
        self.cancelled = 0

    async def stat(self, location):
        return self.info

    async def read(self, location, offset, size, etag):
        assert (location, etag) == (PLACE, "tag")
        async with self.asked:
            self.ranges.append((offset, size))
            self.asked.notify_all()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if offset in self.failures:
            raise self.failures.pop(offset)
        return self.data[offset : offset + size] if self.data else bytes(min(size, self.info.size - offset))

    async def write(self, location, data, content_type):
        raise AssertionError("a source only reads")

    async def wait_for(self, requests):
        async with self.asked:
            await self.asked.wait_for(lambda: len(self.ranges) >= requests)

    def source(self, *, cache_bytes=64 * MIB, **options):
        return aclosing(CachedSource(self, PLACE, self.info, cache_bytes=cache_bytes, **options))

    @property
    def total(self):
        return sum(size for _, size in self.ranges)


async def read_through(source, start, end, step):
    for offset in range(start, end, step):
        await source.read(offset, min(step, end - offset))


@given(
    data=st.binary(max_size=200),
    reads=st.lists(st.tuples(st.integers(0, 220), st.integers(0, 220)), max_size=20),
    cache_bytes=st.integers(1, 100),
    block_bytes=st.integers(1, 20),
    at_once=st.integers(1, 4),
)
def test_any_sequence_of_reads_equals_slicing(data, reads, cache_bytes, block_bytes, at_once):
    async def check():
        store = MemoryStore(data)
        async with store.source(cache_bytes=cache_bytes, block_bytes=block_bytes) as source:
            for group in range(0, len(reads), at_once):
                wanted = reads[group : group + at_once]
                got = await asyncio.gather(*(source.read(*place) for place in wanted))
                assert got == [data[offset : offset + size] for offset, size in wanted]
                kept = len(source._blocks) * block_bytes
                assert kept <= max(cache_bytes, block_bytes)
        # After closing, so that what was read ahead is over.
        assert source.requests == len(store.ranges)

    asyncio.run(check())


async def test_a_small_file_is_one_request():
    store = MemoryStore(bytes(range(256)) * 1000)
    async with store.source() as source:
        assert await source.read(200_000, 100) == store.data[200_000:200_100]
        await read_through(source, 0, 256_000, 32_768)
    assert store.ranges == [(0, 256_000)]
    assert (source.requests, source.bytes_read) == (1, 256_000)


async def test_past_the_end_there_is_nothing_and_no_request():
    store = MemoryStore(b"abc")
    async with store.source() as source:
        assert await source.read(3, 10) == b""
        assert await source.read(1000, 10) == b""
        assert await source.read(0, 0) == b""
        assert await source.read(-1, 1) == b""
    assert store.ranges == []


async def test_a_large_read_is_one_request():
    store = MemoryStore(size=40 * MIB)
    async with store.source() as source:
        assert len(await source.read(5 * MIB + 7, 20 * MIB)) == 20 * MIB
    assert store.ranges == [(5 * MIB, 21 * MIB)]


async def test_a_read_requests_only_the_gaps_between_what_is_cached():
    store = MemoryStore(size=40 * MIB)
    async with store.source() as source:
        await source.read(12 * MIB, 1)
        await source.read(10 * MIB, 5 * MIB)
    assert store.ranges == [(12 * MIB, MIB), (10 * MIB, 2 * MIB), (13 * MIB, 2 * MIB)]


async def test_scattered_reads_fetch_no_more_than_their_blocks():
    store = MemoryStore(size=400 * MIB)
    async with store.source() as source:
        for place in (7, 300, 20, 399, 150, 3):
            await source.read(place * MIB + 100, 4096)
    assert store.ranges == [(place * MIB, MIB) for place in (7, 300, 20, 399, 150, 3)]


async def test_a_run_is_read_ahead_in_growing_steps():
    store = MemoryStore(size=200 * MIB)
    async with store.source() as source:
        await read_through(source, 0, 100 * MIB, 32_768)
    sizes = [size // MIB for _, size in store.ranges]
    assert sizes[:6] == [1, 1, 1, 2, 3, 6]
    assert max(sizes) <= MAX_AHEAD_BLOCKS
    assert len(sizes) < 30  # some four MiB a request once it runs
    assert store.total <= (100 + MAX_AHEAD_BLOCKS) * MIB
    offsets = [offset for offset, _ in store.ranges]
    assert offsets == sorted(set(offsets)), "nothing is fetched twice"


async def test_reading_ahead_goes_on_while_the_decoder_works():
    store = MemoryStore(size=20 * MIB)
    async with store.source() as source:
        await source.read(0, 10)
        await source.read(MIB, 10)
        await store.wait_for(3)
        store.gate.clear()
        assert await source.read(MIB + 10, 10) == bytes(10), "it does not wait for what is read ahead"
        later = asyncio.create_task(source.read(3 * MIB, 10))
        await store.wait_for(4)
        assert store.ranges[2:4] == [(2 * MIB, MIB), (3 * MIB, MIB)]
        store.gate.set()
        assert await later == bytes(10)


async def test_a_jump_ends_the_run():
    store = MemoryStore(size=400 * MIB)
    async with store.source() as source:
        await read_through(source, 0, 20 * MIB, MIB)
        before = len(store.ranges)
        await source.read(300 * MIB, 10)
        await source.read(100 * MIB, 10)
    assert store.ranges[-2:] == [(300 * MIB, MIB), (100 * MIB, MIB)]
    assert len(store.ranges) <= before + 3, "no more than the last step of the run came in between"


async def test_one_frame_of_a_large_mp4_with_its_index_at_the_end_reads_little():
    """As FFmpeg reads one: the head, the index at the end, then half a group of pictures around the wanted frame."""
    size = 400 * 10**6
    store = MemoryStore(size=size)
    async with store.source() as source:
        await read_through(source, 0, 65_536, 32_768)
        await read_through(source, size - 2 * MIB, size, 32_768)
        for place in (size // 2, size // 2 - 3 * MIB, 1000):
            await read_through(source, place, place + MIB, 32_768)
    assert store.total < size * 0.05
    assert source.bytes_read == store.total


async def test_reads_of_the_same_place_share_a_request():
    store = MemoryStore(size=10 * MIB)
    store.gate.clear()
    async with store.source() as source:
        readers = [asyncio.create_task(source.read(5 * MIB, 100)) for _ in range(5)]
        await store.wait_for(1)
        store.gate.set()
        assert await asyncio.gather(*readers) == [bytes(100)] * 5
    assert store.ranges == [(5 * MIB, MIB)]


async def test_a_cancelled_reader_leaves_the_others_alone():
    store = MemoryStore(size=10 * MIB)
    store.gate.clear()
    async with store.source() as source:
        gone, stays = (asyncio.create_task(source.read(0, 100)) for _ in range(2))
        await store.wait_for(1)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        store.gate.set()
        assert await stays == bytes(100)
    assert store.cancelled == 0


async def test_a_failed_read_is_raised_and_the_next_one_tries_again():
    store = MemoryStore(size=10 * MIB)
    store.failures[0] = TaskError(Code.STORAGE_UNAVAILABLE, "down", retryable=True)
    async with store.source() as source:
        with pytest.raises(TaskError, match="down"):
            await source.read(0, 10)
        assert await source.read(0, 10) == bytes(10)
    assert len(store.ranges) == 2


async def test_a_failure_of_reading_ahead_costs_nothing_but_a_second_request():
    store = MemoryStore(size=4 * MIB)
    store.failures[2 * MIB] = TaskError(Code.STORAGE_UNAVAILABLE, "down", retryable=True)
    async with store.source() as source:
        await read_through(source, 0, 2 * MIB, MIB)
        await asyncio.gather(*source._fetches, return_exceptions=True)
        assert not store.failures, "the block read ahead has failed"
        assert await source.read(2 * MIB, 10) == bytes(10)
    assert [offset // MIB for offset, _ in store.ranges[:4]] == [0, 1, 2, 2]


async def test_an_object_that_shrank_is_storage_unavailable():
    store = MemoryStore(b"x" * 100)
    store.info = ObjectInfo(200, "tag")
    async with store.source() as source:
        with pytest.raises(TaskError, match="gave 100 bytes of the 200") as caught:
            await source.read(0, 200)
    assert caught.value.code == Code.STORAGE_UNAVAILABLE
    assert caught.value.retryable


async def test_closing_cancels_what_is_under_way_and_tells_its_readers():
    store = MemoryStore(size=10 * MIB)
    store.gate.clear()
    async with store.source() as source:
        reader = asyncio.create_task(source.read(0, 10))
        await store.wait_for(1)
    assert store.cancelled == 1
    with pytest.raises(TaskError, match="closed while being read"):
        await reader
    assert len(asyncio.all_tasks()) == 1


async def test_on_read_is_told_of_every_range():
    store = MemoryStore(size=10 * MIB)
    told = []
    async with store.source(on_read=told.append) as source:
        await source.read(0, 3 * MIB)
        await source.read(9 * MIB, 3 * MIB)
    assert told == [3 * MIB, MIB]
