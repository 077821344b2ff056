"""Where decoding may start: what a packet that is marked as a keyframe is really worth. Pure bytes, no library.

Containers and parsers mark more packets as keyframes than can be decoded on their own: H.264 recovery points of an
intra refresh need many frames to recover. The rules are those of ITU-T H.264 (7.4.1.2.4, D.2.8 recovery point SEI) and
H.265 (7.4.2.2), of ISO/IEC 14496-2 (6.3.5 vop_coding_type) and 13818-2 (6.3.9 picture_coding_type).

Parameter sets that stand between packets (Annex B) may change on the way: there only a keyframe that brings its own is
a clean start.
"""

from collections.abc import Callable, Iterator
from enum import IntEnum


class Access(IntEnum):
    """What decoding can do from a packet, given nothing before it."""

    NONE = 0
    """Nothing exact."""
    ALONE = 1
    """This frame itself, but perhaps not those that follow."""
    CLEAN = 2
    """This frame and every later one whose pts is not smaller, bit by bit."""
    RESET = 3
    """The same, and nothing before it is remembered, so no damage either."""


# Codecs whose keyframes reset all state that pictures depend on.
_RESETTING = frozenset({
    "av1", "libdav1d", "dnxhd", "ffv1", "ffvhuff", "flv", "h261", "h263", "huffyuv", "libvpx", "libvpx-vp9", "mjpeg",
    "mpeg4", "png", "prores", "rawvideo", "theora", "utvideo", "vp8", "vp9",
})  # fmt: skip

Classify = Callable[[bytes], Access]


def classifier(codec: str, extradata: bytes, container: str) -> Classify:
    """Make the function that tells what a packet that is marked as a keyframe is worth, from its bytes.

    Of a codec that is not known to reset its state at keyframes they count as `ALONE`: it is decoded from the start.
    """
    if codec == "h264":
        return lambda data: _h264(data, _length_size(extradata, 4))
    if codec == "hevc":
        return lambda data: _hevc(data, _length_size(extradata, 21))
    if codec in {"mpeg1video", "mpeg2video"}:
        return _mpeg12
    packed = codec == "mpeg4" and container == "avi"  # one packet may hold several pictures (packed B-frames)
    worth = Access.RESET if codec in _RESETTING and not packed else Access.ALONE
    if codec == "mpeg4":
        return lambda data: worth if _is_intra(data, b"\x00\x00\x01\xb6", 0, 0xC0, 0) else Access.NONE
    return lambda _data: worth


def disposer(codec: str, extradata: bytes) -> Callable[[bytes], bool]:
    """Make the function that tells from a packet's bytes that no other picture refers to it.

    H.264: nal_ref_idc 0 (7.4.1). H.265: a sub-layer non-reference picture of the highest sub-layer that the stream has
    (7.4.2.2), since those of higher layers may refer to one of a lower. Of other codecs: never.
    """
    if codec == "h264":
        size = _length_size(extradata, 4)
        return lambda data: _is_disposable_h264(data, size)
    if codec == "hevc" and (highest := _highest_layer(extradata)) is not None:
        length = _length_size(extradata, 21)
        return lambda data: _is_disposable_hevc(data, length, highest)
    return lambda _data: False


def _is_disposable_h264(data: bytes, length_size: int) -> bool:
    slices = (unit[0] for unit in nal_units(data, length_size) if 1 <= unit[0] & 31 <= 5)
    return next(slices, 0xFF) >> 5 & 3 == 0


def _is_disposable_hevc(data: bytes, length_size: int, highest: int) -> bool:
    for unit in nal_units(data, length_size):
        kind = (unit[0] >> 1) & 63
        if kind < 32 and len(unit) > 1:
            return kind < 16 and kind % 2 == 0 and (unit[1] & 7) - 1 == highest
    return False


def _highest_layer(extradata: bytes) -> int | None:
    """The highest TemporalId that the first sequence parameter set announces; None if it is not found."""
    if not _length_size(extradata, 21):
        sets = (unit for unit in _annex_b(extradata) if (unit[0] >> 1) & 63 == 33 and len(unit) > 2)
        return next(((unit[2] >> 1) & 7 for unit in sets), None)
    layers = extradata[21] >> 3 & 7  # numTemporalLayers: 0 is unknown, 1 not scalable
    return layers - 1 if layers else None


def _length_size(extradata: bytes, position: int) -> int:
    """Bytes of the length before each NAL unit, from an avcC or hvcC record; 0 for Annex B start codes."""
    if len(extradata) <= position or extradata[0] != 1:
        return 0
    return (extradata[position] & 3) + 1


def _h264(data: bytes, length_size: int) -> Access:
    access = Access.NONE
    kinds = set()
    for unit in nal_units(data, length_size):
        kind = unit[0] & 31
        kinds.add(kind)
        if kind == 6:
            access = max(access, _recovery_point(unit))
        elif kind == 5:  # IDR slice
            access = Access.RESET
            break
        elif kind == 1:
            break
    return access if length_size or {7, 8} <= kinds else min(access, Access.ALONE)


def _hevc(data: bytes, length_size: int) -> Access:
    kinds = set()
    for unit in nal_units(data, length_size):
        kind = (unit[0] >> 1) & 63
        kinds.add(kind)
        if 16 <= kind <= 21:  # BLA, IDR, CRA
            clean = Access.CLEAN if kind == 21 else Access.RESET
            return clean if length_size or {33, 34} <= kinds else Access.ALONE
        if kind < 16:
            return Access.NONE
    return Access.NONE


def _mpeg12(data: bytes) -> Access:
    """Quantiser matrices stay in force until the next sequence header."""
    if not _is_intra(data, b"\x00\x00\x01\x00", 1, 0x38, 0x08):
        return Access.NONE
    return Access.RESET if b"\x00\x00\x01\xb3" in data else Access.ALONE


def _is_intra(data: bytes, code: bytes, offset: int, mask: int, intra: int) -> bool:
    """Tell whether a picture's type, some bits of the byte at `offset` behind its start `code`, is intra or missing.

    Of any other, FFmpeg makes a picture with what was never decoded, and says nothing.
    """
    at = data.find(code)
    place = at + len(code) + offset
    return at < 0 or place >= len(data) or data[place] & mask == intra


def nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
    """Split a packet into NAL units (header byte first), cut to their first 64 bytes; broken lengths end it."""
    if length_size == 0:
        yield from _annex_b(data)
        return
    at = 0
    while at + length_size < len(data):
        size = int.from_bytes(data[at : at + length_size])
        at += length_size
        if size:
            yield data[at : at + min(size, 64)]
        at += size


def _annex_b(data: bytes) -> Iterator[bytes]:
    at = data.find(b"\x00\x00\x01")
    while 0 <= at < len(data) - 3:
        yield data[at + 3 : at + 67]
        at = data.find(b"\x00\x00\x01", at + 3)


def _recovery_point(unit: bytes) -> Access:
    """What an SEI unit says of recovery: a count of 0 with the exact match flag makes a clean start."""
    sei = unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")
    at = 0
    while at + 2 < len(sei):
        kind, at = _sei_number(sei, at)
        size, at = _sei_number(sei, at)
        if kind == 6 and at < len(sei):
            recovers_at_once, exactly = sei[at] & 0x80, sei[at] & 0x40  # ue(v) of 0 is a single set bit
            if not recovers_at_once:
                return Access.NONE
            return Access.CLEAN if exactly else Access.ALONE
        at += size
    return Access.NONE


def _sei_number(sei: bytes, at: int) -> tuple[int, int]:
    total = 0
    while at < len(sei) and sei[at] == 255:
        total += 255
        at += 1
    return (total + sei[at], at + 1) if at < len(sei) else (total, at)
