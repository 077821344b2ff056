"""The frames of a source's runs, found by time on one timeline: each run begins where the one before it ended.

The same questions as `FrameReader` answers for one open file, and for a source of one run the same answers. Owns which
run is open, and opens a run anew where that saves reading segments.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from worker.errors import Code, TaskError
from worker.media.access import Access
from worker.media.container import Media
from worker.media.decode import Shot
from worker.media.runs import Run


def first_live(runs: Sequence[Run]) -> int:
    """Find the first run of which anything decodes; the very first where that is the only one, or none does."""
    if len(runs) == 1:
        return 0
    return next((number for number, run in enumerate(runs) if not run.is_dead), 0)


def length_s(runs: Sequence[Run]) -> Fraction:
    """Seconds to the end of the last frame of all runs; dead ones last as long as the playlist says."""
    live = [number for number, run in enumerate(runs) if len(runs) == 1 or not run.is_dead]
    return sum((run.length_s for run in runs[: live[-1] + 1]), Fraction(0)) if live else Fraction(0)


def key_times(runs: Sequence[Run], start_s: Fraction, end_s: Fraction | None = None) -> list[Fraction]:
    """List where the keyframes are that decode on their own, from `start_s` on; it may end at `end_s`."""
    offset_s = Fraction(0)
    times: list[Fraction] = []
    for number, run in enumerate(runs):
        if len(runs) > 1 and run.is_dead:
            offset_s += run.length_s
            continue
        local_end_s = None if end_s is None else end_s - offset_s
        times += [offset_s + time_s for time_s in run.key_times(max(start_s - offset_s, Fraction(0)), local_end_s)]
        offset_s += run.length_s if number + 1 < len(runs) else 0
    return times


class JoinedReader:
    """Finds frames by time, forwards. Owns what it opens, but not the `media` that it starts with: `close` it.

    In place of a dead run, the last frame before it stays on screen.
    """

    def __init__(self, runs: Sequence[Run], media: Media) -> None:
        """Start at the beginning of the first live run, of which `media` has just been opened."""
        self._runs = runs
        self._number = first_live(runs)
        self._offset_s = sum((run.length_s for run in runs[: self._number]), Fraction(0))
        self._damaged_before = 0
        self._dead = set(range(self._number))
        self._given = self._media = media
        self._landed = False
        self._reader = self._run.reader(media)
        self.tolerance_s = self._reader.tolerance_s

    @property
    def decoded(self) -> int:
        """Frames decoded so far, for whatever reason."""
        return self._run.budget.spent

    @property
    def damaged(self) -> int:
        """Packets, frames and runs that were skipped for being damaged."""
        return self._damaged_before + self._reader.damaged + len(self._dead)

    @property
    def media(self) -> Media:
        """What is open now; its counts are those of all that was."""
        return self._media

    @property
    def position_s(self) -> Fraction:
        """The time of the frame last given, for telling progress."""
        return self._offset_s + self._reader.position_s

    def at(self, time_s: Fraction, then_s: Sequence[Fraction] = (), *, more: bool = True) -> Shot:
        """Return the frame on screen at `time_s`, as `FrameReader.at` does."""
        while True:
            local_s = time_s - self._offset_s
            shot = self._shot_at(local_s, [each_s - self._offset_s for each_s in then_s], more=more)
            following = None
            if shot.end_s is not None and not self._is_last and local_s + self.tolerance_s >= self._run.length_s:
                following = self._next_live()
            if following is None or local_s + self.tolerance_s < self._length_to(following):
                return self._joined(shot)
            self._go_to_run(following)

    def ended_by(self, time_s: Fraction, then_s: Sequence[Fraction] = (), *, more: bool = True) -> Fraction | None:
        """Tell where the video ends, as `FrameReader.ended_by` does; None also where runs are joined."""
        if len(self._runs) > 1:
            return None
        self._approach(time_s)
        return self._reader.ended_by(time_s, then_s, more=more)

    def _shot_at(self, local_s: Fraction, then_s: Sequence[Fraction], *, more: bool) -> Shot:
        self._approach(local_s)
        try:
            shot = self._reader.at(local_s, then_s, more=more)
        except TaskError as error:
            if not self._landed or error.code != Code.CORRUPT_MEDIA:
                raise
        else:
            if not self._landed or (shot.time_s <= local_s + self.tolerance_s and not self._reader.astray):
                return shot
        # What was landed on is damaged, or no place to start at: the good frame lies before it.
        self._start_run_again()
        return self._reader.at(local_s, then_s, more=more)

    def _start_run_again(self) -> None:
        if self._reader.astray:
            self._run.trusted = Access.RESET
            self._damaged_before -= self._reader.damaged  # it only seemed so, from there
        self._go_on_with(self._run.open())

    def following(self) -> Shot | None:
        """Return the frame after the one last given, or None at the end."""
        last_s = self._reader.position_s
        shot = self._reader.following()
        if self._landed and self._reader.astray:
            self._start_run_again()
            self._reader.at(last_s)
            shot = self._reader.following()
        if shot is None and (following := self._next_live()) is not None:
            self._go_to_run(following)
            shot = self._reader.at(Fraction(0))
        return None if shot is None else self._joined(shot)

    def current(self) -> Shot:
        """Return the frame last given again."""
        return self._joined(self._reader.current())

    def keyframes(self, start_s: Fraction) -> Iterator[Shot]:
        """Yield each frame from `start_s` on that decodes on its own."""
        while True:
            local_s = max(start_s - self._offset_s, Fraction(0))
            if self._is_last or not local_s or local_s - self.tolerance_s < self._run.length_s:
                yield from map(self._joined, self._run_keyframes(local_s))
            following = self._next_live()
            if following is None:
                return
            self._go_to_run(following)

    def _run_keyframes(self, local_s: Fraction) -> Iterator[Shot]:
        self._approach(local_s)
        given_pts: int | None = None
        for shot in self._reader.keyframes(local_s):
            if self._landed and self._reader.astray:
                break
            given_pts = shot.pts
            yield shot
        if self._landed and self._reader.astray:  # what was landed on forgot, or missed, what came before it
            self._start_run_again()
            again = self._reader.keyframes(local_s)
            yield from (shot for shot in again if given_pts is None or shot.pts > given_pts)

    def close(self) -> None:
        """Close what was opened on the way."""
        if self._media is not self._given:
            self._media.container.close()

    @property
    def _run(self) -> Run:
        return self._runs[self._number]

    @property
    def _is_last(self) -> bool:
        return self._number + 1 == len(self._runs)

    def _next_live(self) -> int | None:
        """Find the next live run; asked only when it is needed, for it is read to tell."""
        for number in range(self._number + 1, len(self._runs)):
            if not self._runs[number].is_dead:
                return number
            self._dead.add(number)
        return None

    def _length_to(self, number: int) -> Fraction:
        """Seconds from where the present run starts to where a later one does."""
        return sum((run.length_s for run in self._runs[self._number : number]), Fraction(0))

    def _joined(self, shot: Shot) -> Shot:
        """Put a shot of the open run on the whole timeline."""
        end_s = None if shot.end_s is None or self._next_live() is not None else self._offset_s + shot.end_s
        return replace(shot, time_s=self._offset_s + shot.time_s, end_s=end_s)

    def _go_to_run(self, number: int) -> None:
        self._offset_s += self._length_to(number)
        self._number = number
        self._go_on_with(self._run.open())

    def _approach(self, local_s: Fraction) -> None:
        """Open the run elsewhere if that saves reading segments."""
        landed = self._run.land(local_s, self._media)
        if landed is not None:
            self._go_on_with(landed, landed=True)

    def _go_on_with(self, media: Media, *, landed: bool = False) -> None:
        """Change to another opening of a run, and go on counting."""
        media.packets_read += self._media.packets_read
        media.read_errors += self._media.read_errors
        media.seeks += self._media.seeks + 1
        self._damaged_before += self._reader.damaged
        self.close()
        self._media = media
        self._landed = landed
        self._reader = self._run.reader(media)
