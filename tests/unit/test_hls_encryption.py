"""Encrypted segments: which key and vector hold, that any range decrypts, and that no key is ever shown."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import StoredObject
from tests.hls_world import KEY, SEGMENTS, World, content, encrypted, everything, keyed, media, refusal, segments, table
from worker.errors import Code
from worker.media.segments import SLOT_BYTES


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
