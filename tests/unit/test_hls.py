"""What a playlist may name, what is read for it, and that the virtual file has the segments' bytes."""

import asyncio
import io

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import MemoryStore, StoredObject
from worker.adapters.hls import OPEN_OBJECTS, open_source
from worker.adapters.hls_playlist import MAX_BYTES, MAX_SEGMENTS
from worker.errors import Code, TaskError
from worker.media.segments import LENGTH_BYTES, SLOT_BYTES, Segment, SegmentStream, read_table
from worker.ports import ObjectInfo
from worker.settings import MIB
from worker.task import Location

PLACE = Location("oss", "bucket", "show/main.m3u8")
KEY = bytes(range(16))
SEGMENTS = {f"show/{n}.ts": bytes([n]) * 1000 for n in range(3)}


def media(*lines, end="#EXT-X-ENDLIST"):
    return "\n".join(("#EXTM3U", "#EXT-X-TARGETDURATION:4", *lines, end)).encode()


def segments(*uris):
    return [line for uri in uris for line in ("#EXTINF:4,", uri)]


PLAIN = media(*segments("0.ts", "1.ts", "2.ts"))


def encrypted(data, iv, key=KEY):
    padder = PKCS7(128).padder()
    return Cipher(AES128(key), CBC(iv)).encryptor().update(padder.update(data) + padder.finalize())


class World:
    """A store with a playlist and what is beside it; tells what was asked of it."""

    def __init__(self, playlist, more=None):
        everything = {"show/main.m3u8": playlist, **SEGMENTS, **(more or {})}
        self.store = MemoryStore({("bucket", key): StoredObject(data, "", "tag") for key, data in everything.items()})
        self.asked = []
        self.store.before = self.note

    async def note(self, operation, key):
        self.asked.append((operation, key))

    def open(self, *, max_bytes=100 * MIB):
        size = len(self.store.objects["bucket", PLACE.key].data)
        return open_source(self.store, PLACE, ObjectInfo(size, "tag"), cache_bytes=4 * MIB, max_bytes=max_bytes)

    @property
    def keys(self):
        return list(dict.fromkeys(key for _, key in self.asked))


async def content(opened, slot):
    length = int.from_bytes(await opened.content.read(slot * SLOT_BYTES, LENGTH_BYTES))
    return await opened.content.read(slot * SLOT_BYTES + LENGTH_BYTES, length)


async def table(opened):
    return read_table(io.BytesIO(len(data := await content(opened, 0)).to_bytes(LENGTH_BYTES) + data))


async def everything(world):
    async with world.open() as opened:
        assert opened.segmented
        return [await content(opened, segment.slot) for segment in await table(opened)]


async def refusal(world, **options):
    """The code and message with which a source is refused, when it is opened or read to the end."""

    async def read_all():
        async with world.open(**options) as opened:
            for segment in await table(opened):
                for slot in filter(None, (segment.init_slot, segment.slot)):
                    await content(opened, slot)

    with pytest.raises(TaskError) as caught:
        await read_all()
    assert not caught.value.retryable
    return caught.value.code, caught.value.message


# --- what is read


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


# --- encryption


def keyed(*lines, uri="k.key", more=""):
    return media("#EXT-X-MEDIA-SEQUENCE:7", f'#EXT-X-KEY:METHOD=AES-128,URI="{uri}"{more}', *lines)


async def test_the_vector_is_the_sequence_number_or_that_of_the_tag():
    given_iv = bytes(range(100, 116))
    tag = f'#EXT-X-KEY:METHOD=AES-128,URI="k.key",IV=0x{given_iv.hex()}'
    lines = [*segments("0.ts", "1.ts"), tag, *segments("2.ts"), "#EXT-X-KEY:METHOD=NONE", *segments("3.ts")]
    objects = {
        "show/k.key": KEY,
        "show/0.ts": encrypted(b"first", (7).to_bytes(16)),
        "show/1.ts": encrypted(b"second" * 50, (8).to_bytes(16)),
        "show/2.ts": encrypted(b"", given_iv),
        "show/3.ts": b"open",
    }
    world = World(keyed(*lines), objects)
    assert await everything(world) == [b"first", b"second" * 50, b"", b"open"]
    assert world.asked.count(("read", "show/k.key")) == 1


async def test_an_initialisation_section_has_the_key_that_held_when_it_was_named():
    iv = bytes(16)
    head = ['#EXT-X-KEY:METHOD=AES-128,URI="k.key",IV=0x0', '#EXT-X-MAP:URI="i.mp4"', "#EXT-X-KEY:METHOD=NONE"]
    world = World(media(*head, *segments("0.ts")), {"show/i.mp4": encrypted(b"init", iv), "show/k.key": KEY})
    async with world.open() as opened:
        (row,) = await table(opened)
        assert await content(opened, row.init_slot) == b"init"
        assert await content(opened, row.slot) == SEGMENTS["show/0.ts"]


@given(size=st.integers(0, 200), reads=st.lists(st.tuples(st.integers(0, 230), st.integers(1, 90)), max_size=8))
def test_any_range_of_a_decrypted_segment_equals_slicing(size, reads):
    plain = bytes(n * 7 % 256 for n in range(size))
    file = size.to_bytes(8) + plain + bytes(400)

    async def check():
        world = World(keyed(*segments("0.ts")), {"show/k.key": KEY, "show/0.ts": encrypted(plain, (7).to_bytes(16))})
        async with world.open() as opened:
            for start, length in reads:
                assert await opened.content.read(SLOT_BYTES + start, length) == file[start : start + length]

    asyncio.run(check())


@pytest.mark.parametrize("key", [b"", KEY[:15], KEY + b"\n", KEY.hex().encode()])
async def test_a_key_of_another_length_is_corrupt_and_not_even_read(key):
    world = World(keyed(*segments("0.ts")), {"show/k.key": key, "show/0.ts": encrypted(b"x", bytes(16))})
    code, message = await refusal(world)
    assert code == Code.CORRUPT_MEDIA
    assert f"show/k.key: an AES-128 key has 16 bytes; this has {len(key)}" in message
    assert ("read", "show/k.key") not in world.asked


async def test_another_key_is_told_without_showing_it():
    other = b"OTHER-KEY-SECRET"
    world = World(keyed(*segments("0.ts")), {"show/k.key": other, "show/0.ts": encrypted(b"x" * 99, (7).to_bytes(16))})
    code, message = await refusal(world)
    assert code == Code.CORRUPT_MEDIA
    assert "show/0.ts cannot be decrypted with oss://bucket/show/k.key" in message
    assert "SECRET" not in message


async def test_a_key_shows_in_no_representation():
    secret = b"OPEN-KEY--SECRET"
    world = World(keyed(*segments("0.ts")), {"show/k.key": secret})
    world.store.objects["bucket", "show/0.ts"] = StoredObject(encrypted(b"x", (7).to_bytes(16), secret), "", "tag")
    async with world.open() as opened:
        assert await content(opened, 1) == b"x"
        assert secret.decode() not in repr(opened) + repr(opened.content._slots)


async def test_a_cut_encrypted_segment_is_corrupt():
    world = World(keyed(*segments("0.ts")), {"show/k.key": KEY, "show/0.ts": encrypted(b"x" * 99, bytes(16))[:-1]})
    code, message = await refusal(world)
    assert code == Code.CORRUPT_MEDIA
    assert "multiples of 16" in message


@pytest.mark.parametrize("tag", ["METHOD=SAMPLE-AES", "METHOD=AES-256", 'METHOD=AES-128,KEYFORMAT="com.apple.fps"'])
async def test_other_encryption_is_unsupported(tag):
    world = World(media(f'#EXT-X-KEY:{tag},URI="k.key"', *segments("0.ts")))
    code, message = await refusal(world)
    assert code == Code.UNSUPPORTED_MEDIA
    assert "AES-128 with a plain key" in message


# --- attacks

OUTSIDE = [
    "http://169.254.169.254/latest/meta-data", "https://example.org/a.ts", "file:///etc/passwd", "oss://other/a.ts",
    "s3://bucket/show/0.ts", "concat:a|b", "data:text/plain,x", "subfile,,start,0,end,9,,:/etc/passwd",
    "//example.org/a.ts", "/etc/passwd", "/show/0.ts", "../secret.ts", "sub/../../secret.ts", "%2e%2e/secret.ts",
    "..%2fsecret.ts", "%2Fetc/passwd/../../..", "../../../x", "../showcase/0.ts", "../show",
]  # fmt: skip


@pytest.mark.parametrize("uri", [uri for uri in OUTSIDE if not uri.startswith("subfile")])
@pytest.mark.parametrize(
    "playlist",
    [
        lambda uri: media(*segments("0.ts", uri)),
        lambda uri: media(f'#EXT-X-MAP:URI="{uri}"', *segments("0.ts")),
        lambda uri: keyed(*segments("0.ts"), uri=uri),
        lambda uri: media("#EXT-X-STREAM-INF:BANDWIDTH=1", uri, end=""),
    ],
    ids=["segment", "map", "key", "variant"],
)
async def test_what_lies_elsewhere_is_refused_by_name_and_nothing_is_read(playlist, uri):
    world = World(playlist(uri), {"secret.ts": b"secret", "showcase/0.ts": b"secret", "show": b"secret"})
    code, message = await refusal(world)
    assert code == Code.ACCESS_DENIED
    assert repr(uri) in message
    assert world.keys == [PLACE.key]


@pytest.mark.parametrize(
    "uri", ["a\\..\\b.ts", "%00.ts", "%252e%252e/secret.ts", "a//b.ts", "?only=query", "x" * 2_000_000]
)
async def test_addresses_that_no_key_can_have_reach_no_object(uri):
    world = World(media(*segments(uri)), {"secret.ts": b"secret"})
    code, message = await refusal(world)
    assert code in {Code.INVALID_ARGUMENT, Code.ACCESS_DENIED}
    assert len(message) < 600
    assert world.keys == [PLACE.key]


async def test_odd_schemes_without_a_colon_up_front_are_just_names():
    code, message = await refusal(World(media(*segments(OUTSIDE[7]))))
    assert (code, "there is no such object" in message) == (Code.RESOURCE_NOT_FOUND, True)


async def test_a_playlist_at_the_top_of_a_bucket_may_name_all_of_it_and_nothing_above():
    top = Location("oss", "bucket", "main.m3u8")
    store = MemoryStore({("bucket", "main.m3u8"): StoredObject(media(*segments("deep/er/0.ts")), "", "tag")})
    async with open_source(store, top, await store.stat(top), cache_bytes=MIB, max_bytes=MIB) as opened:
        assert opened.segmented
    store.objects["bucket", "main.m3u8"] = StoredObject(media(*segments("../other/0.ts")), "", "tag")
    with pytest.raises(TaskError, match="AccessDenied"):
        async with open_source(store, top, await store.stat(top), cache_bytes=MIB, max_bytes=MIB):
            pass


MASTER = media("#EXT-X-STREAM-INF:BANDWIDTH=1", "next.m3u8", end="")


@pytest.mark.parametrize(
    ("playlist", "more", "code", "says"),
    [
        (media("#EXT-X-STREAM-INF:BANDWIDTH=1", "main.m3u8", end=""), {}, Code.CORRUPT_MEDIA, "a master again"),
        (MASTER, {"show/next.m3u8": MASTER}, Code.CORRUPT_MEDIA, "a master again"),
        (MASTER, {"show/next.m3u8": b"\x47" * 188}, Code.CORRUPT_MEDIA, "starts with #EXTM3U"),
        (MASTER, {"show/next.m3u8": b""}, Code.CORRUPT_MEDIA, "starts with #EXTM3U"),
        (MASTER, {}, Code.RESOURCE_NOT_FOUND, "show/next.m3u8"),
        (MASTER, {"show/next.m3u8": bytes(MAX_BYTES + 1)}, Code.LIMIT_EXCEEDED, "at most 4194304"),
        (b"#EXTM3U", {}, Code.CORRUPT_MEDIA, "no segments"),
        (media(), {}, Code.CORRUPT_MEDIA, "no segments"),
        (b"#EXTM3U\nhello\n", {}, Code.CORRUPT_MEDIA, "no segments"),
        (media(*segments("0.ts"), end=""), {}, Code.INVALID_ARGUMENT, "#EXT-X-ENDLIST"),
        (media("#EXT-X-I-FRAMES-ONLY", *segments("0.ts")), {}, Code.UNSUPPORTED_MEDIA, "fast winding"),
        (media(*segments("0.ts") * (MAX_SEGMENTS + 1)), {}, Code.LIMIT_EXCEEDED, "more than 50000 segments"),
        (b"#EXTM3U\n" + b"#\n" * (MAX_BYTES // 2), {}, Code.LIMIT_EXCEEDED, "at most 4194304"),
        (b"#EXTM3U\n\xff\xfe", {}, Code.CORRUPT_MEDIA, "UnicodeDecodeError"),
        (media("#EXTINF:nan,", "0.ts"), {}, Code.CORRUPT_MEDIA, "nan s"),
        (media("#EXTINF:inf,", "0.ts"), {}, Code.CORRUPT_MEDIA, "inf s"),
        (media("#EXTINF:1e999,", "0.ts"), {}, Code.CORRUPT_MEDIA, "inf s"),
        (media("#EXTINF:1e300,", "0.ts"), {}, Code.CORRUPT_MEDIA, "1e+300 s"),
        (media("#EXTINF:-1,", "0.ts"), {}, Code.CORRUPT_MEDIA, "-1.0 s"),
        (media("#EXTINF:many,", "0.ts"), {}, Code.CORRUPT_MEDIA, "many"),
        (media("#EXT-X-BYTERANGE:5", "0.ts"), {}, Code.CORRUPT_MEDIA, "duration"),
        (media("#EXT-X-MEDIA-SEQUENCE:x", *segments("0.ts")), {}, Code.CORRUPT_MEDIA, "invalid literal"),
        (media("#EXT-X-MEDIA-SEQUENCE:" + "9" * 5000, *segments("0.ts")), {}, Code.CORRUPT_MEDIA, "4300 digits"),
        (media("#EXT-X-MAP:BYTERANGE=1@0", *segments("0.ts")), {}, Code.CORRUPT_MEDIA, "uri"),
        (media("#EXT-X-KEY:METHOD=AES-128", *segments("0.ts")), {}, Code.CORRUPT_MEDIA, "uri"),
        (media("#EXT-X-KEY:nothing", *segments("0.ts")), {}, Code.CORRUPT_MEDIA, "damaged"),
        (keyed(*segments("0.ts"), more=",IV=0xZZ"), {}, Code.CORRUPT_MEDIA, "0xZZ"),
        (keyed(*segments("0.ts"), more=f",IV=0x{'f' * 33}"), {}, Code.CORRUPT_MEDIA, "too big"),
        (keyed('#EXT-X-MAP:URI="i.mp4"', *segments("0.ts")), {}, Code.CORRUPT_MEDIA, "no IV"),
    ],
)
async def test_a_bad_playlist_is_refused_with_what_is_wrong(playlist, more, code, says):
    found, message = await refusal(World(playlist, more))
    assert (found, says in message) == (code, True), message


@pytest.mark.parametrize("span", ["0@0", "-5@0", "5@-5", "x@0", "@", "5@5@5", "999999999999999@0", "10@995", "2000"])
async def test_a_byte_range_that_no_object_has_is_corrupt(span):
    world = World(media(*segments("0.ts"), f"#EXT-X-BYTERANGE:{span}", *segments("1.ts")))
    code, _ = await refusal(world)
    assert code == Code.CORRUPT_MEDIA


async def test_what_the_segments_add_up_to_is_limited():
    code, message = await refusal(World(PLAIN), max_bytes=2500)
    assert code == Code.LIMIT_EXCEEDED
    assert message.endswith("the limit LIMITS__SOURCE_BYTES is 2500")


async def test_an_endless_list_of_keys_is_read_in_no_time():
    lines = [f'#EXT-X-KEY:METHOD=AES-128,URI="{n}"' for n in range(60_000)]
    world = World(media(*lines, "#EXT-X-KEY:METHOD=NONE", *segments("0.ts")))
    async with asyncio.timeout(20):
        assert await everything(world) == [SEGMENTS["show/0.ts"]]


async def test_a_segment_that_changes_meanwhile_is_tried_again():
    world = World(PLAIN)
    async with world.open() as opened:
        await opened.content.read(SLOT_BYTES, 8)
        world.store.objects["bucket", "show/0.ts"] = StoredObject(b"y" * 1000, "", "new tag")
        with pytest.raises(TaskError, match="was changed") as caught:
            await content(opened, 1)
    assert caught.value.retryable


# --- the stream of bytes from a segment on


def virtual(*slots):
    file = io.BytesIO()
    for number, data in enumerate(slots):
        file.seek(number * 1000)
        file.write(len(data).to_bytes(LENGTH_BYTES) + data)
    return file


@pytest.mark.parametrize(
    ("place", "expected"), [(0, b"IJaaabbKc"), (1, b"IJbbKc"), (2, b"Kc")], ids=["first", "second", "third"]
)
def test_a_stream_starts_at_any_segment_with_what_comes_before_it(monkeypatch, place, expected):
    monkeypatch.setattr("worker.media.segments.SLOT_BYTES", 1000)
    file = virtual(b"", b"IJ", b"aaa", b"", b"bb", b"K", b"c")
    rows = [Segment(2, 1, 0, 0, 1), Segment(4, 1, 0, 1, 1), Segment(6, 5, 0, 2, 1)]
    stream = SegmentStream(file, rows, place)
    assert b"".join(iter(lambda: stream.read(2), b"")) == expected
    assert stream.place == 2
    assert stream.seek(0) == 0
    assert stream.place == place
    assert expected.startswith(stream.read(100))
    with pytest.raises(io.UnsupportedOperation):
        stream.seek(0, io.SEEK_END)
    assert not stream.seekable()


def test_streams_of_one_file_do_not_disturb_each_other(monkeypatch):
    monkeypatch.setattr("worker.media.segments.SLOT_BYTES", 1000)
    file = virtual(b"", b"abcdef", b"uvwxyz")
    rows = [Segment(1, 0, 0, 0, 1), Segment(2, 0, 0, 1, 1)]
    one, other = SegmentStream(file, rows, 0), SegmentStream(file, rows, 1)
    assert [one.read(2), other.read(3), one.read(2), other.read(3), one.read(9), one.read(9)] == [
        b"ab", b"uvw", b"cd", b"xyz", b"ef", b"uvwxyz",
    ]  # fmt: skip
