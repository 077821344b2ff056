"""Which files look like media of the kinds that are supported, by their first bytes. Knows no library.

What looks like none FFmpeg does not get to see: text that names other files, for one, such as playlists. And FFmpeg
says the same of a damaged header and of something else altogether.
"""

HEAD_BYTES = 4096
SYNC = 0x47
PACKETS = (188, 192, 204)
"""Bytes from one sync byte of an MPEG transport stream to the next. The first may be anywhere: it was cut somewhere."""

_PACK = b"\0\0\1\xba"  # the start of each pack of an MPEG program stream, which may be cut too

_BOXES = (
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"skip", b"wide", b"pnot", b"uuid", b"udta", b"ediw",
    b"junk", b"pict", b"prfl", b"emsg", b"prft", b"meta",
)  # fmt: skip
_MARKS = (
    *((4, box) for box in _BOXES),
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska
    (8, b"AVI"), (8, b"WAVE"), (0, b"FLV\x01"), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # the last is ASF
    (0, b".RMF"), (0, b"OggS"), (0, b"GIF8"), (0, b"DKIF"), (0, b"\x06\x0e\x2b\x34"),  # the last is MXF
    (0, b"\x00\x00\x01"), (0, b"\x00\x00\x00\x01"),  # start codes: MPEG-PS, raw MPEG, H.264, HEVC
    (0, b"ID3"), (0, b"fLaC"), (0, b"\x0b\x77"), (0, b"\x77\x0b"), (0, b"MAC "), (8, b"AIFF"), (8, b"AIFC"),
    *((0, bytes([0xFF, header])) for header in b"\xe2\xe3\xf0\xf1\xf2\xf3\xf8\xf9\xfa\xfb"),  # AAC and MP3 frames
)  # fmt: skip


def is_media(head: bytes) -> bool:
    """Tell whether a file that starts with `head` is of a supported kind, or was once."""
    if head.startswith(b"\x89PNG"):
        return b"acTL" in head  # animated
    packed = head.lstrip(b"\0")  # MP3 and others may begin with nothing
    known = any(head.startswith(mark, at) or packed.startswith(mark, at) for at, mark in _MARKS)
    return known or _PACK in head or is_transport_stream(head)


def is_transport_stream(head: bytes) -> bool:
    """Tell whether `head` is MPEG-TS: sync bytes at the start of each packet, of three packets or more."""
    return any(len(found := head[at::size]) > 2 and set(found) == {SYNC} for size in PACKETS for at in range(size))
