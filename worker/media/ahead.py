"""Packets read ahead of the decoder: where decoding has to start for a wanted time, at the least reading and decoding.

Wanted times only grow, but for a way back to an earlier start. Packets are read, undecoded, until none that follows can
belong to a frame at or before the wanted time (dts > time). Whatever lies before the last clean keyframe at or before
that time is dropped; where the container has a trustworthy index, a seek avoids reading it at all. The times that are
wanted later tell what else is worth decoding, and whether to go on from here at all.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import ceil

from worker.media.access import Access
from worker.media.container import Media, VideoPacket
from worker.media.decoder import Held, Spoiled, SpoiledError
from worker.media.seeking import Seeking
from worker.media.shown import ShownTimes
from worker.media.waiting import Waiting

SEEK_AHEAD_S = Fraction(1, 2)
"""How far ahead a wanted time must lie for a seek; what is nearer is read through."""

KEYFRAMES_BACK = 16
"""Keyframes in a row that are looked at for a start, before steps back grow."""

BUFFER_BYTES = 64 * 2**20
"""Packets held back undecoded, at most."""


class ReadAhead:
    """The packets of `media` from the start of the present run of decoding on.

    `timed` says that they carry times to be trusted: without, everything is decoded, in order, from the file's start.
    `exact`, that each packet's time is that of a frame. `trusted` is what a start must be worth; `origin_pts` the time
    of the first frame, to be set before anything is sought. `run_pts` is the time of the keyframe that the run began
    at, None for a run from the file's start. `fields` says that the second half of a frame may be a packet of its own,
    with a time of its own, right behind the first half's. A wanted time is given as the greatest pts that counts as at
    or before it.
    """

    def __init__(self, media: Media, *, timed: bool, exact: bool, latest_pts: int | None = None) -> None:
        self.timed = timed
        self.fields = False
        self.trusted = Access.CLEAN
        self.run_pts: int | None = None
        self.origin_pts = 0
        self.wanted: Sequence[int] = (0,)
        self._exact = exact
        self._more = True
        self._media = media
        self._waiting = Waiting()
        made_up = media.format_name == "matroska" and media.stream.codec_context.name == "h264"
        self._shown = ShownTimes(counts=made_up)
        self._indexed = media.seekable
        self._seeking = Seeking(media)
        self._is_first = True
        self._seek_ahead = ceil(SEEK_AHEAD_S / media.time_base)  # in ticks
        self._interval = media.shown_for(None)
        self._latest = None if latest_pts is None else latest_pts + self._interval  # about where the last frame ends

    def aim(self, wanted: Sequence[int], *, more: bool) -> None:
        """Set the wanted times, of which the first is the next; with `more` later ones than those may follow."""
        self.wanted, self._more = wanted, more
        if wanted:
            self.forget_before(wanted[0])

    def forget_before(self, pts: int) -> None:
        """Forget when frames are shown that are not wanted again, once the one at a time is."""
        self._shown.forget_before(pts)

    # --- where to start

    def rewind(self) -> None:
        """Go back to the file's first packet."""
        self._media.rewind()
        self._is_first = True
        self.lose_place()

    def lose_place(self) -> None:
        """Note that the media was read elsewhere: whatever is wanted next needs another start."""
        self._shown.ended = False
        self._begin([])

    @property
    def _position(self) -> int:
        return self.origin_pts if self._shown.last_dts is None else self._shown.last_dts

    def seek(self, limit: int) -> bool:
        """Seek to the last clean keyframe at or before `limit` where that saves reading; tell whether a run begins."""
        if limit <= self._position or not self._would_seek(self.wanted[0], limit):
            return False
        until = self._seeking.ends_before(limit)
        start = self._find_start(limit, self._position)
        # From what was indexed before the seek FFmpeg would go on with what it has indexed now, and leave out the rest.
        if start is None or (until is not None and (start.packet.dts is None or start.packet.dts <= until)):
            self._indexed = False
            self.rewind()
        else:
            self._begin([start])
        return True

    def _would_seek(self, wanted: int, limit: int) -> bool:
        """Tell whether a keyframe at or before `limit` is out of what is read, and so far ahead that a seek saves."""
        if not self._indexed or not self.timed or self._shown.ended:
            return False
        if wanted - self._position < self._seek_ahead:
            return False
        return self._seeking.leads_past(self._position, limit)

    def back_up(self, limit: int) -> None:
        """Begin a run at the last clean keyframe at or before `limit`, also where that was read past already."""
        start = self._find_start(limit, min(self.origin_pts, limit) - 1) if self._indexed and self.timed else None
        if start is None:
            self.rewind()
        else:
            self._shown.ended = False
            self._begin([start])

    def _find_start(self, limit: int, position: int) -> Held | None:
        """Seek back to a clean keyframe behind `position`: keyframe by keyframe, in the end further and further."""
        back, at, steps = 1, limit, 0
        self._is_first = False
        while at > position:
            packet = self._media.read() if self._media.seek(at) else None
            if packet is not None:
                held = self._known(packet)
                if self._is_start(held, limit):
                    return held
            landed = None if packet is None else packet.pts if packet.dts is None else packet.dts
            at = (at if landed is None else min(at, landed)) - back
            steps += 1
            if landed is None or steps >= KEYFRAMES_BACK:
                back *= 4
        return None

    def _is_start(self, held: Held, limit: int) -> bool:
        """Tell whether decoding may start at a packet, and is then right from `limit` on.

        Once damage is known, only where what is damaged before cannot reach.
        """
        packet = held.packet
        if packet.pts is None or packet.is_discard or packet.pts > limit:
            return False
        return held.access >= (self.trusted if self._media.strict else Access.RESET)

    def _begin(self, packets: Sequence[Held]) -> None:
        """Begin a run: at the first of `packets`, or without at the file's first."""
        self._waiting.clear()
        self._shown.clear()
        self.run_pts = packets[0].packet.pts if packets else None
        for held in packets:
            self._hold(held)

    # --- reading

    def fill(self, limit: int, *, anew: bool) -> bool:
        """Read until no later packet can belong at or before the wanted time; tell whether a run began.

        It begins at the last start at or before `limit`: where that saves decoding, or with `anew` in any case. With
        times that cannot be trusted: one packet is read.
        """
        begun = self._begin_within(limit, anew=anew)
        while not self._shown.ended and self._waiting.size_bytes < BUFFER_BYTES:
            if self._waiting and (not self.timed or self._is_known(self.wanted[0])):
                break
            held = self._read()
            if held is None:
                break
            if self.timed and (self._waiting or (anew and not begun)) and self._is_start(held, limit):
                self._begin([held])
                begun = True
            else:
                self._hold(held)
        return begun

    def _begin_within(self, limit: int, *, anew: bool) -> bool:
        if not self.timed:
            return False
        starts = [place for place, held in self._waiting.accesses() if self._is_start(held, limit)]
        if not starts or (starts[-1] == 0 and not anew):
            return False
        self._begin(list(self._waiting)[starts[-1] :])
        return True

    def take(self) -> Held | None:
        """Return the next packet to decode, None at the file's end."""
        if not self._waiting and not self._shown.ended:
            held = self._read()
            if held is not None:
                self._hold(held)
        return self._waiting.take() if self._waiting else None

    def _read(self) -> Held | None:
        packet = self._media.read()
        if packet is None:
            self._shown.ended = True
            return None
        if packet.pts is None and self.timed:
            raise SpoiledError(Spoiled.UNORDERED)
        return self._known(packet)

    def _known(self, packet: VideoPacket) -> Held:
        first, self._is_first = self._is_first, False
        access = self._media.access(packet)
        if access >= Access.CLEAN:
            self._seeking.note_start(packet)
        return Held(packet, access, first)

    def _hold(self, held: Held) -> None:
        packet = held.packet
        if not packet.is_discard:  # of what an edit leaves out, dts tells nothing either: the next goes back to its own
            self._shown.note(packet.dts, packet.pts, self._media.shown_for(packet.duration))
        self._waiting.put(held)

    # --- what packets tell

    def is_last(self, pts: int) -> bool:
        """Tell whether no frame is shown after the one at `pts`, where packets that were not taken may tell that."""
        return self._shown.ended and (not self._waiting or (self.end_pts is not None and self._shown.is_last(pts)))

    @property
    def end_pts(self) -> Fraction | None:
        """Where the last frame ends, in ticks, once packets have shown that."""
        return self._shown.end if self.timed and self._exact else None

    @property
    def target(self) -> int | None:
        """The time of the frame at the wanted time, as far as packets tell."""
        return self._shown.target(self.wanted[0])

    @property
    def complete(self) -> bool:
        """Whether `target` is certain, and not the last frame's time."""
        if not self._exact or not self._is_known(self.wanted[0]):
            return False
        target = self.target
        return target is not None and not self._shown.is_last(target)

    @property
    def doubled(self) -> bool:
        """Whether several frames are at the time of `target`, or so their packets say."""
        return self.timed and self._exact and self._shown.is_doubled(self.wanted[0])

    def _is_known(self, wanted: int) -> bool:
        return self.timed and self._shown.is_known(wanted)

    def needs(self, pts: int) -> bool:
        """Tell whether the frame of a packet may be wanted itself, for which it may have to read on."""
        place = bisect_left(self.wanted, pts)
        if not self._exact:
            return True
        if place == len(self.wanted):
            return self._more
        wanted = self.wanted[place]
        for _ in self._read_until_known(wanted):
            pass
        return not self._is_known(wanted) or pts == self._shown.target(wanted)

    def _read_until_known(self, wanted: int) -> Iterator[Held]:
        """Read on until packets tell the frame at a time, as far as they may be held back."""
        while not self._is_known(wanted) and self._waiting.size_bytes < BUFFER_BYTES:
            held = self._read()
            if held is None:
                break
            self._hold(held)
            yield held

    def is_parting(self) -> bool:
        """Tell whether nothing more is to be sent to the decoder before it starts anew.

        Then what is wanted now was taken, and what is wanted next begins at another start, or there is no such thing,
        or it lies past the end.
        """
        for wanted in self.wanted:
            if not self.is_taken(wanted):
                return wanted != self.wanted[0] and (self._is_past(wanted) or self._starts_anew(wanted))
        return not self._more

    def is_taken(self, wanted: int) -> bool:
        """Tell whether all that the frame at a time needs was taken in this run."""
        target = self._shown.target(wanted)
        if target is None or not self._is_known(wanted):
            return False
        if not self._exact:
            return all(held.packet.pts is not None and held.packet.pts > wanted for held in self._waiting)
        return not (self._waiting.has(target) or (self.fields and self._waiting.has_other_half(target, self._interval)))

    def _is_past(self, wanted: int) -> bool:
        """Tell whether a time surely, or by the index probably, lies past the end."""
        if self._latest is not None and wanted >= self._latest:
            return True
        return self.end_pts is not None and wanted >= self.end_pts

    def _starts_anew(self, wanted: int) -> bool:
        if self._would_seek(wanted, wanted):
            return True
        if any(self._is_start(held, wanted) for _, held in self._waiting.accesses()):
            return True
        return any(self._is_start(held, wanted) for held in self._read_until_known(wanted))
