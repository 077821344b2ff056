"""Images on their way to the store: bounded, complete, and stopped by the first failure."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.messages import snapshots
from tests.fakes import MemoryStore
from worker.errors import Code, TaskError
from worker.media.plan import Image
from worker.messages import parse_task
from worker.settings import LimitSettings
from worker.uploads import Uploads

DENIED = TaskError(Code.ACCESS_DENIED, "not yours")
PASSING = TaskError(Code.STORAGE_UNAVAILABLE, "not now", retryable=True)


def make_task(*uris):
    return parse_task(
        json.dumps(snapshots(*(uris or ("oss://out-bucket/{index}.jpg",)))).encode(),
        message_id="task-1",
        timestamp=None,
        headers={},
        limits=LimitSettings(),
        received_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


def image(index, size=10, entry=0, **more):
    data = bytes([index % 256]) * size
    return Image(
        entry, index, Fraction(index, 3), Fraction(0), 7, True, 4, 3, data,
        hashlib.sha256(data).hexdigest(), **more,
    )  # fmt: skip


async def turns():
    for _ in range(50):
        await asyncio.sleep(0)


class Doors:
    """Lets each upload through only when it is told to."""

    def __init__(self, store):
        self.waiting = []
        self._open = {}
        store.before = self

    async def __call__(self, operation, what):
        self.waiting.append(what)
        await self._open.setdefault(what, asyncio.Event()).wait()
        self.waiting.remove(what)

    async def open(self, what):
        self._open[what].set()
        await turns()


async def test_each_image_is_stored_and_listed_as_it_is():
    store = MemoryStore()
    async with Uploads(store, make_task("oss://out-bucket/a.jpg", "oss://out-bucket/b/{index:03d}"), 1000) as uploads:
        await uploads.put(image(5, entry=1, dhash=9, score=Fraction(50), repeated=True))
    ((), (frame,)) = map(tuple, uploads.frames)
    stored = store.objects["out-bucket", "b/005"]
    assert (stored.data, stored.content_type) == (bytes([5]) * 10, "image/jpeg")
    assert (frame.uri, frame.etag, frame.bytes) == ("oss://out-bucket/b/005", stored.etag, 10)
    assert (frame.index, frame.time_s, frame.source_pts, frame.key_frame) == (5, Fraction(5, 3), 7, True)
    assert (frame.width, frame.height, frame.dhash, frame.score, frame.repeated) == (4, 3, 9, 50, True)
    assert frame.sha256 == hashlib.sha256(stored.data).hexdigest()


async def test_as_many_go_at_once_as_fit_the_window():
    store = MemoryStore()
    doors = Doors(store)
    async with Uploads(store, make_task(), 30) as uploads:
        for index in (1, 2, 3):
            await uploads.put(image(index))
        fourth = asyncio.create_task(uploads.put(image(4)))
        await turns()
        assert (doors.waiting, fourth.done()) == (["1.jpg", "2.jpg", "3.jpg"], False)
        await doors.open("2.jpg")
        assert (doors.waiting, fourth.done()) == (["1.jpg", "3.jpg", "4.jpg"], True)
        for each in ("1.jpg", "3.jpg", "4.jpg"):
            await doors.open(each)
    assert sorted(frame.index for frame in uploads.frames[0]) == [1, 2, 3, 4]


async def test_one_image_may_exceed_the_window_alone():
    store = MemoryStore()
    doors = Doors(store)
    async with Uploads(store, make_task(), 30) as uploads:
        await uploads.put(image(1, size=100))
        second = asyncio.create_task(uploads.put(image(2)))
        await turns()
        assert not second.done()
        await doors.open("1.jpg")
        third = asyncio.create_task(uploads.put(image(3, size=100)))
        await turns()
        assert (second.done(), third.done()) == (True, False)
        await doors.open("2.jpg")
        assert third.done()
        await doors.open("3.jpg")


async def test_leaving_waits_for_all():
    store = MemoryStore()
    doors = Doors(store)

    async def use():
        async with Uploads(store, make_task(), 1000) as uploads:
            for index in range(1, 4):
                await uploads.put(image(index))
        return uploads

    task = asyncio.create_task(use())
    await turns()
    for index in range(1, 4):
        assert not task.done()
        await doors.open(f"{index}.jpg")
    assert len((await task).frames[0]) == 3


@pytest.mark.parametrize("full", [False, True])
async def test_the_first_failure_ends_the_others_and_whoever_waits(full):
    """Also while the body waits for room, or for something else."""
    store = MemoryStore()
    reached = []

    async def before(operation, what):
        reached.append(what)
        if what == "2.jpg":
            await turns()
            raise DENIED
        await asyncio.Event().wait()

    store.before = before
    uploads = Uploads(store, make_task(), 20)

    async def use():
        async with uploads:
            await uploads.put(image(1))
            await uploads.put(image(2))
            await (uploads.put(image(3)) if full else asyncio.Event().wait())

    with pytest.raises(ExceptionGroup) as caught:
        await use()
    assert caught.value.exceptions == (DENIED,)
    assert (uploads.frames, reached, store.objects) == ([[]], ["1.jpg", "2.jpg"], {})


async def test_an_error_of_the_body_that_may_pass_ends_the_uploads():
    store = MemoryStore()
    Doors(store)

    async def use():
        async with Uploads(store, make_task(), 1000) as uploads:
            await uploads.put(image(1))
            await turns()
            raise PASSING

    with pytest.raises(ExceptionGroup) as caught:
        await use()
    assert caught.value.exceptions == (PASSING,)
    assert store.objects == {}


async def test_an_error_of_the_body_for_good_waits_for_the_uploads():
    store = MemoryStore()
    doors = Doors(store)

    async def use():
        async with Uploads(store, make_task(), 1000) as uploads:
            await uploads.put(image(1))
            await turns()
            raise DENIED

    using = asyncio.create_task(use())
    await turns()
    assert not using.done()
    await doors.open(doors.waiting[0])
    with pytest.raises(TaskError) as caught:
        await using
    assert caught.value is DENIED
    assert len(store.objects) == 1


async def test_cancelling_ends_the_uploads():
    store = MemoryStore()
    doors = Doors(store)

    async def use():
        async with Uploads(store, make_task(), 1000) as uploads:
            await uploads.put(image(1))

    task = asyncio.create_task(use())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert doors.waiting == ["1.jpg"], "it was under way"
    assert store.objects == {}


async def test_the_time_is_how_long_any_were_under_way():
    """Not the sum over uploads that ran side by side, nor the pauses between."""
    clock = asyncio.get_running_loop().time
    store = MemoryStore()
    doors = Doors(store)
    uploads = Uploads(store, make_task(), 1000)
    async with uploads:
        began = clock()
        for index in range(1, 11):
            await uploads.put(image(index))
        await turns()
        for index in range(1, 11):
            await doors.open(f"{index}.jpg")
        took_s = clock() - began
    assert 0 < uploads.seconds <= took_s


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 60))
def test_whatever_the_sizes_all_arrive_within_the_window(sizes, window):
    async def use():
        store, peak = MemoryStore(), 0
        uploads = Uploads(store, make_task(), window)

        async def before(operation, what):
            nonlocal peak
            peak = max(peak, uploads._pending_bytes)
            await asyncio.sleep(0)

        store.before = before
        async with uploads:
            for index, size in enumerate(sizes, 1):
                await uploads.put(image(index, size))
        return uploads, peak

    uploads, peak = asyncio.run(use())
    assert sorted(frame.index for frame in uploads.frames[0]) == list(range(1, len(sizes) + 1))
    assert peak <= max(window, *sizes)
