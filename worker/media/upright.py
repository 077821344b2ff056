"""Which way up a frame is, and pixels turned so. Knows PyAV's side data; knows nothing of sizes and colours."""

from typing import Final

import numpy as np
import numpy.typing as npt
from av.buffer import Buffer
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame

from worker.media.filtering import filtered
from worker.media.geometry import UPRIGHT, Orientation, orientation

Pixels = npt.NDArray[np.uint8]

# The kinds of side data that FFmpeg 8.1 has and PyAV 18.1 does not know: LCEVC, view ids, EXIF and so on, with room.
_NEWER: Final = range(28, 40)


def frame_orientation(frame: VideoFrame) -> Orientation:
    """Read the display matrix that the container, the codec or a picture's EXIF gave to a frame."""
    try:
        matrix = _side_data(frame).get("DISPLAYMATRIX")
    except ValueError:
        # While there is any of which it knows no name, PyAV raises instead of giving the others.
        known = filtered(frame, *(("sidedata", f"mode=delete:type={kind}") for kind in _NEWER))
        matrix = _side_data(known).get("DISPLAYMATRIX")
    if not isinstance(matrix, Buffer):
        return UPRIGHT
    return orientation(np.frombuffer(memoryview(matrix), np.int32).tolist())


def _side_data(frame: VideoFrame) -> SideDataContainer:
    """Read a frame's side data without leaving a reference cycle.

    `frame.side_data` keeps a container which refers back to the frame, so that every frame, with all its pixels, would
    wait for the garbage collector.
    """
    return SideDataContainer(frame)  # type: ignore[call-arg]  # the stubs do not tell of its argument


def turned(pixels: Pixels, turn: Orientation) -> Pixels:
    """Turn upright, as a view."""
    if turn.transposed:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if turn.flip_y else 1, :: -1 if turn.flip_x else 1]
