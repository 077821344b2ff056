"""Readers of a source who share a request, go away, or meet a failure: what each of them is told, and what it costs."""

import asyncio

import pytest

from tests.ranged_store import MIB, MemoryStore, read_through
from worker.errors import Code, TaskError
from worker.ports import ObjectInfo
from worker.source import BLOCK_BYTES


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
