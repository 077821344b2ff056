"""A place in the decoder pool: the process it holds, what that may cost, and how often it is replaced.

Must not know captures, nor how processes are made.
"""

import asyncio
from dataclasses import dataclass

from worker.adapters.children import Child
from worker.errors import Code, TaskError, over_limit
from worker.settings import Pool

IDLE = float("inf")  # the deadline of a slot without a capture
FIRST_PAUSE_S = 0.5  # after an idle decoder that died was replaced; doubled while they keep dying
LONGEST_PAUSE_S = 30.0


@dataclass(slots=True, eq=False)
class Slot:
    """A place for one child. `leaving` says why the child must be replaced, `verdict` why it was killed.

    A child that dies while `idle` is not replaced before `revive_at`. Times are the event loop's, in seconds: its next
    word is waited for since `silent_since`.
    """

    starting: asyncio.Task[Child]
    deadline: float = IDLE
    silent_since: float = IDLE
    leaving: str = ""
    verdict: TaskError | None = None
    idle: bool = False
    revive_at: float = float("-inf")
    pause_s: float = FIRST_PAUSE_S

    @property
    def child(self) -> Child | None:
        """The process, once it is there."""
        started = self.starting.done() and not self.starting.cancelled() and self.starting.exception() is None
        return self.starting.result() if started else None

    def keep_limits(self, limits: Pool, now: float) -> int:
        """Kill a decoder at work that has passed the memory or hard time limit. Returns its resident size in bytes."""
        size = self.child.resident_bytes() if self.child else 0
        if self.deadline != IDLE and size > limits.memory_bytes:
            what = f"the decoder held {size} bytes of memory"
            self._condemn("memory", over_limit(what, "POOL__MEMORY_BYTES", limits.memory_bytes))
        elif now > self.deadline:
            text = f"the decoder ran into the hard time limit of {limits.hard_time_limit_s:g} s and was killed"
            advice = "ask for fewer frames, or raise POOL__HARD_TIME_LIMIT_S"
            self._condemn("timeout", TaskError(Code.TIMEOUT, f"{text}; {advice}", retryable=True))
        elif now > self.silent_since + limits.silence_limit_s:
            text = f"the decoder gave no sign of life for {limits.silence_limit_s:g} s and was killed"
            advice = "the source may be made to hang it; otherwise raise POOL__SILENCE_LIMIT_S"
            self._condemn("timeout", TaskError(Code.TIMEOUT, f"{text}; {advice}", retryable=True))
        return size

    def pause_revivals(self, now: float) -> None:
        """Note that an idle child is being replaced: the next may be after a pause, longer than one just over."""
        calm = now > self.revive_at + LONGEST_PAUSE_S
        self.pause_s = FIRST_PAUSE_S if calm else min(2 * self.pause_s, LONGEST_PAUSE_S)
        self.revive_at = now + self.pause_s

    def _condemn(self, leaving: str, verdict: TaskError) -> None:
        """Kill the child for breaking a limit; its capture ends with `verdict`."""
        if self.child is not None and self.verdict is None:
            self.leaving, self.verdict = leaving, verdict
            self.child.kill()
