"""The kinds of values in messages: what every model shares, exact seconds, sizes, and fields we refuse.

Owns how a JSON value becomes a typed one and the JSON Schema that says the same. Knows no message.
"""

from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator, WithJsonSchema, model_validator
from pydantic.alias_generators import to_pascal
from pydantic_core import PydanticCustomError

from worker.errors import TaskError
from worker.task import Location
from worker.template import LOCATION_PATTERN, parse_location

MAX_SECONDS = 10**9
MAX_PIXELS = 4096
PICOSECOND = Decimal("1e-12")
NAME_PATTERN = r"^[A-Za-z0-9_-]{1,128}$"
TOPIC_PATTERN = r"^[A-Za-z0-9_-]{1,100}$"
PATTERNS_IN_WORDS = {NAME_PATTERN: "1 to 128 of A-Z a-z 0-9 _ -", TOPIC_PATTERN: "1 to 100 of A-Z a-z 0-9 _ -"}
EMPTY_SCHEMA: dict[str, Any] = {"enum": [None, [], {}], "title": "Empty: the same as absent"}


def is_empty(value: object) -> bool:
    """Tell whether a value counts as absent: `null`, `[]` or `{}`."""
    return value is None or value in ([], {})


@cache
def _names(model: type["Message"]) -> frozenset[str | None]:
    return frozenset(field.alias for field in model.model_fields.values())


class Message(BaseModel):
    """A JSON object that someone sends us: unknown names are errors, known ones may be empty."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_pascal)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = _names(cls)
        return {name: value for name, value in data.items() if name not in known or not is_empty(value)}


def _number(value: object) -> int | Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise PydanticCustomError("number", "Input should be a number")
    return value


def _seconds(value: object) -> Fraction:
    """Keep every digit down to a picosecond: a huge exponent or length must not become a huge fraction."""
    number = _number(value)
    if not 0 <= number <= MAX_SECONDS:
        raise PydanticCustomError("seconds", "Input should be a number of seconds from 0 to 1000000000")
    return Fraction(number if isinstance(number, int) else number.quantize(PICOSECOND))


def _size(value: object) -> int | Fraction:
    """Tell pixels from ratios: `1` is a pixel, `1.0` is all, and `512.0` (from typed SDKs) is 512 pixels."""
    number = _number(value)
    if isinstance(number, Decimal) and 0 < number <= 1:
        return Fraction(max(number.quantize(PICOSECOND), PICOSECOND))
    if not 1 <= number <= MAX_PIXELS or number != int(number):
        raise PydanticCustomError(
            "size", "Input should be whole pixels from 1 to 4096, or a ratio above 0 up to 1.0 with a decimal point"
        )
    return int(number)


def _location(value: object) -> Location:
    if not isinstance(value, str):
        raise PydanticCustomError("location", "Input should be a string such as oss://bucket/key")
    try:
        return parse_location(value)
    except TaskError as error:
        raise PydanticCustomError("location", "{reason}", {"reason": error.message}) from error


def _refuse(_value: object) -> None:
    raise PydanticCustomError("refused", "this field is not served: leave it out")


def _refuse_but_false(value: object) -> None:
    if value is not False:
        raise PydanticCustomError("refused", "only its default, false, is served: leave it out")


def _refuse_but_zero(value: object) -> None:
    if isinstance(value, bool) or value != 0:
        raise PydanticCustomError("refused", "only its default, 0, is served: leave it out")


def _refuse_alignment(value: object) -> None:
    if value not in ("", "false"):
        raise PydanticCustomError("refused", 'only its default, "false", is served: leave it out')


Seconds = Annotated[
    Fraction, PlainValidator(_seconds), WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_SECONDS})
]
Size = Annotated[
    int | Fraction,
    PlainValidator(_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_PIXELS},
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            ]
        }
    ),
]
ObjectUri = Annotated[
    Location, PlainValidator(_location), WithJsonSchema({"type": "string", "pattern": LOCATION_PATTERN})
]
Refused = Annotated[None, PlainValidator(_refuse), WithJsonSchema(EMPTY_SCHEMA)]
OnlyFalse = Annotated[None, PlainValidator(_refuse_but_false), WithJsonSchema({"const": False})]
OnlyZero = Annotated[None, PlainValidator(_refuse_but_zero), WithJsonSchema({"const": 0})]
OnlyUnaligned = Annotated[None, PlainValidator(_refuse_alignment), WithJsonSchema({"enum": ["", "false"]})]
