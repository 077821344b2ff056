"""A playlist and its segments in memory, opened as a source; and the lines that playlists are made of."""

import io

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from tests.fakes import MemoryStore, StoredObject
from worker.adapters.hls import open_source
from worker.errors import TaskError
from worker.media.segments import LENGTH_BYTES, SLOT_BYTES, read_table
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


def keyed(*lines, uri="k.key", more=""):
    return media("#EXT-X-MEDIA-SEQUENCE:7", f'#EXT-X-KEY:METHOD=AES-128,URI="{uri}"{more}', *lines)
