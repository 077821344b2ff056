"""What a frame's numbers mean as colours, and HDR brought to SDR. numpy only; knows no frames and no libraries.

Tag values are those of ITU-T H.273, which FFmpeg, MP4 and Matroska share.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

UNSPECIFIED: Final = 2
FULL_RANGE: Final = 2
PRIMARIES_BT2020: Final = 9


class Matrix(IntEnum):
    """The YUV matrices that are told apart; the values are swscale's names for them."""

    BT709 = 1
    FCC = 4
    BT601 = 5
    SMPTE240M = 7
    BT2020 = 9


class Transfer(Enum):
    """The transfer functions that need tone mapping, with their H.273 values."""

    PQ = 16
    HLG = 18


_MATRICES: Final = {
    1: Matrix.BT709,
    4: Matrix.FCC,
    5: Matrix.BT601,
    6: Matrix.BT601,
    7: Matrix.SMPTE240M,
    9: Matrix.BT2020,
    10: Matrix.BT2020,
}


@dataclass(frozen=True, slots=True)
class Tags:
    """What a frame says of its colours, as H.273 numbers (`range`: 0 nothing, 1 limited, 2 full)."""

    matrix: int = UNSPECIFIED
    range: int = 0
    transfer: int = UNSPECIFIED
    primaries: int = UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Meaning:
    """How to read a frame's samples. `hdr` is None for standard dynamic range."""

    matrix: Matrix
    full_range: bool
    hdr: Transfer | None


def meaning(tags: Tags, format_name: str, *, rgb: bool, width: int, height: int) -> Meaning:
    """Read a frame's tags, with the specification's defaults for what is untagged; `width`, `height` in coded pixels.

    Unknown and exotic matrices (YCgCo, ICtCp, …) are read as if untagged. Gray without a range is full, as for FFmpeg.
    """
    hdr = next((t for t in Transfer if t.value == tags.transfer), None)
    full = tags.range == FULL_RANGE or (tags.range == 0 and format_name.startswith(("yuvj", "gray", "ya", "mono")))
    return Meaning(_matrix(tags, hdr, width, height), full or rgb, hdr)


def _matrix(tags: Tags, hdr: Transfer | None, width: int, height: int) -> Matrix:
    if tags.matrix in _MATRICES:
        return _MATRICES[tags.matrix]
    if hdr or tags.primaries == PRIMARIES_BT2020:
        return Matrix.BT2020
    # Either side: letterboxed 1280x534 and upright 720x1280 are high definition too.
    return Matrix.BT709 if width >= 1280 or height >= 720 else Matrix.BT601


# Tone mapping. Light is in cd/m² ("nit"). SDR white stands for the 203 nit of diffuse white (ITU-R BT.2408), the curve
# is the EETF of ITU-R BT.2390-11 section 5.4.1 on the greatest of R, G and B, which keeps hues; the source's peak is a
# constant and not its metadata, so that a frame looks the same wherever it stands and whatever its file claims.
SDR_WHITE_NIT: Final = 203.0
PEAK_NIT: Final = {Transfer.PQ: 10_000.0, Transfer.HLG: 1_000.0}
HLG_GAMMA: Final = 1.2
SDR_GAMMA: Final = 2.4  # ITU-R BT.1886
BT2020_TO_BT709: Final = np.array(  # ITU-R BT.2087-0, the inverse of its table
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
BT2020_LUMA: Final = np.array([0.2627, 0.6780, 0.0593], np.float32)
_STEPS: Final = 4095
_STRIP_ROWS: Final = 32


def tone_map(rgb: npt.NDArray[np.uint16], hdr: Transfer, primaries: int) -> npt.NDArray[np.uint8]:
    """Bring full-range 16-bit R'G'B' (h, w, 3) in PQ or HLG to 8-bit BT.709 for an SDR display.

    `primaries` 1 (BT.709) keeps the gamut; every other value is taken for BT.2020. What lies outside BT.709's gamut
    loses its negative parts; nothing is cut at the bright end.
    """
    out = np.empty(rgb.shape, np.uint8)
    convert = primaries != Matrix.BT709
    for top in range(0, len(rgb), _STRIP_ROWS):  # strips stay in the cache: twice as fast as whole frames
        light = _light(rgb[top : top + _STRIP_ROWS], hdr)
        if convert:
            light = light @ BT2020_TO_BT709.T
        np.maximum(light, 0, out=light)
        peak = light.max(axis=-1) * np.float32(1 / PEAK_NIT[hdr])
        light *= _tone_gains(hdr)[_steps(peak)][..., None]
        out[top : top + _STRIP_ROWS] = _sdr_signal()[_steps(light)]
    return out


def _light(signal: npt.NDArray[np.uint16], hdr: Transfer) -> Floats:
    """Turn signal into display light in nit, at a nominal peak of 1,000 nit for HLG (ITU-R BT.2100)."""
    linear: Floats = _linear(hdr)[signal]
    if hdr is Transfer.HLG:
        linear *= (PEAK_NIT[hdr] * (linear @ BT2020_LUMA) ** (HLG_GAMMA - 1))[..., None]
    return linear


def _steps(share: Floats) -> npt.NDArray[np.uint16]:
    """Index tables by the fourth root, which puts steps where eyes do: a step is at most a tenth of an 8-bit level."""
    root = np.sqrt(np.sqrt(share))
    np.minimum(root, 1, out=root)
    return np.asarray(root * np.float32(_STEPS) + np.float32(0.5), np.uint16)


def _shares() -> npt.NDArray[np.float64]:
    return (np.arange(_STEPS + 1) / _STEPS) ** 4


@lru_cache(maxsize=2)
def _linear(hdr: Transfer) -> Floats:
    signal = np.arange(65536) / 65535
    return np.asarray(pq_to_nit(signal) if hdr is Transfer.PQ else hlg_to_scene(signal), np.float32)


@lru_cache(maxsize=2)
def _tone_gains(hdr: Transfer) -> Floats:
    """Tabulate what turns light into shares of SDR white, by its own share of the peak."""
    nit = np.maximum(_shares() * PEAK_NIT[hdr], 1e-6)
    return np.asarray(eetf(nit, PEAK_NIT[hdr], SDR_WHITE_NIT) / nit / SDR_WHITE_NIT, np.float32)


@lru_cache(maxsize=1)
def _sdr_signal() -> npt.NDArray[np.uint8]:
    return np.asarray(np.round(255 * _shares() ** (1 / SDR_GAMMA)), np.uint8)


def pq_to_nit(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Apply the EOTF of SMPTE ST 2084 to signal 0..1."""
    root = signal ** (32 / 2523)
    light = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
    return np.asarray(10_000 * light ** (16384 / 2610))


def nit_to_pq(nit: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Apply the inverse EOTF of SMPTE ST 2084: signal 0..1."""
    power = (nit / 10_000) ** (2610 / 16384)
    return np.asarray(((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32))


def hlg_to_scene(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Apply the inverse OETF of ARIB STD-B67: scene light 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def eetf(nit: npt.NDArray[np.float64], source_peak: float, target_peak: float) -> npt.NDArray[np.float64]:
    """Apply ITU-R BT.2390's tone curve, in nit: the identity up to a knee, then a spline, flat at `target_peak`."""
    top = nit_to_pq(np.array(source_peak))
    share = nit_to_pq(nit) / top
    limit = nit_to_pq(np.array(target_peak)) / top
    knee = 1.5 * limit - 0.5
    t = np.clip((share - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * limit
    return pq_to_nit(np.where(share < knee, share, spline) * top)
