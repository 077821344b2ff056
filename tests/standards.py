"""The colour standards in double precision, written from their documents and from nothing of the worker's.

Signals and shares of light run from 0 to 1; colours are in the last axis.
"""

import numpy as np

CHROMATICITIES = {
    "BT.709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "BT.2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
D65 = (0.3127, 0.3290)
KR_KB = {"BT.601": (0.299, 0.114), "BT.709": (0.2126, 0.0722), "BT.2020": (0.2627, 0.0593)}


def yuv_to_rgb(yuv, matrix, *, depth=8, full=False):
    """Y'CbCr codes to R'G'B' (ITU-R BT.601-7, BT.709-6, BT.2020-2; H.273 for the ranges); not clipped."""
    red, blue = KR_KB[matrix]
    unit = 2.0 ** (depth - 8)
    if full:
        luma = yuv[..., 0] / (2**depth - 1)
        cb, cr = ((yuv[..., i] - 2 ** (depth - 1)) / (2**depth - 1) for i in (1, 2))
    else:
        luma = (yuv[..., 0] - 16 * unit) / (219 * unit)
        cb, cr = ((yuv[..., i] - 128 * unit) / (224 * unit) for i in (1, 2))
    r = luma + 2 * (1 - red) * cr
    b = luma + 2 * (1 - blue) * cb
    return np.stack([r, (luma - red * r - blue * b) / (1 - red - blue), b], -1)


def rgb_to_yuv(rgb, matrix, *, depth=8, full=False):
    """The other way, rounded to codes."""
    red, blue = KR_KB[matrix]
    unit = 2.0 ** (depth - 8)
    luma = rgb @ [red, 1 - red - blue, blue]
    cb, cr = (rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)
    if full:
        codes = [luma * (2**depth - 1), *(c * (2**depth - 1) + 2 ** (depth - 1) for c in (cb, cr))]
    else:
        codes = [luma * 219 * unit + 16 * unit, *(c * 224 * unit + 128 * unit for c in (cb, cr))]
    return np.clip(np.round(np.stack(codes, -1)), 0, 2**depth - 1).astype(int)


def to_xyz(primaries):
    """The matrix from linear RGB to CIE XYZ, by solving for the white point (SMPTE RP 177)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in CHROMATICITIES[primaries]]).T
    white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
    return columns * np.linalg.solve(columns, white)


def between(source, target):
    """The matrix from one gamut's linear RGB to another's."""
    return np.linalg.inv(to_xyz(target)) @ to_xyz(source)


def pq_eotf(signal):
    """SMPTE ST 2084: signal to nit."""
    m1, m2, c2, c3 = 1305 / 8192, 2523 / 32, 2413 / 128, 2392 / 128
    c1 = c3 - c2 + 1
    root = np.power(signal, 1 / m2)
    return 10000 * np.power(np.maximum(root - c1, 0) / (c2 - c3 * root), 1 / m1)


def pq_inverse_eotf(nit):
    """SMPTE ST 2084: nit to signal."""
    m1, m2, c2, c3 = 1305 / 8192, 2523 / 32, 2413 / 128, 2392 / 128
    c1 = c3 - c2 + 1
    power = np.power(np.maximum(nit, 0) / 10000, m1)
    return np.power((c1 + c2 * power) / (1 + c3 * power), m2)


def hlg_oetf(scene):
    """ITU-R BT.2100: scene light to signal."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * np.maximum(scene, 0)), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    )


def hlg_eotf(signal, peak=1000.0, gamma=1.2):
    """ITU-R BT.2100: signal to the nit of a display with this peak and no black lift."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luma = scene @ np.array([0.2627, 0.6780, 0.0593])
    return peak * luma[..., None] ** (gamma - 1) * scene


def hlg_inverse_eotf(nit, peak=1000.0, gamma=1.2):
    """ITU-R BT.2100: nit to signal."""
    luma = (nit @ np.array([0.2627, 0.6780, 0.0593]))[..., None] / peak
    scene = nit / peak * np.maximum(luma, 1e-12) ** ((1 - gamma) / gamma)
    return hlg_oetf(scene)


def bt2390(nit, source_peak, target_peak):
    """The EETF of Report ITU-R BT.2390-11, section 5.4.1, black level 0, as printed; flat above the peak."""
    top = pq_inverse_eotf(np.float64(source_peak))
    e1 = np.minimum(pq_inverse_eotf(nit) / top, 1)
    max_lum = pq_inverse_eotf(np.float64(target_peak)) / top
    ks = 1.5 * max_lum - 0.5
    t = (e1 - ks) / (1 - ks)
    p = (2 * t**3 - 3 * t**2 + 1) * ks + (t**3 - 2 * t**2 + t) * (1 - ks) + (-2 * t**3 + 3 * t**2) * max_lum
    return pq_eotf(np.where(e1 < ks, e1, p) * top)


def tone_mapped(nit, primaries, source_peak, white=203.0):
    """Display light to an SDR signal by BT.2390's curve on the greatest channel, in BT.709's gamut, not rounded."""
    light = np.maximum(nit @ between(primaries, "BT.709").T, 0)
    greatest = np.maximum(light.max(-1, keepdims=True), 1e-9)
    return np.clip(light * bt2390(greatest, source_peak, white) / greatest / white, 0, 1) ** (1 / 2.4)


def lab(levels):
    """CIE 1976 L*, a*, b* of 8-bit levels in BT.709 with its display's gamma of 2.4."""
    light = (np.asarray(levels) / 255.0) ** 2.4
    x, y, z = np.moveaxis(np.cbrt(light @ to_xyz("BT.709").T / to_xyz("BT.709").sum(1)), -1, 0)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def lab_hue(levels):
    """The hue angle in degrees."""
    _, a, b = lab(levels)
    return np.degrees(np.arctan2(b, a))
