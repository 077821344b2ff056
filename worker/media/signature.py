"""Which files look like media of the kinds that are supported, by their first bytes. Knows no library.

FFmpeg says the same of a damaged header and of something else altogether, and takes transport streams of a few packets
for other things. Only asked where FFmpeg could not open a file.
"""

HEAD_BYTES = 4096
SYNC = 0x47
PACKETS = ((0, 188), (4, 192), (0, 204))
"""Where the first sync byte of an MPEG transport stream is, and the bytes from one to the next."""

_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"skip", b"wide", b"pnot", b"uuid")
_MARKS = (
    *((4, box) for box in _BOXES),
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska
    (8, b"AVI "), (8, b"WAVE"), (0, b"FLV\x01"), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # the last is ASF
    (0, b".RMF"), (0, b"OggS"), (0, b"GIF8"), (0, b"DKIF"), (0, b"\x06\x0e\x2b\x34"),  # the last is MXF
    (0, b"\x00\x00\x01"), (0, b"\x00\x00\x00\x01"),  # start codes: MPEG-PS, raw MPEG, H.264, HEVC
    (0, b"ID3"), (0, b"fLaC"), (0, b"\x0b\x77"), (0, b"MAC "), (8, b"AIFF"), (8, b"AIFC"),
    *((0, bytes([0xFF, header])) for header in (0xF1, 0xF2, 0xF3, 0xF9, 0xFA, 0xFB)),  # AAC and MP3 frames
)  # fmt: skip


def is_media(head: bytes) -> bool:
    """Tell whether a file that starts with `head` is of a supported kind, or was once."""
    return is_transport_stream(head) or any(head.startswith(mark, at) for at, mark in _MARKS)


def is_transport_stream(head: bytes) -> bool:
    """Tell whether `head` is MPEG-TS: sync bytes at the start of each packet, of three packets or more."""
    return any(len(found := head[at::size]) > 2 and set(found) == {SYNC} for at, size in PACKETS)
