"""What is read for a playlist, and that the virtual file has the segments' bytes."""

import pytest

from tests.fakes import StoredObject
from tests.hls_world import PLACE, PLAIN, SEGMENTS, World, content, everything, media, segments, table
from worker.adapters.hls import OPEN_OBJECTS
from worker.errors import TaskError
from worker.media.segments import SLOT_BYTES, Segment


async def test_any_other_object_is_given_as_it_is_at_one_request():
    world = World(b"not a playlist" * 100)
    async with world.open() as opened:
        assert not opened.segmented
        assert await opened.content.read(0, 2000) == b"not a playlist" * 100
    assert world.asked == [("read", PLACE.key)]


async def test_segments_are_listed_without_asking_for_any():
    world = World(media("#EXTINF:4,", "0.ts", "#EXTINF:2.5,", "1.ts", "#EXT-X-DISCONTINUITY", "#EXTINF:3", "2.ts"))
    async with world.open() as opened:
        rows = await table(opened)
    assert rows == (Segment(1, 0, 0, 0.0, 4.0), Segment(2, 0, 0, 4.0, 2.5), Segment(3, 0, 1, 6.5, 3.0))
    assert world.keys == [PLACE.key]


async def test_only_the_segment_that_is_read_is_asked_for_and_once():
    world = World(PLAIN)
    async with world.open() as opened:
        for _ in range(3):
            assert await content(opened, 2) == SEGMENTS["show/1.ts"]
    assert world.asked[2:] == [("stat", "show/1.ts"), ("read", "show/1.ts")]


async def test_after_a_segment_there_are_zeros():
    world = World(PLAIN)
    async with world.open() as opened:
        data = await opened.content.read(SLOT_BYTES, 1100)
        assert data == (1000).to_bytes(8) + SEGMENTS["show/0.ts"] + bytes(92)
        assert await opened.content.read(SLOT_BYTES + 5000, 7) == bytes(7)
        assert opened.content.size == 4 * SLOT_BYTES


async def test_a_byte_order_mark_and_crlf_are_taken():
    assert await everything(World(b"\xef\xbb\xbf" + PLAIN.replace(b"\n", b"\r\n"))) == list(SEGMENTS.values())


async def test_byte_ranges_go_on_where_the_last_one_ended():
    lines = ["#EXTINF:4,", "#EXT-X-BYTERANGE:10@5", "0.ts", "#EXTINF:4,", "#EXT-X-BYTERANGE:20", "0.ts"]
    world = World(media(*lines), {"show/0.ts": bytes(range(100))})
    assert await everything(world) == [bytes(range(5, 15)), bytes(range(15, 35))]
    assert world.asked[2:] == [("stat", "show/0.ts"), ("read", "show/0.ts")]


async def test_an_initialisation_section_comes_before_its_segments_and_starts_a_run():
    one, two = '#EXT-X-MAP:URI="i.mp4",BYTERANGE="4@1"', '#EXT-X-MAP:URI="j.mp4"'
    lines = [one, *segments("0.ts", "1.ts"), two, *segments("2.ts")]
    world = World(media(*lines), {"show/i.mp4": b"-init-", "show/j.mp4": b"other"})
    async with world.open() as opened:
        rows = await table(opened)
        assert [row.run for row in rows] == [0, 0, 1]
        assert [await content(opened, row.init_slot) for row in rows] == [b"init", b"init", b"other"]


async def test_a_gap_keeps_its_time_and_is_not_read():
    world = World(media("#EXTINF:4,", "0.ts", "#EXT-X-GAP", "#EXTINF:4,", "1.ts", "#EXTINF:4,", "2.ts"))
    async with world.open() as opened:
        assert [row.start_s for row in await table(opened)] == [0.0, 8.0]
    assert await everything(world) == [SEGMENTS["show/0.ts"], SEGMENTS["show/2.ts"]]
    assert "show/1.ts" not in world.keys


async def test_the_variant_of_the_highest_bandwidth_is_taken():
    variants = ["#EXT-X-STREAM-INF:BANDWIDTH=100", "low/x.m3u8", "#EXT-X-STREAM-INF:BANDWIDTH=900", "high/x.m3u8"]
    world = World(media(*variants, end=""), {"show/high/x.m3u8": media(*segments("a.ts", "../0.ts"))})
    world.store.objects["bucket", "show/high/a.ts"] = StoredObject(b"high", "", "tag")
    assert await everything(world) == [b"high", SEGMENTS["show/0.ts"]]
    assert not any("low" in key for key in world.keys)


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("0.ts?token=a/../b#x", "show/0.ts"),
        ("./sub/../0.ts", "show/0.ts"),
        ("a%20b/%C3%A9.ts", "show/a b/é.ts"),
        ("sub/x:y.ts", "show/sub/x:y.ts"),
        ("../show/0.ts", "show/0.ts"),
    ],
)
async def test_addresses_are_resolved_as_browsers_do(uri, key):
    world = World(media(*segments(uri)), {key: b"here"})
    assert await everything(world) == [b"here"]
    assert world.keys == [PLACE.key, key]


async def test_objects_that_are_done_with_are_forgotten():
    many = {f"show/{n}.ts": bytes([n]) * 10 for n in range(3 * OPEN_OBJECTS)}
    world = World(media(*segments(*(key.removeprefix("show/") for key in many))), many)
    async with world.open() as opened:
        for segment in await table(opened):
            await content(opened, segment.slot)
        assert len(opened.content._objects) == OPEN_OBJECTS
        assert await content(opened, 1) == many["show/0.ts"]


async def test_a_segment_that_changes_meanwhile_is_tried_again():
    world = World(PLAIN)
    async with world.open() as opened:
        await opened.content.read(SLOT_BYTES, 8)
        world.store.objects["bucket", "show/0.ts"] = StoredObject(b"y" * 1000, "", "new tag")
        with pytest.raises(TaskError, match="was changed") as caught:
            await content(opened, 1)
    assert caught.value.retryable
