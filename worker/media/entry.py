"""One `Snapshots` entry on its way: the times it still wants, and which of the frames it gets it keeps."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from av.video.frame import VideoFrame

from worker.errors import Code, TaskError, over_limit
from worker.media.bounds import Held, no_image, ranked
from worker.media.decode import Shot
from worker.media.fingerprint import dhash
from worker.media.output import Choice, Output
from worker.media.plan import EntryPlan, EntryReport, Image, Limits, Mode, Part, Warn
from worker.media.raster import DISTORTED
from worker.media.scaler import luma
from worker.media.select import grid, score, spread, within

INSTANT_S = Fraction(1, 10**12)
"""Less than the tick of any clock."""

FORESEEN = 8
"""Times that are told beforehand, so that nothing is decoded in vain between them."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The part of the media that counts, in seconds from its first frame; `end_s` is None while it is not known.

    `interval_s` is the nominal time between frames.
    """

    start_s: Fraction
    end_s: Fraction | None
    tolerance_s: Fraction
    interval_s: Fraction

    def reachable(self, media_s: Fraction) -> Fraction:
        """The time itself, or one within the last frame where it lies past the known end."""
        if self.end_s is None:
            return media_s
        return min(media_s, max(self.end_s - self.tolerance_s - INSTANT_S, self.start_s))


class EntryRun:
    """The state of one entry: feed it shots with `take` while `wanted_s`, the media time it wants next, is not None.

    With `every` it wants each frame that is on screen at or after `wanted_s`. A keyframe entry wants the `key_times`
    that it is given; without them, whatever keyframes it is fed from `wanted_s` on. Of a part that follows another, the
    first sample of `dhash` is given without a score: it takes that other's last sample.
    """

    def __init__(
        self,
        entry: int,
        plan: EntryPlan,
        limits: Limits,
        timeline: Timeline,
        key_times: Iterable[Fraction] | None = None,
        *,
        held: Held,
        part: Part | None = None,
    ) -> None:
        """Start entry number `entry` of a plan, of which only a `part` is done; `average` needs the timeline's end.

        `held` is what all entries may keep back.
        """
        self.output = Output(entry, plan, limits, timeline.start_s)
        self.error: TaskError | None = None
        self._selection = plan.selection
        self._limits = limits
        self._last_only = plan.last_only
        self.timeline = timeline
        self._warnings: dict[str, str] = {}
        self._part = part or Part()
        self._samples = 0
        self._hashed: VideoFrame | None = None
        self._hash: int | None = None
        self._last_s: Fraction | None = None
        self._best = ranked(plan.selection, held)
        fine = plan.selection.interval_s < timeline.interval_s - timeline.tolerance_s
        sole = plan.selection.mode is Mode.INTERVAL and plan.selection.number == 1
        self.every = fine and not sole and plan.selection.mode in (Mode.INTERVAL, Mode.DHASH)
        self._follows = self.every or (plan.selection.mode is Mode.KEYFRAME and key_times is None)
        self.follows_keyframes = self._follows and not self.every
        before_s = 0 if self._follows else timeline.tolerance_s
        self._from_s = self._part.start_s - before_s
        self._to_s = None if self._part.end_s is None else self._part.end_s - before_s
        self._begun = timeline.start_s + plan.selection.start_s < self._from_s  # in an earlier part
        self._times = self._schedule(key_times)
        self._next: deque[Fraction] = deque()
        self.wanted_s = next(self._times, None)

    def _schedule(self, key_times: Iterable[Fraction] | None) -> Iterator[Fraction]:
        """Make the wanted times, those of the part alone: it has the times whose frames are not before it."""
        selection, part = self._selection, self._part
        start = self.timeline.start_s + selection.start_s
        if key_times is not None:
            return within(iter(key_times), part.start_s, part.end_s)
        if self._follows:
            return iter((max(start, part.start_s),) if self._to_s is None or start < self._to_s else ())
        if selection.mode is Mode.AVERAGE:
            times = spread(start, self.timeline.end_s or start, selection.number)
        else:
            number = selection.number if selection.mode is Mode.INTERVAL else 0
            times = grid(start, selection.interval_s, number, self._from_s)
        return within(times, self._from_s, self._to_s)

    def upcoming(self) -> tuple[list[Fraction], bool]:
        """List the time wanted next and some of those after it, in order, and tell whether there may be more."""
        if self.wanted_s is None:
            return [], False
        while len(self._next) < FORESEEN:
            time_s = next(self._times, None)
            if time_s is None:
                break
            self._next.append(time_s)
        return [self.wanted_s, *self._next], self._follows or len(self._next) == FORESEEN

    def settle(self, end_s: Fraction | None = None) -> None:
        """Note where the video ends, once that is known, and stop wanting what lies past it."""
        if end_s is not None:
            self.timeline = replace(self.timeline, end_s=min(end_s, self.timeline.end_s or end_s))
        try:
            if self.wanted_s is not None and self._is_past_end(self.wanted_s, self.timeline.end_s):
                self.wanted_s = None
        except TaskError as error:
            self.fail(error)

    @property
    def share_done(self) -> float:
        """How much of a wanted number of frames is there, 0 where the number says nothing of that."""
        number = self._selection.number
        return min(self.output.found / number, 1.0) if number and self._best is None else 0.0

    def wants(self, shot: Shot, next_s: Fraction | None) -> bool:
        """Tell whether `shot`, on screen until `next_s`, is the frame at the wanted time."""
        if self.wanted_s is None:
            return False
        asked = self._asked(self.timeline.reachable(self.wanted_s), shot)
        return next_s is None or asked + self.timeline.tolerance_s < next_s

    def _asked(self, wanted_s: Fraction, shot: Shot) -> Fraction:
        if self.follows_keyframes:
            return shot.time_s
        return max(wanted_s, shot.time_s) if self.every else wanted_s

    def take(self, shot: Shot) -> Iterator[Image]:
        """Take the frame at the wanted time; yields its image if it is kept and ready."""
        if self.wanted_s is None:
            return
        asked = self._asked(self.wanted_s, shot)
        if self._is_keyframe_missed(asked, shot):
            self._step(shot)
            return
        try:
            ends = [end for end in (self.timeline.end_s, shot.end_s) if end is not None]
            if self._is_past_end(asked, min(ends, default=None)):
                self.wanted_s = None
                return
            if self._is_of_another_part(shot):
                return
            self._count_sample()
            yield from self._keep(Choice(shot, asked))
        except TaskError as error:
            self.fail(error)
        self._step(shot)

    def _is_of_another_part(self, shot: Shot) -> bool:
        """Tell whether a frame that was come to by following lies outside the part; after it, the entry is complete."""
        if not self._follows:
            return False
        if self._part.end_s is not None and shot.time_s >= self._part.end_s:
            self.wanted_s = None
            return True
        return self._begun and shot.time_s < self._part.start_s

    def _is_keyframe_missed(self, asked: Fraction, shot: Shot) -> bool:
        """Tell whether a keyframe was damaged, so that this shot is only the nearest good frame."""
        return self._selection.mode is Mode.KEYFRAME and abs(shot.time_s - asked) > self.timeline.tolerance_s

    def _step(self, shot: Shot) -> None:
        """Move on to the next wanted time, None when the entry is complete."""
        number = self._selection.number
        if self.error or (number and self._best is None and self.output.found >= number):
            self.wanted_s = None
        elif self._follows:
            self.wanted_s = shot.time_s
        else:
            self.wanted_s = self._next.popleft() if self._next else next(self._times, None)

    def _is_past_end(self, asked: Fraction, end_s: Fraction | None) -> bool:
        """Tell whether `asked` lies past the end. At an entry's start that is an error, or for one frame a warning."""
        if end_s is None or asked + self.timeline.tolerance_s < end_s:
            return False
        if self._samples or self._begun:
            return True
        start, length = float(self._selection.start_s), float(end_s - self.timeline.start_s)
        if self._selection.mode is Mode.INTERVAL and self._selection.number == 1:
            self.warn(
                "StartTimeClamped", f"StartTime {start:g} s is past the end at {length:g} s: the last frame was taken"
            )
            return False
        message = f"StartTime {start:g} s is at or past the end of the video, which is {length:g} s long"
        raise TaskError(Code.INVALID_ARGUMENT, message)

    def _keep(self, choice: Choice) -> Iterator[Image]:
        mode = self._selection.mode
        if mode is Mode.DHASH:
            choice = self._scored(choice)
            if self._begun and self._samples == 1:
                yield self.output.draw(replace(choice, score=None))
                return
            if choice.score is None or choice.score <= self._selection.threshold:
                return
        if mode is Mode.AVERAGE and choice.shot.time_s == self._last_s:
            return
        self._last_s = choice.shot.time_s
        if self._best is None:
            yield from self.output.add(choice)
        elif choice.score is not None and self._best.admits(choice.score):
            self.output.hold(choice, choice.score, self._best)

    def _count_sample(self) -> None:
        """Bound what one sampled far into nothing may cost: a damaged time may lie years ahead."""
        self._samples += 1
        if self._samples > self._limits.max_decoded_frames:
            what = f"more than {self._samples - 1} samples would have to be taken"
            raise over_limit(what, "LIMITS__DECODED_FRAMES", self._limits.max_decoded_frames)

    def _scored(self, choice: Choice) -> Choice:
        known = self._hash if choice.shot.frame is self._hashed else None
        bits = dhash(*luma(choice.shot.frame)) if known is None else known
        self._hashed = choice.shot.frame
        value = score(bits, self._hash)
        self._hash = bits
        return replace(choice, dhash=bits, score=value)

    def finish(self) -> Iterator[Image]:
        """Give the images that could only be chosen at the end, and settle whether the entry succeeded."""
        try:
            if self._best is not None and self.error is None:
                yield from self.output.best(self._best)
            yield from self.output.finish()
        except TaskError as error:
            self.fail(error)
        if self.error is None and self.output.stored == 0 and self._part.is_whole:
            self.fail(no_image(self._selection))

    def warn(self, code: str, message: str) -> None:
        """Add a warning, once per code."""
        self._warnings.setdefault(code, message)

    def fail(self, error: TaskError) -> None:
        """End the entry with an error; the images it gave so far stay."""
        self.error = error
        self.wanted_s = None

    def report(self) -> EntryReport:
        """Tell how the entry ended."""
        if self.output.aspect_changed:
            self.warn("AspectRatioChanged", DISTORTED)
        if self._last_only and self.output.found > 1:
            self.warn("OutputOverwritten", f"{self.output.found} frames share one key: only the last is stored")
        warnings = tuple(Warn(code, message) for code, message in self._warnings.items())
        code, message = ("", "") if self.error is None else (self.error.code, self.error.message)
        return EntryReport(self.output.stored, self._selection.number, warnings, code, message, self._hash)
