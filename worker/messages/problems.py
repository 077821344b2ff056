"""Everything wrong with a message, as a person reads it: path, code, what was given and what would be right.

Owns the wording of pydantic's findings. Knows no rule of its own.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from worker.errors import Code, Problem, TaskError
from worker.messages.fields import PATTERNS_IN_WORDS

MAX_LISTED = 100


def of_validation(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Translate the first 100 of pydantic's findings; `model` is the one that was validated against."""
    names = _field_names(model)
    details = error.errors(include_url=False)[:MAX_LISTED]
    return [_problem(detail, names) for detail in details]


def as_error(problems: list[Problem], count: int) -> TaskError:
    """Put problems into one error, under the code of the first; at most 100 are listed, `count` is of all."""
    first = problems[0]
    message = f"{first.path}: {first.message}" + (f" ({count} problems in all)" if count > 1 else "")
    return TaskError(first.code, message, problems=tuple(problems[:MAX_LISTED]))


def json_path(parts: Iterable[str | int]) -> str:
    """Write `$.Targets[0].Image` for `("Targets", 0, "Image")`."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in parts)


def _problem(detail: ErrorDetails, names: set[str]) -> Problem:
    path, kind = json_path(detail["loc"]), detail["type"]
    name = str(detail["loc"][-1]) if detail["loc"] else ""
    if kind == "missing":
        return Problem(path, f"{Code.MISSING}{name}", f"{name} is required")
    if kind == "extra_forbidden":
        near = get_close_matches(name[:80], names, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; leave it out"
        return Problem(path, Code.INVALID_ARGUMENT, f"there is no field {name[:80]!r}{hint}")
    what = detail["msg"]
    if kind == "model_type":
        what = "Input should be an object"
    elif kind == "string_pattern_mismatch":
        what = f"Input should be {PATTERNS_IN_WORDS[detail['ctx']['pattern']]}"
    return Problem(path, Code.INVALID_ARGUMENT, f"{what}; got {_shown(detail['input'])}")


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return "a huge number"
    text = repr(value) if isinstance(value, str | bool | None) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _field_names(model: type[BaseModel]) -> set[str]:
    """Collect the names of all objects of a message, to find what a misspelt one meant."""
    schema: dict[str, Any] = model.model_json_schema(by_alias=True, ref_template="{model}")
    objects = [schema, *schema.get("$defs", {}).values()]
    return {name for each in objects for name in each.get("properties", {})}
