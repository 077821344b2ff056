"""Files that make FFmpeg open what they name, unless it may not: a secret file, a port that listens."""

import io
import struct
from pathlib import Path

import av
import numpy as np


def lures(secret: Path, port: int, udp_port: int) -> dict[str, bytes]:
    """Make every lure by its name. `secret` is the transport stream that shall not be read."""
    http = f"http://127.0.0.1:{port}"
    playlists = {
        "segment of a file": playlist(f"file://{secret}"),
        "segment by http": playlist(f"{http}/one.ts"),
        "segment by a relative path": playlist(secret.name),
        "segment by tcp": playlist(f"tcp://127.0.0.1:{port}?x=.ts"),
        "segment of a subfile": playlist(f"subfile,,start,0,end,0,,:{secret}"),
        "segment by concat": playlist(f"concat:{secret}|{secret}"),
        "segment by data": playlist("data:video/mp2t;base64,R0dH"),
        "key by http": playlist("one.ts", f'#EXT-X-KEY:METHOD=AES-128,URI="{http}/key"'),
        "key of a file": playlist("one.ts", f'#EXT-X-KEY:METHOD=AES-128,URI="file://{secret}"'),
        "head by http": playlist("one.ts", f'#EXT-X-MAP:URI="{http}/init.mp4"'),
        "variant by http": master(f"{http}/metadata"),
        "variant of a file": master(f"file://{secret}"),
        "variant of itself": master("x.m3u8"),
    }
    described = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {udp_port} RTP/AVP 96\n"
    others = {
        "concat, relative": f"ffconcat version 1.0\nfile '{secret.name}'\n".encode(),
        "concat, absolute": f"ffconcat version 1.0\nfile '{secret}'\n".encode(),
        "concat by http": f"ffconcat version 1.0\nfile '{http}/one.ts'\n".encode(),
        "SDP": f"{described}a=rtpmap:96 H264/90000\n".encode(),
        "vobsub": b"# VobSub index file, v7\nsize: 720x576\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 0\n",
        "MPD": f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{http}/</BaseURL></MPD>'.encode(),
        "ASX": f'<asx version="3.0"><entry><ref href="{http}/one.wmv"/></entry></asx>'.encode(),
        "redirection of ASF": f"[Reference]\r\nRef1={http}/one.wmv\r\n".encode(),
        "redirection of RTSP": f"rtsptext\r\nrtsp://127.0.0.1:{port}/one\r\n".encode(),
        "metadata": f";FFMETADATA1\ntitle={http}\n".encode(),
        "subtitles": f'1\n00:00:01,000 --> 00:00:02,000\n<img src="{http}"/>\n'.encode(),
        "cue sheet": f'FILE "{secret}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n'.encode(),
        "SVG": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{http}/one.png"/></svg>'.encode(),
        "MOV with its media elsewhere": movie_elsewhere(secret),
    }
    disguised = {f"HLS like MPEG-TS: {name}": like_a_transport_stream(data) for name, data in playlists.items()} | {
        "concat like MPEG-TS": like_a_transport_stream(others["concat, relative"]),
        "metadata like MPEG-TS": like_a_transport_stream(others["metadata"], comment=b";"),
        "SDP like MPEG-TS": like_a_transport_stream(others["SDP"], comment=b"a="),
    }
    return {f"HLS: {name}": data for name, data in playlists.items()} | others | disguised


def playlist(uri: str, extra: str = "") -> bytes:
    """Write a media playlist of one segment."""
    return (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n"
        f"{extra}\n#EXTINF:2.0,\n{uri}\n#EXT-X-ENDLIST\n"
    ).encode()


def master(uri: str) -> bytes:
    """Write a master playlist of one variant."""
    return f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{uri}\n".encode()


def like_a_transport_stream(text: bytes, comment: bytes = b"#") -> bytes:
    """Put a comment into a text that has the sync byte of MPEG-TS, a G, wherever one is looked for."""
    start = text.index(b"\n") + 1
    return text[:start] + comment + b"G" * 4200 + b"\n" + text[start:]


def a_video(container: str = "mp4", codec: str = "mpeg4", frames: int = 5) -> bytes:
    """Make a good video of a few small frames."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((96, 64), 16 * (number % 16), np.uint8), format="yuv420p")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()


def movie_elsewhere(secret: Path) -> bytes:
    """Make a MOV file whose media are in another file, by an alias record as QuickTime wrote it."""
    data = a_video("mov")
    name, path = secret.name.encode(), str(secret).encode()
    record = (
        bytes(10) + bytes([1]) + b"x".ljust(27, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
        + bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
        + struct.pack(">hh", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">hh", -1, 0) + bytes(16)
    )  # fmt: skip
    entry = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    at = data.index(b"dref", data.index(b"moov")) + 12  # behind version, flags and the number of entries
    old = struct.unpack_from(">I", data, at)[0]
    grown = bytearray(data[:at] + entry + data[at + old :])
    place = 0
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = data.index(kind, place)
        (size,) = struct.unpack_from(">I", data, place - 4)
        struct.pack_into(">I", grown, place - 4, size + len(entry) - old)
    return bytes(grown)
