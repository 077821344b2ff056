"""Changes to the structure of MP4 and Matroska files: what the muxers at hand cannot write."""

import struct

SKIPPED = {b"stsd": 8, b"avc1": 78, b"hvc1": 78}
"""Bytes of fields that stand before the boxes inside."""


def box(kind, data):
    """A box of ISO/IEC 14496-12."""
    return struct.pack(">I4s", 8 + len(data), kind) + data


def with_box(data, path, added):
    """Append a box to the one at `path`, such as `moov.trak`; `mdat` has to stand before `moov`."""
    first, _, rest = path.partition(".")
    out, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + size]
        if kind == first.encode():
            skipped = SKIPPED.get(kind, 0)
            body = body[:skipped] + with_box(body[skipped:], rest, added) if rest else body + added
            out += box(kind, body)
        else:
            out += data[at : at + size]
        at += size
    return out


def sample_entry(codec):
    """The path of the first track's description."""
    return f"moov.trak.mdia.minf.stbl.stsd.{codec}"


def clean_aperture(width, height, x, y):
    """The box `clap`; `x` and `y` are from the picture's centre to the aperture's."""
    return box(b"clap", struct.pack(">8i", width, 1, height, 1, x, 1, y, 1))


def dolby_vision(profile, compatibility):
    """The configuration record of Dolby Vision, a base layer with metadata."""
    return box(b"dvcC", bytes([1, 0, profile << 1, 6 << 3 | 0b101, compatibility << 4]) + bytes(19))


def element(number, data):
    """An EBML element of RFC 8794: its number in hexadecimal, its size in eight bytes, its data."""
    return bytes.fromhex(number) + (len(data) | 1 << 56).to_bytes(8, "big") + data


def with_element(data, path, added):
    """Append an element to the one at `path`, numbers in hexadecimal; offsets to what lies behind it are then wrong."""
    first, *rest = path
    out, at = b"", 0
    while at < len(data):
        start = at + 9 - data[at].bit_length()
        length = 9 - data[start].bit_length()
        size = int.from_bytes(data[start : start + length]) & ((1 << 7 * length) - 1)
        body = data[start + length : start + length + size]
        if data[at:start] == bytes.fromhex(first):
            out += element(first, with_element(body, rest, added) if rest else body + added)
        else:
            out += data[at : start + length + size]
        at = start + length + size
    return out


def pixel_crop(**sides):
    """The elements that cut so many pixels from the `bottom`, `top`, `left` and `right`."""
    numbers = {"bottom": "54AA", "top": "54BB", "left": "54CC", "right": "54DD"}
    return b"".join(element(numbers[side], bytes([pixels])) for side, pixels in sides.items())


VIDEO_SETTINGS = ("18538067", "1654AE6B", "AE", "E0")
"""Where a Matroska file tells of its first track's pictures."""
