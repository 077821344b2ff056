"""`python -m tests.fuzz minutes seed`: mutates media and messages for so long, and tells what came of them.

The same seed gives the same inputs in the same order. Exits with 1 where anything was found.
"""

import asyncio
import logging
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.media import Verdict, recipe_of, tried
from tests.fuzz.messages import Said, said
from tests.fuzz.seeds import Seed, all_seeds
from tests.fuzz.world import CAGED, World, world

COMPARED = 10
"""One input in so many is also compared with a full decode."""
MESSAGES = 10
"""Messages for each input of media."""
AT_ONCE = 2
NAMED_BY_MESSAGES = ("examplebucket/videos/sample.mp4", "in-bucket/videos/sample.mp4")
KINDS = ("crash", "hang", "memory", "error", "escape", "wrong", "unlike")
MOST_UNLIKE = 0.01
"""Of the compared files: those with damage that FFmpeg notices, but not all of it, as `test_broken_media` tells."""


class Tally:
    """Counts, told at the end and now and then."""

    def __init__(self) -> None:
        self.inputs: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.compared = self.frames = self.unchanged = self.messages = 0

    def media(self, number: int, verdict: Verdict, *, compared: bool) -> None:
        self.inputs[Path(verdict.recipe.member).suffix or "none"] += 1
        self.answers[f"media {verdict.answer}"] += 1
        self.unchanged += verdict.unchanged
        self.compared += compared
        self.frames += verdict.compared
        self._tell(f"media {number} {verdict.recipe}", verdict.wrong)

    def message(self, result: Said) -> None:
        self.messages += 1
        self.answers[f"message {result.answer}"] += 1
        self._tell(f"message {result.number}", result.wrong)

    def _tell(self, what: str, wrong: list[str]) -> None:
        for each in wrong:
            self.found[each.partition(":")[0]] += 1
            say(f"FOUND {what}: {each[:600]}")

    @property
    def is_good(self) -> bool:
        unlike = self.found["unlike"]
        return self.found.total() == unlike <= max(1, MOST_UNLIKE * self.compared)

    def told(self) -> str:
        media = sum(self.inputs.values())
        lines = [
            f"inputs: {media} media files, {self.messages} messages",
            "media by changed file: " + _listed(self.inputs),
            "answers: " + _listed(self.answers),
            f"compared with a full decode: {self.compared} files, {self.frames} frames; unchanged: {self.unchanged}",
            "found: " + ", ".join(f"{kind} {self.found[kind]}" for kind in KINDS),
        ]
        return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def fuzz(place: World, seeds: list[Seed], seed_number: int, until: float) -> Tally:
    """Try one input after the other, two at once, until the clock says so."""
    tally, numbers = Tally(), iter(range(10**9))
    by_name = {seed.name: seed for seed in seeds}

    async def lane() -> None:
        while time.monotonic() < until:
            number = next(numbers)
            recipe = recipe_of(seed_number, number, seeds)
            compared = number % COMPARED == 0
            verdict = await tried(place, recipe, by_name[recipe.seed], f"{number}", compared=compared)
            tally.media(number, verdict, compared=compared)
            for each in range(number * MESSAGES, (number + 1) * MESSAGES):
                tally.message(await said(place, seed_number, each))
            if number % 500 == 499:
                say(f"-- {number + 1} --\n{tally.told()}")

    async with asyncio.TaskGroup() as lanes:
        for _ in range(AT_ONCE):
            lanes.create_task(lane())
    return tally


async def main(minutes: float, seed_number: int) -> int:
    """Run, tell, and give the exit status."""
    logging.disable(logging.CRITICAL)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "buckets"
        seeds = all_seeds(Path(folder) / "seeds")
        say(f"{len(seeds)} seed files, SEED={seed_number}, {minutes:g} minutes, sandbox {CAGED}")
        for path in NAMED_BY_MESSAGES:
            (root / path).parent.mkdir(parents=True)
            (root / path).write_bytes(seeds[0].files[seeds[0].entry])
        held = _peak()
        async with world(root) as place:
            tally = await fuzz(place, seeds, seed_number, time.monotonic() + 60 * minutes)
            restarts, largest = dict(place.pool.restarts), place.pool.max_rss_bytes
        say(f"{tally.told()}\ndecoders replaced: {restarts}; the largest held {largest >> 20} MiB")
        say(f"the worker's own process grew by {_peak() - held >> 10} MiB, seeds not counted")
    return 0 if tally.is_good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(float(sys.argv[1]), int(sys.argv[2]))))
