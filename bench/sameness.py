"""Which frame an image of another program shows: the nearest of all frames of the made scenes, by small grey pictures.

Not for ours, which carry their times: our colours differ, since we convert BT.709 to what a JPEG means, and others do
not.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

FPS = 25
WIDTH, HEIGHT = 96, 54
BAND = 0.05  # thumbnails that differ by less, in levels on average, show the same

Thumbnails = NDArray[np.float32]


def shown(folder: Path, scenes: Path, wanted: Sequence[int]) -> int:
    """Count the images of a folder that show the frames that are wanted, by number in the video, in this order.

    Where there are more or fewer images than wanted, those that show any of them.
    """
    frames = thumbnails(scenes)
    found = [_thumbnail(Image.open(path)) for path in sorted(folder.glob("*.jpg"))]
    if len(found) == len(wanted):
        return sum(_is(frames, number, image) for number, image in zip(wanted, found, strict=True))
    return sum(any(_is(frames, number, image) for image in found) for number in wanted)


def _is(frames: Thumbnails, number: int, image: Thumbnails) -> bool:
    """Tell whether a frame is as near to an image as the nearest one is: still scenes have many that are."""
    columns = slice((WIDTH - image.shape[1]) // 2, (WIDTH + image.shape[1]) // 2)
    distances = np.abs(frames[:, :, columns] - image).mean(axis=(1, 2))
    return bool(distances[number] <= distances.min() + BAND)


@cache
def thumbnails(scenes: Path) -> Thumbnails:
    """Decode the video once; kept beside it."""
    kept = scenes.with_suffix(".npy")
    if not kept.exists():
        with av.open(scenes) as container:
            np.save(kept, np.stack([_thumbnail(frame.to_image()) for frame in container.decode(video=0)]))
    frames: Thumbnails = np.load(kept)
    return frames


def _thumbnail(image: Image.Image) -> Thumbnails:
    """Shrink to the height of all thumbnails; a square picture is a crop of the middle."""
    width = HEIGHT if image.width == image.height else WIDTH
    return np.asarray(image.convert("L").resize((width, HEIGHT), Image.Resampling.BOX), np.float32)
