"""What readers announce is requested at once and exactly, within a window that moves on as it is read."""

import asyncio

from tests.ranged_store import KIB, MIB, MemoryStore, read_through
from worker.errors import Code, TaskError
from worker.ranges import PIECE_BYTES, REQUEST_BYTES
from worker.source import BLOCK_BYTES, PARALLEL


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
