"""Sources that no decoder should trust, with the answer to each; `test_broken_media` has those that are but damaged."""

import struct
from collections.abc import Callable
from io import BytesIO

from PIL import Image

from tests.boxes import box
from tests.hostile import bombs
from tests.hostile.rows import BadFile

ALL = {}
FIRST = {"Number": 1}
DHASH = {"Mode": "dhash", "Interval": 1, "Number": 1}
MAKER = "the source is none of the supported containers"


def unsupported(data: bytes) -> BadFile:
    return BadFile(data, "UnsupportedMedia", MAKER)


def corrupt(data: bytes, says: str = "") -> BadFile:
    return BadFile(data, "CorruptMedia", says)


def nothing(data: bytes) -> BadFile:
    return BadFile(data, "ResourceNotFound", "no video stream and no embedded picture")


def limited(data: Callable[[], bytes], setting: str, snapshot=None, count: int = 0) -> BadFile:
    return BadFile(data, "LimitExceeded", f"limit {setting} is", FIRST if snapshot is None else snapshot, count)


def fine(data: bytes, count: int, snapshot, *warnings: str) -> BadFile:
    return BadFile(data, "", "", snapshot, count, warnings)


def still(kind: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", (16, 16)).save(out, kind)
    return out.getvalue()


def silent_wave() -> bytes:
    data = bytes(8000)
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 8000, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 8000
    )
    return head + data


def lying(**changes) -> bytes:
    """An MP4 of one picture with a false index."""
    picture = bombs.jpeg(64, 48)

    def index(offsets):
        return bombs.Index(**{"offsets": tuple(offsets), "size": len(picture)} | changes)

    return bombs.mp4(index, picture)


JPEG = bombs.jpeg(64, 48)
NESTED_BOXES = b"".join(struct.pack(">I4s", 8 * (2000 - n), b"moov") for n in range(2000))
SECRETS = "file:///etc/passwd"

OPENERS = {
    "HLS behind a blank": unsupported(f" #EXTM3U\n#EXTINF:1,\n{SECRETS}\n".encode()),
    "ffconcat": unsupported(f"ffconcat version 1.0\nfile {SECRETS}\n".encode()),
    "SDP": unsupported(b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 15004 RTP/AVP 96\n"),
    "MPEG-DASH": unsupported(b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>'),
    "vobsub index": unsupported(b"# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\n"),
    "ffmetadata": unsupported(b";FFMETADATA1\ntitle=x\n"),
    "cue sheet": unsupported(b'FILE "/etc/passwd" BINARY\n  TRACK 01 MODE1/2352\n'),
    "SVG with a link": unsupported(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
    "playlist of a local segment": BadFile(
        f"#EXTM3U\n#EXTINF:1,\n{SECRETS}\n#EXT-X-ENDLIST\n".encode(), "AccessDenied", "an absolute address"
    ),
    "playlist of a segment on the web": BadFile(
        b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n", "AccessDenied", "an absolute address"
    ),
    "playlist of another directory": BadFile(
        b"#EXTM3U\n#EXTINF:1,\n../private/key.mp4\n#EXT-X-ENDLIST\n", "AccessDenied", "outside of"
    ),
    "playlist of an escaped directory": BadFile(
        b"#EXTM3U\n#EXTINF:1,\n%2e%2e/private/key.mp4\n#EXT-X-ENDLIST\n", "AccessDenied", "outside of"
    ),
    "playlist with a key on the web": BadFile(
        b'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="http://127.0.0.1:1/k"\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n',
        "AccessDenied", "an absolute address",
    ),
    "master of itself": corrupt(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmaster-of-itself\n", "a master again"),
    "live playlist": BadFile(b"#EXTM3U\n#EXTINF:1,\na.ts\n", "InvalidArgument", "the playlist is live"),
    "playlist of endless seconds": corrupt(b"#EXTM3U\n#EXTINF:1e999,\na.ts\n#EXT-X-ENDLIST\n", "a segment of inf s"),
    "playlist of 50,001 segments": BadFile(
        b"#EXTM3U\n" + b"#EXTINF:1,\na\n" * 50_001 + b"#EXT-X-ENDLIST\n", "LimitExceeded", "more than 50000 segments"
    ),
    "encrypted by another method": BadFile(
        b'#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n', "UnsupportedMedia",
        "SAMPLE-AES",
    ),
}  # fmt: skip

NO_MEDIA = {
    "nothing": corrupt(b"", "empty (0 bytes)"),
    "one byte": unsupported(b"\0"),
    "64 KiB of zeros": unsupported(bytes(65_536)),
    "text": unsupported(b"not a video at all\n" * 50),
    "HTML": unsupported(b"<!DOCTYPE html><html><script>1</script></html>"),
    "PDF": unsupported(b"%PDF-1.7\n"),
    "zip": unsupported(b"PK\x03\x04" + bytes(100)),
    "ELF": unsupported(b"\x7fELF\2\1\1" + bytes(100)),
    "PNG": unsupported(still("PNG")),
    "JPEG": unsupported(still("JPEG")),
    "TIFF": unsupported(still("TIFF")),
    "WebP": unsupported(still("WEBP")),
    "silence": nothing(silent_wave()),
}

STRUCTURES = {
    "MP4 of a type alone": corrupt(bombs.FILE_TYPE),
    "MP4 of an index alone": corrupt(bombs.FILE_TYPE + bombs.moov(bombs.Index((48,), 100))),
    "MP4 without an index": corrupt(bombs.FILE_TYPE + box(b"mdat", JPEG)),
    "MP4 of boxes in boxes": corrupt(bombs.FILE_TYPE + NESTED_BOXES),
    "MP4 of 200,000 empty boxes": corrupt(bombs.FILE_TYPE + box(b"free", b"") * 200_000),
    "MP4 with an index of 0 bytes": nothing(bombs.FILE_TYPE + struct.pack(">I4s", 0, b"moov")),
    "MP4 with an index of 2^63 bytes": nothing(bombs.FILE_TYPE + struct.pack(">I4sQ", 1, b"moov", 2**63)),
    "MP4 that claims 10^9 frames": corrupt(bombs.claimed_frames(10**9)),
    "MP4 that claims 10^9 frames of 0 bytes": corrupt(lying(size=0, per_chunk=10**9)),
    "MP4 with frames past the end": corrupt(lying(offsets=(2**31,))),
    "MP4 whose frame is its header": corrupt(lying(offsets=(0,))),
    "MP4 with a timescale of 0": fine(lying(timescale=0), 1, FIRST),
    "MP4 with steps of 0": fine(bombs.repeated_sample(3), 3, ALL),
    "MP4 of an unknown codec": BadFile(
        lying().replace(b"jpeg", b"xxxx"), "UnsupportedMedia", "the video stream's codec is unknown"
    ),
    "GIF of nothing": corrupt(b"GIF89a"),
    "GIF without colours": corrupt(b"GIF89a\1\0\1\0\0\0\0;"),
    "GIF cut off in a frame": corrupt(bombs.gif(8, 8, 1)[:-12]),
    "Matroska of an endless element": corrupt(b"\x1a\x45\xdf\xa3\x01" + b"\xff" * 7 + bytes(50)),
    "FLV of a header": corrupt(b"FLV\1\5\0\0\0\x09\0\0\0\0"),
    "Ogg of a page": corrupt(b"OggS" + bytes(23)),
    "AVI with a length of 2^32": corrupt(b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrl" + bytes(60)),
    "transport stream without tables": corrupt((b"G" + b"\xff" * 187) * 50),
}

BOMBS = {
    "GIF of 8000 by 8000": limited(lambda: bombs.gif(8000, 8000, 2000), "LIMITS__PIXELS"),
    "GIF of 65535 by 65535": limited(lambda: bombs.gif(65_535, 65_535, 10), "LIMITS__PIXELS"),
    "GIF of 65535 by 1": limited(lambda: bombs.gif(65_535, 1, 10), "LIMITS__SIDE"),
    "cover of 16000 by 16000": limited(lambda: bombs.with_cover(bombs.huge_png(16_000)), "LIMITS__PIXELS"),
    "500 covers": limited(lambda: bombs.with_cover(bombs.jpeg(1, 1), b"image/jpeg", 500), "LIMITS__OPENING_BYTES"),
    "compressed index of 40 million frames": limited(
        lambda: bombs.compressed_index(40_000_000), "LIMITS__OPENING_BYTES"
    ),
    "one frame 12,000 times": limited(lambda: bombs.repeated_sample(12_000), "LIMITS__FRAMES_PER_ENTRY", ALL, 10_000),
    "frames of 68 years, each second": fine(bombs.years_long(), 3, {"Interval": 1}),
    "frames of 68 years, hashed each second": fine(bombs.years_long(), 1, DHASH),
    "frames of 68 years, on average": fine(bombs.years_long(), 3, {"Mode": "average", "Number": 5}),
}

MEDIA = OPENERS | NO_MEDIA | STRUCTURES | BOMBS
