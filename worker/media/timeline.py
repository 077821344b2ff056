"""Where a video starts and ends and where its keyframes are, from packets alone: nothing is decoded."""

from __future__ import annotations

from fractions import Fraction

from worker.media.access import Access
from worker.media.container import Media, VideoPacket

PEEKED_PACKETS = 64


def first_pts(media: Media) -> int | None:
    """Return the pts of the first frame that is shown, or None where only decoding can tell.

    Leaves the media as it was, at its first packet.
    """
    packets: list[VideoPacket] = []
    while len(packets) < PEEKED_PACKETS:
        packet = media.read()
        if packet is None:
            break
        packets.append(packet)
        if packet.dts is not None and packets[0].pts is not None and packet.dts >= packets[0].pts:
            break
    media.unread(packets)
    times = [packet.pts for packet in packets if packet.pts is not None and not packet.is_discard]
    if not times or len(times) < len(packets) or media.access(packets[0]) is not Access.CLEAN:
        return None
    return times[0] if min(times) == times[0] else None


def end_pts(media: Media) -> Fraction | None:
    """Return where the last frame ends, in ticks, or None where packets carry no times. Reads to the file's end.

    Of a seekable file only what follows its last keyframe is read.
    """
    if media.seekable:
        media.seek(2**62)
    latest: list[tuple[int, int]] = []
    while (packet := media.read()) is not None:
        if packet.pts is None:
            return None
        if not packet.is_discard:
            latest = sorted([*latest, (packet.pts, packet.duration or 0)])[-2:]
    if not latest:
        return None
    pts, duration = latest[-1]
    if duration:
        return Fraction(pts + duration)
    if len(latest) > 1:
        return Fraction(2 * pts - latest[0][0])
    return pts + media.frame_interval_s() / media.time_base


def key_pts(media: Media, start_pts: int) -> list[int]:
    """Return the pts of the keyframes at or after `start_pts` that decode on their own."""
    return sorted(
        packet.pts
        for packet in media.key_packets(start_pts)
        if packet.pts is not None and packet.pts >= start_pts and media.access(packet) >= Access.ALONE
    )
