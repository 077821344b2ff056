"""Keyframes decoded on their own: each from its packet alone, so that nothing between them is decoded."""

from collections.abc import Iterator

from av.video.frame import VideoFrame

from worker.media.access import Access
from worker.media.container import Media, VideoPacket
from worker.media.decoder import Decoder, Spoiled, SpoiledError
from worker.media.timeline import key_packets


def lone_keyframes(media: Media, decoder: Decoder, first: int, start: int | None) -> Iterator[VideoFrame]:
    """Yield the frames from pts `first` on that decode on their own, in order; read from about pts `start` on, None

    for where the media is. What is damaged is left out. Raises `SpoiledError` where a clean start gives no frame.
    """
    for packet in key_packets(media, start):
        access = media.access(packet)
        if packet.pts is None or packet.pts < first or packet.is_discard or access < Access.ALONE:
            continue
        frame = _alone(media, decoder, packet)
        if (
            frame is None and access is Access.CLEAN and decoder.may_miss_past
        ):  # it may only say of earlier pictures to forget them
            raise SpoiledError(Spoiled.UNCLEAN)
        decoder.damaged += frame is None
        if frame is not None:
            yield frame


def _alone(media: Media, decoder: Decoder, packet: VideoPacket) -> VideoFrame | None:
    frame = decoder.alone([packet])
    if media.seekable or not _may_be_field(media, frame):
        return frame
    second = media.read()
    if second is None:
        return frame
    media.unread([second])
    if second.pts is None or packet.pts is None or second.pts >= packet.pts:
        return decoder.alone([packet, second])
    return frame


def _may_be_field(media: Media, frame: VideoFrame | None) -> bool:
    """Tell whether the other half of a picture may be in the next packet."""
    context = media.stream.codec_context
    return context.name == "h264" and (frame.interlaced_frame if frame else context.field_order > 1)
