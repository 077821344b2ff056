"""Light: high dynamic range and wide gamuts brought to what an SDR display of BT.709 shows. numpy only.

Light is in cd/m² ("nit"). SDR white stands for the 203 nit of diffuse white (ITU-R BT.2408), the tone curve is the EETF
of ITU-R BT.2390-11 section 5.4.1 on the greatest of R, G and B, which keeps hues. The source's peak is a constant and
not its metadata, so that a frame looks the same wherever it stands and whatever its file claims.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from worker.media.colour import Primaries, Transfer

Floats = npt.NDArray[np.float32]
Plane = npt.NDArray[np.uint16]

SDR_WHITE_NIT: Final = 203.0
PEAK_NIT: Final = {Transfer.PQ: 10_000.0, Transfer.HLG: 1_000.0, None: SDR_WHITE_NIT}
HLG_GAMMA: Final = 1.2
SDR_GAMMA: Final = 2.4  # ITU-R BT.1886
TO_BT709: Final = {
    Primaries.BT2020: np.array(  # ITU-R BT.2087-0, the inverse of its table
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
        np.float32,
    ),
    Primaries.P3: np.array(  # from the chromaticities of SMPTE EG 432-1, with D65
        [[1.224940, -0.224940, 0], [-0.042057, 1.042057, 0], [-0.019638, -0.078636, 1.098274]], np.float32
    ),
}
_REACH: Final = 1.75  # a colour's greatest channel in BT.709 by its greatest in BT.2020 is less than this
_STEPS: Final = 4095
_STRIP_ROWS: Final = 32


def to_sdr(red: Plane, green: Plane, blue: Plane, hdr: Transfer | None, primaries: Primaries) -> npt.NDArray[np.uint8]:
    """Bring full-range 16-bit R'G'B' planes (h, w) to 8-bit BT.709 for an SDR display, (h, w, 3).

    What lies outside BT.709's gamut loses its negative parts; of HDR nothing is cut at the bright end.
    """
    out = np.empty((*red.shape, 3), np.uint8)
    for top in range(0, len(red), _STRIP_ROWS):  # strips stay in the cache
        rows = slice(top, top + _STRIP_ROWS)
        light = [_linear(hdr).take(plane[rows]) for plane in (red, green, blue)]
        if hdr is Transfer.HLG:
            _display(light)
        if primaries is not Primaries.BT709:
            light = [np.maximum(_weighted(light, weights), 0) for weights in TO_BT709[primaries]]
        if hdr:
            peak = np.maximum(np.maximum(light[0], light[1]), light[2])
            peak *= np.float32(1 / _REACH)
            gains = _tone_gains(hdr).take(_steps(peak))
            for plane in light:
                np.multiply(plane, gains, out=plane)
        for channel, plane in enumerate(light):
            out[rows, :, channel] = _sdr_signal().take(_steps(plane))
    return out


def _weighted(light: list[Floats], weights: Floats) -> Floats:
    total: Floats = weights[0] * light[0]
    total += weights[1] * light[1]
    total += weights[2] * light[2]
    return total


def _display(scene: list[Floats]) -> None:
    """Turn scene light into display light in place: HLG's OOTF at its nominal peak (ITU-R BT.2100)."""
    gain = _weighted(scene, np.array([0.2627, 0.6780, 0.0593], np.float32))
    np.power(gain, np.float32(HLG_GAMMA - 1), out=gain)
    for plane in scene:
        np.multiply(plane, gain, out=plane)


def _steps(share: Floats) -> Plane:
    """Index tables by the fourth root, which puts steps where eyes do: a step is at most a tenth of an 8-bit level."""
    root = np.sqrt(share)
    np.sqrt(root, out=root)
    root *= np.float32(_STEPS)
    root += np.float32(0.5)
    np.minimum(root, np.float32(_STEPS), out=root)
    return root.astype(np.uint16)


def _shares() -> npt.NDArray[np.float64]:
    return (np.arange(_STEPS + 1) / _STEPS) ** 4


@lru_cache(maxsize=3)
def _linear(hdr: Transfer | None) -> Floats:
    """Tabulate the light of each signal value as a share of the peak: of the scene's for HLG, else the display's."""
    signal = np.arange(65536) / 65535
    match hdr:
        case Transfer.PQ:
            light = pq_to_nit(signal) / PEAK_NIT[hdr]
        case Transfer.HLG:
            light = hlg_to_scene(signal)
        case None:
            light = signal**SDR_GAMMA
    return np.asarray(light, np.float32)


@lru_cache(maxsize=2)
def _tone_gains(hdr: Transfer) -> Floats:
    """Tabulate by shares of `_REACH` peaks what turns shares of the source's peak into shares of SDR white."""
    nit = np.maximum(_shares() * _REACH * PEAK_NIT[hdr], 1e-6)
    return np.asarray(eetf(nit, PEAK_NIT[hdr], SDR_WHITE_NIT) / nit * PEAK_NIT[hdr] / SDR_WHITE_NIT, np.float32)


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
