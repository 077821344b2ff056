"""Keyframes decoded on their own: each from its packet alone, so that nothing between them is decoded."""

from collections.abc import Iterator

from av.video.frame import VideoFrame

from worker.media.access import Access
from worker.media.container import Media, VideoPacket
from worker.media.decoder import Decoder, Spoiled, SpoiledError
from worker.media.timeline import key_packets


def lone_keyframes(media: Media, decoder: Decoder, first: int, start: int | None) -> Iterator[VideoFrame]:
    """Yield the frames from pts `first` on that decode on their own, in order; read from about pts `start` on, None

    for where the media is. What is damaged is left out. Raises `SpoiledError` where a clean start gives no frame, or
    half of one may be missing.
    """
    for packet in key_packets(media, start, skip=decoder.skips):
        access = media.access(packet)
        if packet.pts is None or packet.pts < first or packet.is_discard or access < Access.ALONE:
            continue
        frame = _alone(media, decoder, packet)
        # It may only say of earlier pictures to forget them.
        if frame is None and access is Access.CLEAN and decoder.may_miss_past:
            raise SpoiledError(Spoiled.UNCLEAN)
        decoder.damaged += frame is None
        if frame is not None:
            yield frame


def _alone(media: Media, decoder: Decoder, packet: VideoPacket) -> VideoFrame | None:
    """Decode a keyframe; with the next packet where that gives none: it may be the other half of the picture.

    Raises `SpoiledError` where the other half may have been left unread.
    """
    frame = decoder.alone([packet])
    if frame is not None or media.context.name != "h264":
        return frame
    second = media.read()
    if decoder.skips and (second is None or second.is_keyframe):
        raise SpoiledError(Spoiled.SKIPPED)
    if second is None:
        return None
    media.unread([second])
    if second.pts is None or packet.pts is None or second.pts >= packet.pts:
        return decoder.alone([packet, second])
    return None
