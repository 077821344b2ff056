"""Inputs that once had a wrong answer, or that show what each kind of mutation comes to, with the answer of today.

Most are of made seeds, which every machine encodes alike as long as PyAV is the same; where an encoder has changed, an
answer may differ, and the row is then to be found again by `make fuzz`.
"""

from typing import NamedTuple

from tests.fuzz.mutations import Recipe


class Row(NamedTuple):
    recipe: Recipe
    answers: frozenset[str]
    why: str


ROWS = [
    Row(
        Recipe(
            "timing/start_1_075s_delayed.mp4",
            (("boxes.value", 142026173), ("boxes.value", 934773206), ("boxes.bit", 722868282)),
            2155078478,
            "start_1_075s_delayed.mp4",
        ),
        frozenset({"Succeeded"}),
        "an MP4 that calls a predicted picture of MPEG-4 a keyframe",
    ),
]
