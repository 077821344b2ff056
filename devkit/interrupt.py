"""Ctrl-C while processes are started and ended: it waits for a moment at which nothing is left running.

Without this, a second Ctrl-C ends the cleaning up after the first, and one between a process's start and the note of
it leaves a process that nobody ends.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Hold:
    """Holds SIGINT back until `check` asks for it, or the block ends."""

    def __init__(self) -> None:
        self.pressed = False
        self._before = signal.getsignal(signal.SIGINT)

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGINT."""
        self.pressed = True

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if Ctrl-C was pressed; for the loops in which the block waits."""
        if self.pressed:
            self.pressed = False
            raise KeyboardInterrupt

    def arm(self) -> None:
        """Hold SIGINT back from now on. Only the main thread is ever interrupted; elsewhere this does nothing."""
        if self._before == signal.SIG_IGN:  # as in a shell's background jobs
            return
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.note)

    def disarm(self) -> None:
        """Handle SIGINT as before, and one that was held back as well."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)
        if self.pressed:
            self.pressed = False
            signal.raise_signal(signal.SIGINT)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Handle SIGINT as before within the block."""
        try:
            self.disarm()
            yield
        finally:
            self.arm()


@contextmanager
def held() -> Iterator[Hold]:
    """Hold SIGINT back within the block; a block within it shares its hold."""
    outer = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if isinstance(outer, Hold):
        yield outer
        return
    hold = Hold()
    hold.arm()
    try:
        yield hold
    except KeyboardInterrupt:
        hold.pressed = False  # once is enough
        raise
    finally:
        hold.disarm()
