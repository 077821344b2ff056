"""Mutated media through the worker: makes each input of a number, has it captured, and judges what came of it."""

import json
import random
import shutil
from dataclasses import dataclass, field
from pathlib import PurePath

from tests.e2e.media import task as message
from tests.fuzz.mutations import Recipe, mutated, steps_for
from tests.fuzz.seeds import Seed
from tests.fuzz.truth import compare
from tests.fuzz.verdict import answer_of, findings, output_uri
from tests.fuzz.world import BUCKET, Watched, World

MODES = ("interval", "interval", "interval", "average", "keyframe", "dhash")


@dataclass
class Verdict:
    """What one input came to: the answer in a word, all findings, and how many frames were compared."""

    recipe: Recipe
    answer: str
    wrong: list[str] = field(default_factory=list)
    compared: int = 0
    unchanged: bool = False


def recipe_of(seed_number: int, number: int, seeds: list[Seed]) -> Recipe:
    """Derive one input from the run's seed and its own number."""
    rng = random.Random(f"media {seed_number} {number}")
    seed = rng.choice(seeds)
    member = rng.choice(sorted(seed.files)) if rng.random() < 0.4 else seed.entry
    for _ in range(5):  # some find nothing to change
        recipe = Recipe(seed.name, steps_for(PurePath(member).suffix, rng), rng.getrandbits(32), member)
        if files_of(recipe, seed) != seed.files:
            break
    return recipe


def files_of(recipe: Recipe, seed: Seed) -> dict[str, bytes]:
    """Take the steps of a recipe."""
    member = recipe.member or seed.entry
    return seed.files | {member: mutated(seed.files[member], recipe.steps)}


def wanted(recipe: Recipe, name: str, source: str) -> dict:
    """Make the task: one to three entries of all modes, small pictures."""
    rng = random.Random(recipe.wanted)
    entries = [_entry(rng, name, number) for number in range(rng.choice((1, 1, 2, 3)))]
    first = {"URI": f"oss://{BUCKET}/{source}"}
    if rng.random() < 0.15:
        first |= {"StartTime": rng.choice((0.1, 0.5, 7)), "Duration": rng.choice((0.2, 1, 1000))}
    return message(*entries, Sources=[first])


def _entry(rng: random.Random, name: str, number: int) -> dict:
    mode = rng.choice(MODES)
    count = rng.choice((1, 2, 5)) if mode == "average" else rng.choice((0, 1, 1, 3, 20))
    return {
        "Mode": mode,
        "Interval": rng.choice((0, 0, 0.04, 0.1, 0.37, 2)),
        "StartTime": rng.choice((0, 0, 0, 0.2, 0.5, 0.95, 30)),
        "Number": count,
        "Width": rng.choice((8, 16, 33, 0.5)),
        "Height": rng.choice((8, 16, 33, 0.5)),
        "ScaleType": rng.choice(("stretch", "crop", "fill", "fit")),
        "Format": rng.choice(("jpg", "png", "webp")),
        "URI": output_uri(name, number),
    }


async def tried(world: World, recipe: Recipe, seed: Seed, name: str, *, compared: bool = False) -> Verdict:
    """Capture from one input; if `compared`, also compare all its frames with those of a full decode."""
    files = files_of(recipe, seed)
    verdict = Verdict(recipe, "", unchanged=files == seed.files)
    folder = world.root / BUCKET / "in" / name
    out = world.root / BUCKET / "out" / name
    folder.mkdir(parents=True)
    try:
        for file, data in files.items():
            (folder / file).write_bytes(data)
        body = json.dumps(wanted(recipe, name, f"in/{name}/{seed.entry}")).encode()
        told = await world.do(Watched(body, name))
        verdict.answer = answer_of(told)
        verdict.wrong = findings(told, out, f"in/{name}/")
        if compared and not seed.is_playlist:
            whole = folder / f"whole-{seed.entry}"
            whole.write_bytes(seed.files[seed.entry])
            verdict.compared, wrong = await compare(folder / seed.entry, whole)
            verdict.wrong += [wrong] if wrong else []
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(out, ignore_errors=True)
    return verdict
