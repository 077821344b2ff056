"""Which ranges a source requests as it is read, and that any sequence of reads gives the object's bytes."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ranged_store import MIB, MemoryStore, read_through
from worker.source import BLOCK_BYTES, MAX_AHEAD_BYTES


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
