"""Videos that were cut without being encoded again: by copying packets, and by edit lists of MP4."""

import struct

import av

from tests.boxes import box


def copy_from(path, keyframe):
    """Copy a video's packets from the one on that is so many keyframes after its first."""
    copy = path.with_name(f"cut{path.suffix}")
    with av.open(path) as source, av.open(copy, "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        passed = -1
        for packet in source.demux(video=0):
            passed += packet.is_keyframe
            if passed >= keyframe and packet.size:
                packet.stream = stream
                out.mux(packet)
    return copy


def with_edits(path, *edits):
    """Give an MP4 other edits, of its first track: each where it begins and how long it is, in seconds."""
    with av.open(path) as container:
        ticks = container.streams.video[0].time_base.denominator
    entries = b"".join(struct.pack(">IiI", int(length * 1000), int(start * ticks), 1 << 16) for start, length in edits)
    edited = path.with_name("edited.mp4")
    added = box(b"elst", struct.pack(">II", 0, len(edits)) + entries)
    edited.write_bytes(_replaced(path.read_bytes(), [b"moov", b"trak", b"edts", b"elst"], added))
    return edited


def _replaced(data, path, new):
    """Put another box in the place of the first one at `path`; `mdat` has to stand before `moov`."""
    out, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        old = data[at : at + size]
        if path and kind == path[0]:
            old = box(kind, _replaced(old[8:], path[1:], new)) if path[1:] else new
            path = []
        out, at = out + old, at + size
    return out
