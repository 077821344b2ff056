import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.corpus.messages import CASES, Case
from tests.parsing import parse
from worker.errors import TaskError
from worker.messages.examples import EXAMPLE_TASKS
from worker.messages.schema import UNSAYABLE, rules_markdown, write_schemas

ROOT = Path(__file__).parents[2]


@functools.cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def not_json(text: str) -> Any:
    raise ValueError(text)


def schema_takes(body: bytes) -> bool:
    try:
        if body.startswith((b"\xff\xfe", b"\xef\xbb\xbf")):
            return False
        instance = json.loads(body, parse_constant=not_json)
    except (ValueError, RecursionError):
        return False
    return validator("task").is_valid(instance)


def worker_answers(body: bytes) -> str:
    try:
        parse(body)
    except TaskError as error:
        return error.code
    return ""


def test_the_files_are_what_the_models_say(tmp_path):
    for path in write_schemas(tmp_path):
        name = path.relative_to(tmp_path)
        assert path.read_bytes() == (ROOT / "schemas" / name).read_bytes(), f"{name} differs: run `make schemas`"
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.json")}
    kept = {path.relative_to(ROOT / "schemas") for path in (ROOT / "schemas").rglob("*.json")}
    assert {name for name in kept if name.parent.name == "examples"} <= written


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_worker_answers_with_the_code(case: Case):
    assert worker_answers(case.body) == case.code


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_schema_and_worker_agree(case: Case):
    assert schema_takes(case.body) == (case.code == "" or case.unsayable != "")


def test_each_rule_beyond_the_schema_is_listed_and_has_a_case():
    assert {case.unsayable for case in CASES} - {""} == {name for name, _ in UNSAYABLE}
    assert len(CASES) >= 60


def test_the_documentation_lists_the_rules_beyond_the_schema():
    assert rules_markdown() in (ROOT / "docs" / "messages.md").read_text("utf-8")


@pytest.mark.parametrize("name", EXAMPLE_TASKS)
def test_examples_are_valid(name):
    examples = ROOT / "schemas" / "examples"
    validator("task").validate(json.loads((examples / f"{name}.task.json").read_text("utf-8")))
    event = json.loads((examples / f"{name}.event.json").read_text("utf-8"))
    validator("event").validate(event)
    validator("result").validate(event["data"])
