"""Which ranges a source requests, and that any sequence of reads gives the object's bytes."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Code, TaskError
from worker.ports import ObjectInfo
from worker.ranges import PIECE_BYTES, REQUEST_BYTES
from worker.source import BLOCK_BYTES, MAX_AHEAD_BYTES, PARALLEL, CachedSource
from worker.task import Location

MIB = 2**20
KIB = 2**10
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

    async def stat(self, location, head_bytes=0):
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
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 220), st.integers(0, 220), st.booleans()), max_size=20),
    cache_bytes=st.integers(1, 100),
    block_bytes=st.integers(1, 20),
    at_once=st.integers(1, 4),
)
def test_any_sequence_of_reads_and_announcements_of_several_readers_equals_slicing(
    data, steps, cache_bytes, block_bytes, at_once
):
    async def check():
        store = MemoryStore(data)
        async with store.source(cache_bytes=cache_bytes, block_bytes=block_bytes) as source:
            with source.reader() as first, source.reader() as second:
                readers = (source, first, second)
                for group in range(0, len(steps), at_once):
                    wanted = []
                    for number, offset, size, announced in steps[group : group + at_once]:
                        if announced:
                            readers[number].expect([(offset, size)])
                        else:
                            wanted.append((readers[number], offset, size))
                    got = await asyncio.gather(*(reader.read(offset, size) for reader, offset, size in wanted))
                    assert got == [data[offset : offset + size] for _, offset, size in wanted]
                    assert source._cache.kept_bytes <= cache_bytes or source._cache.pinned_bytes
        # After closing, so that what was read ahead is over.
        assert source._cache.pinned_bytes == 0
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


async def test_a_large_read_is_requested_in_parts_at_once():
    store = MemoryStore(size=40 * MIB)
    async with store.source() as source:
        assert len(await source.read(5 * MIB + 7, 10 * MIB)) == 10 * MIB
    assert store.ranges[:3] == [(5 * MIB, 4 * MIB), (9 * MIB, 4 * MIB), (13 * MIB, 2 * MIB + BLOCK_BYTES)]


async def test_a_read_requests_only_the_gaps_between_what_is_cached():
    store = MemoryStore(size=40 * MIB)
    async with store.source() as source:
        await source.read(12 * MIB, 1)
        await source.read(10 * MIB, 5 * MIB)
    after = 12 * MIB + BLOCK_BYTES
    assert store.ranges[:3] == [(12 * MIB, BLOCK_BYTES), (10 * MIB, 2 * MIB), (after, 15 * MIB - after)]


async def test_scattered_reads_fetch_no_more_than_their_blocks():
    store = MemoryStore(size=400 * MIB)
    async with store.source() as source:
        for place in (7, 300, 20, 399, 150, 3):
            await source.read(place * MIB + 100, 4096)
    assert store.ranges == [(place * MIB, BLOCK_BYTES) for place in (7, 300, 20, 399, 150, 3)]


async def test_a_run_is_read_ahead_in_growing_steps():
    store = MemoryStore(size=200 * MIB)
    async with store.source() as source:
        await read_through(source, 0, 100 * MIB, 32_768)
    sizes = [size for _, size in store.ranges]
    assert sizes[:6] == [BLOCK_BYTES] * 6
    assert max(sizes) <= MAX_AHEAD_BYTES
    assert len(sizes) < 60  # some four MiB a request once it runs
    assert store.total <= 100 * MIB + MAX_AHEAD_BYTES
    offsets = [offset for offset, _ in store.ranges]
    assert offsets == sorted(set(offsets)), "nothing is fetched twice"


@pytest.mark.parametrize("length", [BLOCK_BYTES, MIB, 3 * MIB, 10 * MIB, 40 * MIB])
async def test_a_run_that_ends_has_read_little_ahead(length):
    store = MemoryStore(size=200 * MIB)
    async with store.source() as source:
        await read_through(source, 7 * MIB, 7 * MIB + length, 32_768)
    assert store.total <= 1.25 * length + BLOCK_BYTES


async def test_reading_ahead_goes_on_while_the_decoder_works():
    store = MemoryStore(size=20 * MIB)
    async with store.source() as source:
        await read_through(source, 0, 2 * MIB, 32_768)
        await asyncio.gather(*source._cache._fetches)
        store.gate.clear()
        ahead = max(offset + size for offset, size in store.ranges)
        assert ahead > 2 * MIB
        assert await source.read(2 * MIB, 10) == bytes(10), "it does not wait for what is read ahead"
        later = asyncio.create_task(source.read(ahead, 10))
        await store.wait_for(len(store.ranges) + 1)
        assert store.ranges[-1][0] >= ahead
        store.gate.set()
        assert await later == bytes(10)


async def test_a_jump_ends_the_run():
    store = MemoryStore(size=400 * MIB)
    async with store.source() as source:
        await read_through(source, 0, 20 * MIB, MIB)
        before = len(store.ranges)
        await source.read(300 * MIB, 10)
        await source.read(100 * MIB, 10)
    assert store.ranges[-2:] == [(300 * MIB, BLOCK_BYTES), (100 * MIB, BLOCK_BYTES)]
    assert len(store.ranges) <= before + 4, "no more than the last step of the run came in between"


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
    assert store.ranges == [(5 * MIB, BLOCK_BYTES)]


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
    async with store.source() as source:
        await read_through(source, 0, MIB - 32_768, 32_768)
        store.failures[MIB] = TaskError(Code.STORAGE_UNAVAILABLE, "down", retryable=True)
        await source.read(MIB - 32_768, 32_768)
        await asyncio.gather(*source._cache._fetches, return_exceptions=True)
        assert not store.failures, "the block read ahead has failed"
        assert await source.read(MIB, 10) == bytes(10)
    assert [offset for offset, _ in store.ranges].count(MIB) == 2


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
    assert sorted(told) == sorted(size for _, size in store.ranges)
    assert told[0] == 3 * MIB


# --- what is announced


def places(store):
    return [(offset // KIB, size // KIB) for offset, size in store.ranges]


async def test_what_is_announced_is_requested_at_once_and_exactly():
    store = MemoryStore(size=400 * MIB)
    store.gate.clear()
    wanted = [(300 * MIB + 7, 100_001), (20 * MIB, 5 * MIB), (90 * MIB, 1)]
    async with store.source() as source:
        source.expect(wanted)
        await store.wait_for(4)
        store.gate.set()
        for offset, size in wanted:
            await read_through(source, offset, offset + size, 32_768)
    assert sorted(store.ranges) == sorted([wanted[0], (20 * MIB, 4 * MIB), (24 * MIB, MIB), wanted[2]])


async def test_no_more_than_a_few_requests_are_under_way():
    store = MemoryStore(size=400 * MIB)
    store.gate.clear()
    async with store.source() as source:
        source.expect([(place * MIB, 1000) for place in range(0, 300, 3)])
        await store.wait_for(PARALLEL)
        await asyncio.sleep(0)
        assert len(store.ranges) == PARALLEL
        store.gate.set()
        await store.wait_for(100)
    assert store.ranges == [(place * MIB, 1000) for place in range(0, 300, 3)]


async def test_announced_ranges_are_one_request_where_the_gap_between_them_is_small():
    store = MemoryStore(size=400 * MIB)
    store.gate.clear()
    async with store.source() as source:
        source.expect([(0, 80 * KIB), (85 * KIB, 15 * KIB), (100 * KIB, 100 * KIB), (300 * KIB, 10 * KIB)])
        await store.wait_for(2)
    assert places(store) == [(0, 200), (300, 10)]


async def test_the_window_of_what_is_announced_moves_on_as_it_is_read_and_loses_nothing():
    store = MemoryStore(size=400 * MIB)
    cache_bytes = 16 * MIB
    async with store.source(cache_bytes=cache_bytes) as source:
        source.expect([(40 * MIB, 200 * MIB)])
        for offset in range(40 * MIB, 240 * MIB, 256 * KIB):
            await source.read(offset, 256 * KIB)
            await source.read(0, 10)  # and now and then elsewhere, far more than the cache holds
            await source.read((offset * 7) % (39 * MIB), 10)
            assert source._cache.pinned_bytes <= cache_bytes // 2
            assert source._cache.kept_bytes <= cache_bytes
    inside = [place for place in store.ranges if 40 * MIB <= place[0] < 240 * MIB]
    assert sum(size for _, size in inside) == 200 * MIB, "nothing is read twice"
    assert all(size >= PIECE_BYTES for _, size in inside)


async def test_what_is_skipped_of_the_announced_makes_room():
    store = MemoryStore(size=400 * MIB)
    async with store.source(cache_bytes=8 * MIB) as source:
        source.expect([(0, 100 * MIB), (200 * MIB, REQUEST_BYTES), (300 * MIB, MIB)])
        assert await source.read(200 * MIB, 10) == bytes(10)
        await source.read(200 * MIB + 3 * MIB, 10)
        await store.wait_for(len(store.ranges))
        await source.read(300 * MIB, 10)
    assert sum(size for offset, size in store.ranges if offset < 100 * MIB) < 10 * MIB
    assert sum(size for offset, size in store.ranges if offset >= 300 * MIB) == MIB


async def test_readers_go_their_own_ways_over_one_cache():
    store = MemoryStore(size=400 * MIB)
    async with store.source() as source:
        with source.reader() as first, source.reader() as second:
            for offset in range(0, 20 * MIB, 256 * KIB):
                await first.read(offset, 256 * KIB)
                await second.read(200 * MIB + offset, 256 * KIB)
            assert len(store.ranges) < 70, "both are runs"
            before = len(store.ranges)
            await first.read(205 * MIB, MIB)
            assert len(store.ranges) <= before + 1
    assert store.total <= 1.3 * 40 * MIB + 2 * MIB


async def test_a_reader_that_goes_leaves_nothing_kept_for_it():
    store = MemoryStore(size=400 * MIB)
    async with store.source(cache_bytes=16 * MIB) as source:
        with source.reader() as reader:
            reader.expect([(0, 100 * MIB)])
            await reader.read(0, 10)
            assert source._cache.pinned_bytes
        assert source._cache.pinned_bytes == 0
        requests = len(store.ranges)
        source.expect([(200 * MIB, 4 * MIB)])
        await source.read(200 * MIB, 4 * MIB)
    assert len(store.ranges) == requests + 1


async def test_a_failed_announced_range_is_asked_again_when_it_is_read():
    store = MemoryStore(size=400 * MIB)
    store.failures[5 * MIB] = TaskError(Code.STORAGE_UNAVAILABLE, "down", retryable=True)
    async with store.source() as source:
        source.expect([(5 * MIB, MIB)])
        await asyncio.gather(*source._cache._fetches, return_exceptions=True)
        assert await source.read(5 * MIB, 10) == bytes(10)
        assert source._cache.kept_bytes >= BLOCK_BYTES
    assert source._cache.pinned_bytes == 0


async def test_announcements_outside_the_object_are_ignored():
    store = MemoryStore(size=MIB)
    async with store.source() as source:
        source.expect([(2 * MIB, 10), (MIB, 10), (0, 0), (MIB - 5, 100)])
        assert await source.read(MIB - 5, 100) == bytes(5)
    assert store.ranges == [(MIB - 5, 5)]
