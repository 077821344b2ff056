"""Changes to the text of HLS playlists: tags, attributes, numbers, addresses. Must not know how playlists are read."""

import random
import re

ADDRESSES = (
    "../secret.ts", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/a.ts", "//127.0.0.1/a.ts",
    "..%2fsecret.ts", "%2e%2e/secret.ts", "a\\..\\secret.ts", "concat:a.ts|b.ts", "data:,x",
    "subfile,,start,0,end,9,,:a.ts", "", ".", "..", "a.ts?b#c", "a//b.ts", "x" * 3000, "\x00", "%00", "%ff", "é.ts",
    "s3://other/secret.ts", "oss://fuzz/secret.ts",
)  # fmt: skip
NUMBERS = (
    "0",
    "-1",
    "1e999",
    "nan",
    "inf",
    "1e-400",
    "99999999999999999999",
    "0.0000001",
    "2147483648",
    "x",
    "",
    "1@2@3",
)
TAGS = (
    "#EXT-X-ENDLIST", "#EXT-X-DISCONTINUITY", "#EXT-X-BYTERANGE:100@0", "#EXT-X-BYTERANGE:1@99999999", "#EXTINF:1,",
    '#EXT-X-MAP:URI="init.mp4"', '#EXT-X-MAP:URI="a.ts",BYTERANGE="10@0"', '#EXT-X-KEY:METHOD=AES-128,URI="a.ts"',
    "#EXT-X-KEY:METHOD=NONE", '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"', "#EXT-X-STREAM-INF:BANDWIDTH=1", "#EXT-X-GAP",
    "#EXT-X-MEDIA-SEQUENCE:-5", "#EXT-X-PLAYLIST-TYPE:EVENT", '#EXT-X-PART:DURATION=1,URI="a.ts"',
    "#EXT-X-I-FRAMES-ONLY", '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0xZZ',
    "#EXT-X-PROGRAM-DATE-TIME:yesterday", '#EXT-X-DEFINE:NAME="a",VALUE="b"',
)  # fmt: skip


def playlist_changed(data: bytes, rng: random.Random) -> bytes:
    """Change one thing in a playlist, or in whatever else these bytes are."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(9)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines[at:at] = [lines[at]] * rng.choice((1, 2, 1000, 60_000))
    elif kind == 2:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        lines.insert(at, rng.choice(TAGS))
    elif kind == 4:
        lines[at] = rng.choice(ADDRESSES)
    elif kind == 5:
        lines[at] = re.sub(r"\d+(\.\d+)?", lambda _: rng.choice(NUMBERS), lines[at], count=rng.choice((1, 0)))
    elif kind == 6:
        lines[at] = re.sub(r'URI="[^"]*"', lambda _: f'URI="{rng.choice(ADDRESSES)}"', lines[at])
    elif kind == 7:
        line = lines[at]
        cut = rng.randrange(len(line) + 1)
        lines[at] = (
            line[:cut]
            + rng.choice((",", '"', "=", "\r", "\t", "\x7f", "\u2028", ""))
            + line[cut + rng.choice((0, 1)) :]
        )
    else:
        attributes = lines[at].split(",")
        rng.shuffle(attributes)
        lines[at] = ",".join(attributes[rng.choice((0, 1)) :])
    return "\n".join(lines).encode("utf-8", "surrogateescape")
