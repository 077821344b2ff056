"""What a playlist may name and hold: nothing outside of its directory, nothing damaged, nothing without limit."""

import asyncio

import m3u8
import pytest

from tests.fakes import MemoryStore, StoredObject
from tests.hls_world import PLACE, PLAIN, SEGMENTS, World, everything, keyed, media, refusal, segments
from worker.adapters.hls import open_source
from worker.adapters.hls_playlist import MAX_BYTES, MAX_LINE_BYTES, MAX_SEGMENTS
from worker.errors import Code, TaskError
from worker.settings import MIB
from worker.task import Location

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
    "uri", ["a\\..\\b.ts", "%00.ts", "%252e%252e/secret.ts", "a//b.ts", "?only=query", "x" * 10_000]
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
        (media(*["0.ts"] * (MAX_SEGMENTS + 1)), {}, Code.LIMIT_EXCEEDED, "more than 50000 addresses"),
        (media(*["#EXT-X-MAP:A=1"] * (MAX_SEGMENTS + 1)), {}, Code.LIMIT_EXCEEDED, "more than 50000 #EXT-X-MAP"),
        (media(*["#EXT-X-BYTERANGE:1"] * (MAX_SEGMENTS + 1)), {}, Code.LIMIT_EXCEEDED, "50000 #EXT-X-BYTERANGE"),
        (media("#EXT-X-KEY:" + "a" * MAX_LINE_BYTES), {}, Code.LIMIT_EXCEEDED, "a line of 16396 bytes; at most 16384"),
        (media(*segments("%41" * MAX_LINE_BYTES)), {}, Code.LIMIT_EXCEEDED, "a line of 49153 bytes"),
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
    lines = [f'#EXT-X-KEY:METHOD=AES-128,URI="{n}"' for n in range(MAX_SEGMENTS - 1)]
    world = World(media(*lines, "#EXT-X-KEY:METHOD=NONE", *segments("0.ts")))
    async with asyncio.timeout(20):
        assert await everything(world) == [SEGMENTS["show/0.ts"]]


async def test_of_what_does_not_matter_the_library_sees_nothing(monkeypatch):
    """It takes seconds for a million lines, also for those that it ignores."""
    shown = []
    parse = m3u8.parse

    def watched(text, **options):
        shown.append(text)
        return parse(text, **options)

    monkeypatch.setattr(m3u8, "parse", watched)
    noise = ["", "# " + "x" * MAX_LINE_BYTES, "#EXT-X-DATERANGE:" + "x" * MAX_LINE_BYTES, *["#", ""] * MAX_SEGMENTS]
    world = World(media(*noise, "#EXTINF:4,so\u2028not.ts", "  0.ts\r", *noise))
    assert await everything(world) == [SEGMENTS["show/0.ts"]]
    assert shown == ["#EXTINF:4,so\n0.ts\n#EXT-X-ENDLIST"]
