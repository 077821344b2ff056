"""What a frame's numbers mean as colours. Pure numbers; knows no frames, no pixels and no libraries.

Tag values are those of ITU-T H.273, which FFmpeg, MP4 and Matroska share.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from worker.errors import Code, TaskError

UNSPECIFIED: Final = 2
FULL_RANGE: Final = 2


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


class Primaries(Enum):
    """The gamuts that are told apart: all others are as good as BT.709's. The values are H.273's."""

    BT709 = 1
    BT2020 = 9
    P3 = 12


_MATRICES: Final = {
    1: Matrix.BT709,
    4: Matrix.FCC,
    5: Matrix.BT601,
    6: Matrix.BT601,
    7: Matrix.SMPTE240M,
    9: Matrix.BT2020,
}
_PRIMARIES: Final = {9: Primaries.BT2020, 11: Primaries.P3, 12: Primaries.P3}
CHROMA_DERIVED: Final = 12
_UNREADABLE: Final = {
    8: "YCgCo",
    10: "BT.2020 constant luminance",
    11: "SMPTE 2085",
    13: "chromaticity-derived constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
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
    hdr: Transfer | None = None
    primaries: Primaries = Primaries.BT709

    @property
    def is_plain(self) -> bool:
        """Whether the colours are what an image file's reader assumes, once they are RGB."""
        return self.hdr is None and self.primaries is Primaries.BT709


def meaning(tags: Tags, format_name: str, *, rgb: bool, width: int, height: int) -> Meaning:
    """Read a frame's tags, with the specification's defaults for what is untagged; `width`, `height` in coded pixels.

    Gray without a range is full, as for FFmpeg. Raises `UnsupportedMedia` for matrices that swscale would misread.
    """
    hdr = next((t for t in Transfer if t.value == tags.transfer), None)
    full = tags.range == FULL_RANGE or (tags.range == 0 and format_name.startswith(("yuvj", "gray", "ya", "mono")))
    untagged = Primaries.BT2020 if hdr and tags.primaries == UNSPECIFIED else Primaries.BT709
    matrix = Matrix.BT709 if rgb else _matrix(tags, hdr, width, height)
    return Meaning(matrix, full or rgb, hdr, _PRIMARIES.get(tags.primaries, untagged))


def _matrix(tags: Tags, hdr: Transfer | None, width: int, height: int) -> Matrix:
    if tags.matrix in _UNREADABLE:
        raise TaskError(
            Code.UNSUPPORTED_MEDIA,
            f"the video's colours are coded as {_UNREADABLE[tags.matrix]} (matrix {tags.matrix} of ITU-T H.273), which "
            "is not supported: BT.601, BT.709, BT.2020 (non-constant luminance), SMPTE 240M, FCC and RGB are",
        )
    tag = tags.primaries if tags.matrix == CHROMA_DERIVED else tags.matrix
    if tag in _MATRICES:
        return _MATRICES[tag]
    if hdr or tags.primaries == Primaries.BT2020.value:
        return Matrix.BT2020
    # Whichever way up it is coded, 1280×720 and what is as long or as broad: 1280×534 and 720×1280, not 480×854.
    return Matrix.BT709 if max(width, height) >= 1280 or min(width, height) >= 720 else Matrix.BT601
