"""Where a video starts and ends and where its keyframes are, from packets alone: nothing is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import takewhile
from os import SEEK_END

from av.stream import Discard

from worker.media.access import Access
from worker.media.container import Media, VideoPacket
from worker.media.cues import are_complete
from worker.media.index import decode_delay

PEEKED_PACKETS = 64
LAST_PACKETS = 6, 20
"""Packets at an MP4's end among which the last frame's is looked for: few mostly do, but not behind many B-frames."""

SPARSE_BYTES = 2**20
"""A Matroska file for each of its keyframes, from which on leaving out what lies between is worth the requests."""

BEFORE_ALL = -(2**63)
"""A time before every packet's."""


def _peek(media: Media, enough: Callable[[VideoPacket, VideoPacket], bool]) -> list[VideoPacket]:
    """Look at packets until `enough(first, last)`, at most `PEEKED_PACKETS`; leaves the media as it was."""
    packets: list[VideoPacket] = []
    while len(packets) < PEEKED_PACKETS and (packet := media.read()) is not None:
        packets.append(packet)
        if enough(packets[0], packet):
            break
    media.unread(packets)
    return packets


def first_pts(media: Media) -> int | None:
    """Return the pts of the first frame that is shown, or None where only decoding can tell.

    Leaves the media as it was, at its first packet.
    """
    if not has_order(media):
        return None
    packets = _peek(media, _decoded_after_first_shown)
    times = [packet.pts for packet in packets if packet.pts is not None and not packet.is_discard]
    if not times or len(times) < len(packets) or media.access(packets[0]) < Access.CLEAN:
        return None
    return times[0] if min(times) == times[0] else None


def _decoded_after_first_shown(first: VideoPacket, last: VideoPacket) -> bool:
    return last.dts is not None and first.pts is not None and last.dts >= first.pts


def has_order(media: Media) -> bool:
    """Tell whether packets carry the times of their frames, as far as the first ones show.

    Where H.264 frames are reordered but their packets' pts are not, the container has lost the reordering; AVI never
    had it, and FFmpeg makes it up. Leaves the media as it was, at its first packet.
    """
    context = media.stream.codec_context
    reordered = context.name in {"h264", "hevc"} and bool(context.has_b_frames)
    if reordered and media.format_name == "avi":
        return False
    packets = _peek(media, lambda _, packet: not reordered or packet.pts is None or packet.pts != packet.dts)
    if not packets:
        return True
    pts, dts = packets[-1].pts, packets[-1].dts
    return pts is not None and not (reordered and len(packets) > 1 and pts == dts)


def end_pts(media: Media) -> Fraction | None:
    """Return where the last frame ends, in ticks, or None where packets do not tell. Reads to the file's end.

    Of a seekable file only what follows its last keyframe is read.
    """
    if not has_order(media):
        return None
    if (end := indexed_end(media)) is not None:
        return end
    if media.seekable and not _seek_to_last_key(media):
        media.rewind()
    return _last_end(media)[1]


def _seek_to_last_key(media: Media) -> bool:
    """Go to the last keyframe; False where what follows it would not be read as a whole."""
    entries = media.stream.index_entries
    indexed = entries[len(entries) - 1].timestamp if media.index_grows else BEFORE_ALL
    if not media.seek(2**62) or not (packets := _peek(media, lambda *_: True)):
        return False
    # From what was indexed before, FFmpeg would go on with the last fragment, and leave out those between.
    return indexed == BEFORE_ALL or (packets[0].dts or BEFORE_ALL) > indexed


def latest_pts(media: Media) -> int | None:
    """Tell when the last frame of an MP4 is shown by its index, None where that does not tell. Reads nothing.

    Frames are shown by the time between the first packet and its frame later than packets are decoded.
    """
    entries, start = media.stream.index_entries, media.stream.start_time
    if media.format_name != "mov" or not media.seekable or media.index_grows:
        return None
    if start is None or len(entries) <= min(LAST_PACKETS):
        return None
    return entries[len(entries) - 1].timestamp + start - entries[0].timestamp


def indexed_end(media: Media) -> Fraction | None:
    """Find the end of an MP4 from its last packets alone; None where later frames may lie before them.

    As many frames are shown after the last packet is decoded as are decoded before the first one is shown: they all
    have to be among the packets. Leaves the media at its end.
    """
    latest = latest_pts(media)
    if latest is None:
        return None
    start, delay = media.stream.start_time or 0, decode_delay(media.stream)
    for count in LAST_PACKETS:
        entries = media.stream.index_entries
        place, newest = len(entries) - count, entries[len(entries) - 1].timestamp
        reordered = entries.search_timestamp(start - 1, any_frame=True) + 1
        if place < 0:
            break
        media.expect_from(place)
        if not media.seek_packet(entries[place].timestamp + delay):
            break
        last, end, later = _last_end(media, newest)
        if last is not None and last >= latest and later >= reordered:
            return end
    return None


def _last_end(media: Media, newest: int = BEFORE_ALL) -> tuple[int | None, Fraction | None, int]:
    """Read all that follows; give the last frame's pts, where it ends, and how many are shown after `newest`."""
    last: int | None = None
    end = Fraction(0)
    later = 0
    while (packet := media.read()) is not None:
        if packet.pts is None:
            return None, None, 0
        if packet.is_discard:
            continue
        later += packet.pts > newest
        if last is None or packet.pts >= last:
            last = packet.pts
            end = last + media.shown_for(packet.duration)
    return last, None if last is None else end, later


def key_packets(media: Media, start_pts: int | None = None, *, skip: bool = True) -> Iterator[VideoPacket]:
    """Yield the packets that are marked as keyframes, in order: from the file's start, or where the index is good,

    from the last at or before `start_pts`. What lies between is left unread where the container allows. Without `skip`
    the packet behind each can be read from the media.
    """
    if media.format_name == "matroska" and media.seekable and _has_sparse_cues(media):
        yield from _cued_key_packets(media, BEFORE_ALL if start_pts is None else start_pts, skip=skip)
        return
    if start_pts is not None and media.seekable:
        _seek_before(media, start_pts)
    by_index = media.format_name == "mov" and media.seekable
    yield from _indexed_key_packets(media) if by_index else _all_key_packets(media, skip=skip)


def _all_key_packets(media: Media, *, skip: bool) -> Iterator[VideoPacket]:
    if skip and media.format_name != "mov":  # which would give them wrong times: see `_skip_to_key_after`
        media.stream.discard = Discard.nonkey
    while (packet := media.read()) is not None:
        if packet.is_keyframe:
            yield packet


def _has_sparse_cues(media: Media) -> bool:
    """Tell whether a Matroska file's cues lead to every keyframe, and these are far from one another.

    If not, the media is at its first packet, or at the first keyframe.
    """
    position = media.file.tell()  # FFmpeg does not ask again where it is
    size = media.file.seek(0, SEEK_END)
    complete = size >= SPARSE_BYTES and are_complete(media.file)
    media.file.seek(position)
    if not complete:
        return False
    if not media.seek(BEFORE_ALL // 2):  # which makes FFmpeg read the cues
        media.rewind()
        return False
    keyframes = len(media.stream.index_entries)
    return keyframes > 0 and size >= SPARSE_BYTES * keyframes


def _cued_key_packets(media: Media, start_pts: int, *, skip: bool) -> Iterator[VideoPacket]:
    """Go from cue to cue; where one leads elsewhere, all that is left is read."""
    given = BEFORE_ALL
    place = max(media.stream.index_entries.search_timestamp(start_pts), 0)
    while place >= 0:
        wanted = media.stream.index_entries[place].timestamp
        packet = media.read() if media.seek(wanted) else None
        if packet is None or not packet.is_keyframe or packet.pts != wanted:
            media.rewind()
            yield from (each for each in _all_key_packets(media, skip=skip) if each.pts is None or each.pts > given)
            return
        yield packet
        given = wanted
        media.expect_keys(given, packet.size)
        place = media.stream.index_entries.search_timestamp(given + 1, backward=False)


def _seek_before(media: Media, pts: int) -> None:
    """Go to a keyframe that is shown before `pts`, else to the first packet.

    Seeks go by when packets are decoded: several keyframes may lie between that and when the frame is shown.
    """
    at = pts
    while media.seek(at) and (packet := media.read()) is not None:
        if packet.pts is not None and packet.pts < pts:
            media.unread([packet])
            return
        landed = packet.pts if packet.dts is None else packet.dts
        if landed is None or landed > at:
            break
        at = landed - 1
    media.rewind()


def _indexed_key_packets(media: Media) -> Iterator[VideoPacket]:
    skips = True
    given_dts = next_dts = BEFORE_ALL
    while (packet := media.read()) is not None:
        dts = packet.dts if packet.dts is not None else given_dts + 1
        if dts <= given_dts:  # the index is damaged, and led back
            skips, next_dts = False, BEFORE_ALL
        elif packet.is_keyframe and dts >= next_dts:
            yield packet
            given_dts = dts
            media.expect_keys(dts, packet.size)
            next_dts = _skip_to_key_after(media, dts) if skips else BEFORE_ALL


def _skip_to_key_after(media: Media, dts: int) -> int:
    """Seek to the next keyframe of an MP4 file's index; give its dts, or `BEFORE_ALL` where the index ends (fragments).

    FFmpeg's own skipping (`Discard.nonkey`) forgets to count the composition offsets of what it skips, and so gives
    the keyframes of files with B-frames a wrong pts (`mov_read_packet`, still in 8.1.2).
    """
    entries = media.stream.index_entries
    place = entries.search_timestamp(dts + 1, backward=False)
    last = entries[len(entries) - 1].timestamp
    if place < 0:
        if last > dts and not media.seek_packet(last):  # what follows may be fragments
            media.rewind()
        return BEFORE_ALL
    found = entries[place].timestamp
    after = entries.search_timestamp(found + 1, backward=False)
    # From its dts FFmpeg would land one keyframe early where later packets are shown before this one (open GOP).
    if not media.seek(entries[after].timestamp - 1 if after >= 0 else max(found, last)):
        media.rewind()
    return found


def key_pts(media: Media, start_pts: int, last_pts: int | None = None) -> list[int]:
    """Return the pts of the keyframes at or after `start_pts`, up to `last_pts` at least, that decode on their own."""
    return sorted(
        packet.pts
        for packet in takewhile(lambda each: not _is_after(each, last_pts), key_packets(media, start_pts))
        if packet.pts is not None
        and packet.pts >= start_pts
        and not packet.is_discard
        and media.access(packet) >= Access.ALONE
    )


def _is_after(packet: VideoPacket, pts: int | None) -> bool:
    return pts is not None and packet.dts is not None and packet.dts > pts
