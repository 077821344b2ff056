"""Interlaced frames made progressive, one by one. Knows nothing of times, colours and sizes."""

from typing import Final

import numpy as np
from av.video.frame import VideoFrame

from worker.media.filtering import filtered
from worker.media.scaler import luma

# Of 334 progressive frames of real files these find a comb in 3 (thin text), of 51 woven of real motion in 49.
COMB_LEVELS: Final = 4  # of 8 bits
BLOCK: Final = 16
COMBED_SAMPLES: Final = 50  # of a block's 256


def progressive(frame: VideoFrame) -> VideoFrame:
    """Replace the second field of a frame that is flagged as interlaced and combed by lines made of the first.

    Flagged frames without a comb are progressive pictures, or still ones, and stay as they are.
    """
    if not frame.interlaced_frame:
        return frame
    # Of a lone frame yadif keeps half of the combing and bwdif all of it; estdif is hardly better than w3fdif and
    # takes 150 ms for 1080i instead of 3. The flag has to go, or swscale would scale the fields by themselves.
    if is_combed(frame):
        return filtered(frame, ("w3fdif", "mode=frame:deint=interlaced"))
    return filtered(frame, ("setfield", "prog"))


def is_combed(frame: VideoFrame) -> bool:
    """Tell whether the fields show different moments: whether lines differ from both neighbours alike somewhere, by

    more than twice what they differ from the next lines of their own field, which thin lines and texture do not.
    """
    samples, depth = luma(frame)
    if frame.height < BLOCK + 4 or frame.width < BLOCK:
        return False
    strip = BLOCK * 4
    return any(
        _most_combed(samples[top : top + strip + 4].astype(np.int32), COMB_LEVELS << (depth - 8)) > COMBED_SAMPLES
        for top in range(0, frame.height - BLOCK - 3, strip)
    )


def _most_combed(rows: "np.ndarray[tuple[int, int], np.dtype[np.int32]]", levels: int) -> int:
    """Count the combed samples of the block that has the most of them; `rows` has two more at the top and bottom."""
    line = rows[2:-2]
    up, down = line - rows[1:-3], line - rows[3:-1]
    apart = np.where((up > 0) == (down > 0), np.minimum(np.abs(up), np.abs(down)), 0)
    within = np.maximum(np.abs(line - rows[:-4]), np.abs(line - rows[4:]))
    combed = apart > levels + 2 * within
    down_blocks, across_blocks = len(line) // BLOCK, line.shape[1] // BLOCK
    whole = combed[: down_blocks * BLOCK, : across_blocks * BLOCK]
    blocks = whole.reshape(down_blocks, BLOCK, across_blocks, BLOCK)
    return int(blocks.sum((1, 3)).max())
