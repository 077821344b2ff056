"""The published JSON Schemas (draft 2020-12), made from the models, and the examples beside them.

Owns how the models' schemas become ones that agree with the worker, and the list of rules that no JSON Schema can say.
"""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from worker.messages.content import EventMessage, Result
from worker.messages.examples import example_files
from worker.messages.fields import EMPTY_SCHEMA
from worker.messages.task_message import TaskMessage

DIALECT = "https://json-schema.org/draft/2020-12/schema"

UNSAYABLE = (
    ("whole-numbers", "`5.0` is an integer to JSON Schema; the worker wants `5` for Number, Threshold and Quality."),
    ("bytes", "UserData is at most 2,048 bytes of UTF-8, an object key 1,024; JSON Schema counts characters."),
    ("expanded-keys", "A template is checked again when its fields are filled in: the bucket, the key's segments."),
    ("tag-exists", "`{tags.name}` needs that tag in Tags."),
    ("escapes", "No `%` right before `{index}`, since some index would turn it into an escape."),
    ("same-key", "Two outputs, or an output and the source, must not be able to name the same object."),
    ("duplicates", "A name given twice in one object is refused; most JSON parsers keep the last."),
    ("settings", "The size of the message, the entries of a task and the images of an entry are bounded by settings."),
)


def write_schemas(directory: Path) -> list[Path]:
    """Write the schemas and the examples; returns the files, the same bytes each time."""
    models: dict[str, type[BaseModel]] = {"task": TaskMessage, "event": EventMessage, "result": Result}
    files = {f"{name}.schema.json": schema_of(name, model) for name, model in models.items()}
    files |= {f"examples/{name}": content for name, content in example_files().items()}
    paths = []
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def schema_of(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """Make the JSON Schema of a model as it is published."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    emptiness = [{"enum": EMPTY_SCHEMA["enum"]}] if model is TaskMessage else []
    for each in (schema, *schema["$defs"].values()):
        _set_emptiness(each, emptiness)
    return {"$schema": DIALECT, "$id": f"urn:frame-capture:{name}", **schema}


def rules_markdown() -> str:
    """Write the table of the rules that the schema cannot say, for `docs/messages.md`."""
    rows = [f"| `{name}` | {rule} |" for name, rule in UNSAYABLE]
    return "\n".join(["| rule | what it is |", "|---|---|", *rows]) + "\n"


def _set_emptiness(schema: dict[str, Any], emptiness: list[dict[str, Any]]) -> None:
    """Let each optional member of an object be empty where the worker takes that, and `null` only there."""
    required = schema.get("required", [])
    for name, member in schema.get("properties", {}).items():
        if member.get("default", "") is None:
            del member["default"]
        if name in required or member.get("enum") == EMPTY_SCHEMA["enum"]:
            continue
        notes = {key: member.pop(key) for key in ("description", "default") if key in member}
        choices = [each for each in member.pop("anyOf", [dict(member)]) if each != {"type": "null"}] + emptiness
        member.clear()
        member.update({"anyOf": choices} if len(choices) > 1 else choices[0])
        member.update(notes)


class _Generator(GenerateJsonSchema):
    """Writes exact defaults as JSON numbers, and no titles that only repeat names."""

    def encode_default(self, dft: Any) -> Any:
        """Write an exact number as a JSON number."""
        return int(dft) if isinstance(dft, Fraction) else super().encode_default(dft)

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Leave titles out."""
        return False
