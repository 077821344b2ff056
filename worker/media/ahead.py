"""Packets read ahead of the decoder: where decoding has to start for a wanted time, at the least reading and decoding.

Wanted times only grow, but for a way back to an earlier start. Packets are read, undecoded, until none that follows can
belong to a frame at or before the wanted time (dts > time). Whatever lies before the last clean keyframe at or before
that time is dropped; where the container has a trustworthy index, a seek avoids reading it at all.
"""

from collections import deque
from fractions import Fraction

from worker.media.access import Access
from worker.media.container import Media, VideoPacket
from worker.media.decoder import REMEMBERED, Held, Spoiled, SpoiledError

SKIP_PACKETS = 8
"""Undecoded packets before a keyframe that make it worth restarting the decoder there."""

SEEK_AHEAD_S = Fraction(1, 2)
"""How far ahead a wanted time must lie for a seek; what is nearer is read through."""

BUFFER_BYTES = 64 * 2**20
"""Packets held back undecoded, at most."""


class ReadAhead:
    """The packets of `media` from the start of the present run of decoding on.

    `timed` says that they carry times to be trusted: without, everything is decoded, in order, from the file's start.
    `trusted` is what a start must be worth. `run_pts` is the time of the keyframe that the run began at, None for a run
    from the file's start. `target` is
    the time of the frame at the wanted time as far as packets tell.
    """

    def __init__(self, media: Media, *, timed: bool) -> None:
        self.timed = timed
        self.trusted = Access.CLEAN
        self.run_pts: int | None = None
        self.ended = False
        self.target: int | None = None
        self._later = self._doubled = False
        self._threshold = 0
        self._media = media
        self._waiting: deque[Held] = deque()
        self._waiting_bytes = 0
        self._taken: deque[int] = deque(maxlen=REMEMBERED)
        self._last_dts: int | None = None
        self._indexed = media.seekable
        self._is_first = True

    def rewind(self) -> None:
        """Go back to the file's first packet."""
        self._media.rewind()
        self._is_first = True
        self.ended = False
        self._begin(None)

    def seek(self, pts: int, limit: int, origin: int) -> bool:
        """Seek to the last clean keyframe at or before `limit` where that saves reading; tell whether a run begins."""
        position = self._last_dts if self._last_dts is not None else origin
        if not self._indexed or not self.timed or self.ended:
            return False
        if (pts - position) * self._media.time_base < SEEK_AHEAD_S or limit <= position:
            return False
        entries = self._media.stream.index_entries
        found = entries.search_timestamp(limit)
        if found >= 0 and entries[found].timestamp <= position:
            return False  # the keyframe is behind us: reading on is all there is
        start = self._find_start(limit, position)
        if start is None:
            self._indexed = False
            self.rewind()
        else:
            self._begin(start)
        return True

    def _find_start(self, limit: int, position: int) -> Held | None:
        """Seek further and further back until a clean keyframe is hit behind `position`."""
        back, at = 1, limit
        self._is_first = False
        while at > position:
            packet = self._media.read() if self._media.seek(at) else None
            if packet is not None:
                held = self._known(packet)
                if self._is_start(held, limit):
                    return held
            landed = at if packet is None or packet.dts is None else min(at, packet.dts)
            at = landed - back
            back *= 4
        return None

    def _begin(self, start: Held | None) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        self._taken.clear()
        self.target = None
        self._later = self._doubled = False
        self._last_dts = None
        self.run_pts = None
        if start is not None:
            self.run_pts = start.packet.pts
            self._hold(start)

    def _hold(self, held: Held) -> None:
        packet = held.packet
        if packet.dts is not None:
            self._last_dts = packet.dts
        if packet.pts is not None and not packet.is_discard:
            self._note(packet.pts)
        self._waiting.append(held)
        self._waiting_bytes += packet.size

    def _read(self) -> Held | None:
        packet = self._media.read()
        if packet is None:
            self.ended = True
            return None
        if packet.pts is None and self.timed:
            raise SpoiledError(Spoiled.UNORDERED)
        return self._known(packet)

    def _known(self, packet: VideoPacket) -> Held:
        first, self._is_first = self._is_first, False
        return Held(packet, self._media.access(packet), first)

    def fill(self, threshold: int, limit: int) -> bool:
        """Read until no later packet can belong at or before `threshold`; tell whether a run began, by `limit` at most.

        With times that cannot be trusted: one packet.
        """
        begun = False
        while not self.ended and self._waiting_bytes < BUFFER_BYTES:
            enough = not self.timed or (self._last_dts is not None and self._last_dts > threshold)
            if enough and self._waiting:
                break
            held = self._read()
            if held is None:
                break
            if self.timed and len(self._waiting) >= SKIP_PACKETS and self._is_start(held, limit):
                self._begin(held)
                begun = True
            else:
                self._hold(held)
        return begun

    @property
    def complete(self) -> bool:
        """Whether all packets up to the wanted time are read, so that `target` is its frame, and neither the last one

        nor one of several with the same time.
        """
        return (
            self._later
            and not self._doubled
            and (self.ended or (self._last_dts is not None and self._last_dts > self._threshold))
        )

    def take(self) -> Held | None:
        """Return the next packet to decode, None at the file's end."""
        if not self._waiting and not self.ended:
            held = self._read()
            if held is not None:
                self._hold(held)
        if not self._waiting:
            return None
        held = self._waiting.popleft()
        self._waiting_bytes -= held.packet.size
        if held.packet.pts is not None and not held.packet.is_discard:
            self._taken.append(held.packet.pts)
        return held

    def aim(self, threshold: int) -> None:
        """Set the wanted time, that `target` and `complete` speak of."""
        self._threshold = threshold
        self.target = None
        self._later = self._doubled = False
        for pts in self._taken:
            self._note(pts)
        for held in self._waiting:
            if held.packet.pts is not None and not held.packet.is_discard:
                self._note(held.packet.pts)

    def _note(self, pts: int) -> None:
        if pts > self._threshold:
            self._later = True
        elif self.target is None or pts >= self.target:
            self._doubled = pts == self.target
            self.target = pts

    def _is_start(self, held: Held, limit: int) -> bool:
        """Tell whether decoding may start at a packet, and is then right from `limit` on.

        Once damage is known, only where what is damaged before cannot reach.
        """
        packet = held.packet
        if packet.pts is None or packet.is_discard or packet.pts > limit:
            return False
        return held.access >= (self.trusted if self._media.strict else Access.RESET)
