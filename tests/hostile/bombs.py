"""Small files that claim, or unpack to, far more than they are: each made here, byte by byte.

`mp4` writes the index of a file by hand, so that it can lie; the pictures are real ones, unless said otherwise.
"""

import random
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from tests.boxes import box

MATRIX = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
TIMESCALE = 25


@dataclass(frozen=True)
class Index:
    """What an MP4's index says: how many samples, of `size` bytes, lie at each offset; and how long each is shown."""

    offsets: tuple[int, ...]
    size: int
    per_chunk: int = 1
    delta: int = 1
    timescale: int = TIMESCALE
    key_only_first: bool = False
    sizes: bytes = b""  # a table in place of one size for all

    @property
    def count(self) -> int:
        return len(self.offsets) * self.per_chunk


def full_box(kind: bytes, data: bytes) -> bytes:
    return box(kind, bytes(4) + data)


def jpeg(width: int, height: int) -> bytes:
    out = BytesIO()
    Image.new("RGB", (width, height), (30, 90, 200)).save(out, "JPEG")
    return out.getvalue()


def moov(index: Index, width: int = 64, height: int = 48) -> bytes:
    """The index of one video track of JPEGs."""
    duration = min(index.count * index.delta, 2**32 - 1)
    entry = struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 72 << 16, 72 << 16, 0, 1, 24, -1)
    sizes = struct.pack(">II", 0 if index.sizes else index.size, index.count) + index.sizes
    tables = (
        full_box(b"stsd", struct.pack(">I", 1) + box(b"jpeg", entry))
        + full_box(b"stts", struct.pack(">III", 1, index.count, index.delta))
        + full_box(b"stsc", struct.pack(">IIII", 1, 1, index.per_chunk, 1))
        + full_box(b"stsz", sizes)
        + full_box(b"stco", struct.pack(f">I{len(index.offsets)}I", len(index.offsets), *index.offsets))
    )
    if index.key_only_first:
        tables += full_box(b"stss", struct.pack(">II", 1, 1))
    header = struct.pack(">IIII", 0, 0, index.timescale, duration)
    data_reference = full_box(b"dref", struct.pack(">I", 1) + box(b"url ", b"\0\0\0\1"))
    media = (
        full_box(b"mdhd", header + bytes(4))
        + full_box(b"hdlr", bytes(4) + b"vide" + bytes(13))
        + box(b"minf", box(b"vmhd", b"\0\0\0\1" + bytes(8)) + box(b"dinf", data_reference) + box(b"stbl", tables))
    )
    track = full_box(
        b"tkhd", struct.pack(">III4xI16x", 0, 0, 1, duration) + MATRIX + struct.pack(">II", width << 16, height << 16)
    )
    return box(
        b"moov",
        full_box(b"mvhd", header + struct.pack(">IH10x", 1 << 16, 256) + MATRIX + bytes(24) + struct.pack(">I", 2))
        + box(b"trak", track + box(b"mdia", media)),
    )  # fmt: skip


FILE_TYPE = box(b"ftyp", b"isom\0\0\2\0isommp41")
DATA_AT = len(FILE_TYPE) + 8


def mp4(index_of, picture: bytes, *, spread: int = 0, copies: int = 1) -> bytes:
    """A file of `copies` of a picture, `spread` bytes from one to the next; `index_of` gives its `Index` by offsets."""
    step = max(spread, len(picture))
    data = picture.ljust(step, b"\0") * copies
    return FILE_TYPE + box(b"mdat", data) + moov(index_of([DATA_AT + step * n for n in range(copies)]))


def compressed_index(count: int) -> bytes:
    """An MP4 of one picture whose index of `count` samples is compressed (`cmov`)."""
    picture = jpeg(64, 48)
    sizes = struct.pack(">I", len(picture)) * count
    plain = moov(Index((DATA_AT,), len(picture), per_chunk=count, sizes=sizes))
    packed = struct.pack(">I", len(plain)) + quickly_compressed(plain, plain.find(b"stsz") + 16, sizes)
    return FILE_TYPE + box(b"mdat", picture) + box(b"moov", box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", packed)))


def quickly_compressed(plain: bytes, at: int, table: bytes) -> bytes:
    """Compress bytes that have a table of equal entries at `at`, most of which is compressed only once."""
    block, packer = table[: 2**20], zlib.compressobj(9, wbits=-15)
    parts = [packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH) for part in (plain[:at], block)]
    times = len(table) // len(block)
    rest = packer.compress(plain[at + times * len(block) :]) + packer.flush()
    return b"\x78\xda" + parts[0] + parts[1] * times + rest + struct.pack(">I", zlib.adler32(plain))


def claimed_frames(count: int) -> bytes:
    """An MP4 of one picture whose index claims `count` of them, without a table that long."""
    picture = jpeg(64, 48)
    return mp4(lambda at: Index((at[0],), len(picture), per_chunk=count), picture)


def repeated_sample(count: int, *, key_only_first: bool = False) -> bytes:
    """An MP4 of one picture that its index names `count` times."""
    picture = jpeg(64, 48)
    return mp4(lambda at: Index((at[0],) * count, len(picture), key_only_first=key_only_first), picture)


def scattered(count: int, spread: int) -> bytes:
    """An MP4 whose frames lie `spread` bytes apart, and in no order."""
    picture = jpeg(64, 48)

    def index(offsets):
        random.Random(1).shuffle(offsets)
        return Index(tuple(offsets), len(picture))

    return mp4(index, picture, spread=spread, copies=count)


def years_long(count: int = 3) -> bytes:
    """An MP4 of a few pictures, each shown for 68 years."""
    picture = jpeg(64, 48)
    return mp4(lambda at: Index(tuple(at), len(picture), delta=2**31 - 1, timescale=1), picture, copies=count)


def huge_png(side: int) -> bytes:
    """A valid black PNG of `side` × `side` pixels of 24 bits."""
    rows = side * (1 + 3 * side)
    packer = zlib.compressobj(9)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)  # the same at each repetition
    whole, rest = divmod(rows, 2**20)
    tail = zlib.compressobj(9, wbits=-15)
    checksum = struct.pack(">I", (rows % 65521) << 16 | 1)  # Adler-32 of zeros
    data = block + again * (whole - 1) + tail.compress(bytes(rest)) + tail.flush() + checksum
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def with_cover(picture: bytes, mime: bytes = b"image/png", count: int = 1) -> bytes:
    """An MP3 of a second of silence with `count` front covers (ID3v2.3)."""
    frame = b"\0" + mime + b"\0\x03\0" + picture
    frames = (b"APIC" + struct.pack(">IH", len(frame), 0) + frame) * count
    size = bytes(len(frames) >> shift & 127 for shift in (21, 14, 7, 0))
    silence = (b"\xff\xfb\x90\xc4" + bytes(413)) * 40
    return b"ID3\x03\0\0" + size + frames + silence


def gif(width: int, height: int, count: int) -> bytes:
    """An animation of `count` frames of one pixel on a canvas of any size."""
    frame = b"!\xf9\4\0\4\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * count + b";"
