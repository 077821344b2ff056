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


ROWS: list[Row] = []
