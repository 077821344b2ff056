"""Limits that the worker itself keeps: each is hit by its own number, and told with its name and value."""

import asyncio
import threading

import pytest

from tests.fakes import MemoryStore, StoredObject
from tests.handler_world import BODY, World, image, report
from worker.adapters.files import LocalStore
from worker.adapters.hls import open_source
from worker.errors import Code, TaskError
from worker.media.plan import EntryReport
from worker.read_budget import FREE_BYTES, ReadBudget
from worker.settings import MIB, LimitSettings, Settings
from worker.task import Location

PLACE = Location("oss", "in-bucket", "videos/sample.mp4")
SIZE = 40 * MIB


async def five_images(plan, source):
    for index in range(1, 6):
        yield image(index, size=2000)
    yield report(EntryReport(5, 0))


async def ended_with(**limits) -> tuple[str, str, int]:
    world = World(five_images, settings=Settings(limits=LimitSettings(**limits)))
    await world.do(BODY)
    return world.event["Code"], world.event["Message"], len(world.frames[0] or [])


async def test_a_task_within_its_limits_succeeds():
    assert await ended_with(frames=5, output_bytes=10_000) == ("", "", 5)


async def test_a_task_has_so_many_images_and_those_are_listed():
    code, message, stored = await ended_with(frames=3)
    assert (code, stored) == (Code.LIMIT_EXCEEDED, 3)
    assert message.endswith("the limit LIMITS__FRAMES is 3")


async def test_all_images_of_a_task_together_have_so_many_bytes():
    code, message, stored = await ended_with(output_bytes=7_000)
    assert (code, stored) == (Code.LIMIT_EXCEEDED, 3)
    assert message.endswith("the limit LIMITS__OUTPUT_BYTES is 7000")


async def read_back_and_forth(budget: ReadBudget, times: int, requests: list[str] | None = None) -> int:
    """Read both ends of a source in turns, with a cache that holds neither; gives how many bytes came.

    `requests` gets the names of those to the store.
    """
    made = [] if requests is None else requests
    objects = {(PLACE.bucket, PLACE.key): StoredObject(bytes(SIZE), "", "tag")}
    store = MemoryStore(objects, on_request=lambda operation, *_: made.append(operation))
    info = await store.stat(PLACE)
    opened = open_source(store, PLACE, info, cache_bytes=4 * MIB, max_bytes=SIZE, budget=budget)
    came = 0
    async with opened as source:
        for _ in range(times):
            for offset in range(0, SIZE, 8 * MIB):
                came += len(await source.content.read(offset, 4 * MIB))
    return came


async def test_a_source_is_read_again_and_again_only_so_often():
    budget = ReadBudget(2, 10_000)
    with pytest.raises(TaskError) as caught:
        await read_back_and_forth(budget, 100)
    assert caught.value.code == Code.LIMIT_EXCEEDED
    assert caught.value.message.endswith("the limit LIMITS__READ_RATIO is 2")
    assert 2 * SIZE - 8 * MIB <= budget.bytes <= 2 * SIZE + 8 * MIB


async def test_a_source_is_read_in_so_many_requests():
    requests = []
    with pytest.raises(TaskError) as caught:
        await read_back_and_forth(ReadBudget(1000, 12), 100, requests)
    assert (caught.value.code, requests.count("read")) == (Code.LIMIT_EXCEEDED, 12)
    assert caught.value.message.endswith("the limit LIMITS__READ_REQUESTS is 12")


async def test_a_small_source_may_be_read_more_often():
    budget = ReadBudget(1, 10_000)
    assert await read_back_and_forth(budget, 2) == SIZE
    assert SIZE < budget.bytes <= FREE_BYTES


async def test_no_moment_of_a_swap_lets_a_link_lead_out_of_the_root(tmp_path):
    """Someone makes a directory a symbolic link and back, as fast as it goes, while it is read."""
    root, secret = tmp_path / "buckets", tmp_path / "secret"
    for folder, content in ((root / "bucket" / "real", b"public"), (secret, b"secret")):
        folder.mkdir(parents=True)
        (folder / "a.mp4").write_bytes(content)
    swapped, link, real = root / "bucket" / "swapped", tmp_path / "link", root / "bucket" / "real"
    link.symlink_to(secret)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            real.rename(swapped)
            swapped.rename(real)
            link.rename(swapped)
            swapped.rename(link)

    store, place = LocalStore(root), Location("file", "bucket", "swapped/a.mp4")
    outcomes = {Code.ACCESS_DENIED: 0, Code.RESOURCE_NOT_FOUND: 0, Code.STORAGE_UNAVAILABLE: 0, "read": 0}
    swapping = asyncio.create_task(asyncio.to_thread(swap))
    try:
        while min(outcomes[Code.ACCESS_DENIED], outcomes["read"]) < 100:
            try:
                info = await store.stat(place)
                assert await store.read(place, 0, 6, info.etag) == b"public"
                outcomes["read"] += 1
            except TaskError as error:
                outcomes[Code(error.code)] += 1
    finally:
        done.set()
        await swapping
