"""Whether a seek saves reading: what a container's index says of where it would lead. Reads and decodes nothing."""

from worker.media.container import Media, VideoPacket
from worker.media.index import decode_delay


class Seeking:
    """The index of `media`, which has keyframes of MP4 by when they are decoded, of Matroska by when they are shown."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._key_delay = 0

    def note_start(self, packet: VideoPacket) -> None:
        """Learn from a clean keyframe how much later keyframes are shown than decoded: more, with open GOPs."""
        if packet.pts is not None and packet.dts is not None:
            self._key_delay = max(self._key_delay, packet.pts - packet.dts)

    def leads_past(self, position: int, limit: int) -> bool:
        """Tell whether a seek to what is shown at `limit` leads past `position`, or may do so."""
        entries = self._media.stream.index_entries
        found = entries.search_timestamp(self._indexed_as(limit))
        if found < 0 or not self._media.index_read or entries[found].timestamp > position:
            return True
        return self.ends_before(limit) is not None

    def ends_before(self, limit: int) -> int | None:
        """Give the last time that the index has, where what is shown at `limit` is only indexed when it is come to."""
        if not self._media.index_grows:
            return None
        entries = self._media.stream.index_entries
        last = entries[len(entries) - 1].timestamp
        return last if last < self._indexed_as(limit) else None

    def _indexed_as(self, pts: int) -> int:
        if self._media.format_name != "mov":
            return pts
        return pts - max(decode_delay(self._media.stream), self._key_delay)
