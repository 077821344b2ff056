"""What the index of an MP4 file, which lists packets by when they are decoded, tells of times. Reads nothing."""

from fractions import Fraction
from itertools import pairwise

from av.video.stream import VideoStream


def decode_delay(stream: VideoStream) -> int:
    """Ticks by which pictures are shown after they are decoded, as the first one tells; at least 0.

    FFmpeg takes what it is to seek for the time of a frame, and goes to the packet that is decoded that much before.
    """
    entries = stream.index_entries
    return max((stream.start_time or 0) - entries[0].timestamp, 0) if len(entries) else 0


def is_partial(stream: VideoStream, interval: Fraction) -> bool:
    """Tell whether the stream goes on behind what is indexed by now, `interval` being the ticks between two frames.

    So it is in fragmented files, whose header lists no frames, with an index of their fragments (sidx): FFmpeg indexes
    a fragment's packets when it comes to them.
    """
    entries = stream.index_entries
    if stream.frames or not stream.duration or not len(entries):
        return False
    indexed = entries[len(entries) - 1].timestamp - entries[0].timestamp
    return indexed + decode_delay(stream) + 2 * interval < stream.duration


def is_in_order(stream: VideoStream) -> bool:
    """Tell whether the index goes by time, as searching it takes for granted: several edits may go back."""
    entries = stream.index_entries
    if len(entries) == stream.frames:  # no edit repeats or leaves out any
        return True
    times = (entries[place].timestamp for place in range(len(entries)))
    return all(earlier <= later for earlier, later in pairwise(times))
