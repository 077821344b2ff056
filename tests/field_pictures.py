"""H.264 whose frames are field pictures, as camcorders and broadcasters write, and no encoder here.

Written bit by bit, as ITU-T H.264 says in 7.3.1 (NAL units), 7.3.2.1 and E.1.1 (sequence parameter set), 7.3.2.2
(picture parameter set), 7.3.3 (slice header), 7.3.4 (slice data) and 7.3.5 (macroblocks): CAVLC, samples as they are
(I_PCM), or a field of an earlier picture again (P_Skip). Each field is an access unit with a time of its own.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FIELD_S = Fraction(1, 50)
SIZE = 32  # two macroblocks by two; a field is two by one
FRAME_NUM_BITS, POC_BITS = 4, 8
NON_IDR, IDR, SPS, PPS = 1, 5, 7, 8
P_SLICE, I_SLICE, P_PCM, I_PCM = 5, 7, 30, 25  # slice_type and mb_type


class Bits:
    """A NAL unit's payload, written bit by bit."""

    def __init__(self) -> None:
        self._bits = ""

    def u(self, width: int, *values: int) -> None:
        for value in values:
            self._bits += f"{value:0{width}b}"

    def ue(self, *values: int) -> None:
        """Write Exp-Golomb codes."""
        for value in values:
            self.u(2 * (value + 1).bit_length() - 1, value + 1)

    def samples(self, data: bytes) -> None:
        self._align()
        self._bits += "".join(f"{byte:08b}" for byte in data)

    def unit(self, kind: int, ref_idc: int) -> bytes:
        """End the payload, and give the unit behind a start code, with emulation prevention."""
        self.u(1, 1)
        self._align()
        payload = int(self._bits, 2).to_bytes(len(self._bits) // 8)
        return b"\0\0\0\1" + bytes([ref_idc << 5 | kind]) + re.sub(b"\0\0(?=[\0-\3])", b"\0\0\3", payload)

    def _align(self) -> None:
        self._bits += "0" * (-len(self._bits) % 8)


@dataclass(frozen=True)
class Coded:
    """A frame: its place among those shown, that of the IDR picture before, and what its slices say of it."""

    place: int
    key: int
    frame_num: int
    referenced: bool
    whole: bool  # a frame picture, and progressive

    @property
    def idr(self) -> bool:
        return self.place == self.key


def coded(count: int, gop: int, whole: int) -> Iterator[Coded]:
    """Give `count` frames in the order of decoding: of two between keyframes the later first, which the other,

    that nothing refers to, is decoded behind. The first `whole` are frame pictures.
    """
    for key in range(0, count, gop):
        yield Coded(key, key, 0, referenced=True, whole=key < whole)
        for number, place in enumerate(range(key + 1, min(key + gop, count), 2)):
            if place + 1 < min(key + gop, count):
                yield Coded(place + 1, key, (number + 1) % 16, referenced=True, whole=place + 1 < whole)
            yield Coded(place, key, (number + 2) % 16, referenced=False, whole=place < whole)


def parameter_sets() -> bytes:
    """Main profile, level 3, pictures of either kind, no adaptive macroblocks, 25 frames a second, one reordered."""
    sps = Bits()
    sps.u(8, 77, 0, 30)
    sps.ue(0, FRAME_NUM_BITS - 4, 0, POC_BITS - 4, 2)  # id, frame_num, order by type 0, max_num_ref_frames
    sps.u(1, 0)
    sps.ue(SIZE // 16 - 1, SIZE // 32 - 1)
    sps.u(1, 0, 0, 1, 0, 1)  # frame_mbs_only_flag, adaptive, direct_8x8_inference_flag, cropping, VUI
    sps.u(1, 0, 0, 0, 0, 1)  # the last: timing_info_present_flag
    sps.u(32, FIELD_S.numerator, FIELD_S.denominator)
    sps.u(1, 1, 0, 0, 0, 1, 1)  # fixed_frame_rate_flag, ..., bitstream_restriction_flag
    sps.ue(0, 0, 10, 10, 1, 3)  # the last two: max_num_reorder_frames, max_dec_frame_buffering
    pps = Bits()
    pps.ue(0, 0)
    pps.u(1, 0, 0)  # entropy_coding_mode_flag: CAVLC
    pps.ue(0, 0, 0)
    pps.u(1, 0, 0, 0)
    pps.ue(0, 0, 0)
    pps.u(1, 1, 0, 0)  # the first: deblocking_filter_control_present_flag
    return sps.unit(SPS, 3) + pps.unit(PPS, 3)


def picture(frame: Coded, parity: int = 0) -> bytes:
    """Write a picture as one slice: a whole frame, or its top or bottom field (`parity` 1)."""
    first = frame.idr and not parity
    intra = first or frame.whole
    bits = Bits()
    bits.ue(0, I_SLICE if intra else P_SLICE, 0)
    bits.u(FRAME_NUM_BITS, frame.frame_num)
    bits.u(1, *([0] if frame.whole else [1, parity]))
    if first:
        bits.ue(frame.place % 2)  # idr_pic_id
    bits.u(POC_BITS, 2 * (frame.place - frame.key) + parity)
    if not intra:
        bits.u(1, 0, 0)  # num_ref_idx_active_override_flag, ref_pic_list_modification_flag_l0
    if frame.referenced:
        bits.u(1, *([0, 0] if first else [0]))  # dec_ref_pic_marking
    bits.ue(0, 1)  # slice_qp_delta, disable_deblocking_filter_idc
    _slice_data(bits, frame, parity, intra=intra)
    return bits.unit(IDR if first else NON_IDR, 2 if frame.referenced else 0)


def _slice_data(bits: Bits, frame: Coded, parity: int, *, intra: bool) -> None:
    """Of an intra picture all macroblocks have samples, of another one of two, and each the other one in turn."""
    if intra:
        for number in range(4 if frame.whole else 2):
            bits.ue(I_PCM)
            bits.samples(samples(frame.place, number, parity))
        return
    skipped = frame.place // 2 % 2
    bits.ue(skipped, P_PCM)  # mb_skip_run before it
    bits.samples(samples(frame.place, skipped, parity))
    if not skipped:
        bits.ue(1)  # and behind


def samples(place: int, number: int, parity: int) -> bytes:
    """Luma, then chroma, of a macroblock: squares of its own. A bottom field is brighter by less than is a comb."""
    squares = np.random.default_rng((place, number)).integers(16, 230, (4, 4), np.uint8)
    luma = np.kron(squares, np.ones((4, 4), np.uint8)) + 3 * parity
    return luma.astype(np.uint8).tobytes() + bytes([100 + place % 100 + parity] * 64 + [128 + number] * 64)


def field_video(path: Path, count: int, *, gop: int = 8, whole: int = 0) -> Path:
    """Write a video of `count` frames, with an IDR picture every `gop`; the first `whole` are no field pictures."""
    frames = list(coded(count, gop, whole))
    data, times = b"", []
    for frame in frames:
        data += parameter_sets() if frame.idr else b""
        for parity in range(1 if frame.whole else 2):
            data += picture(frame, parity)
            times.append((2 * frame.place + parity, 2 if frame.whole else 1))
    with av.open(io.BytesIO(data), format="h264") as raw, av.open(path, "w") as out:
        stream = out.add_stream_from_template(raw.streams.video[0])
        packets = [packet for packet in raw.demux(video=0) if packet.size]
        dts = 0
        for packet, (shown, duration) in zip(packets, times, strict=True):
            packet.stream, packet.time_base = stream, FIELD_S
            packet.pts, packet.dts, packet.duration = shown + 2, dts, duration
            dts += duration
            out.mux(packet)
    return path
