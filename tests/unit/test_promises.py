"""Each promise in docs/reliability.md, and each fault, names tests that exist."""

import ast
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISES = [f"P{number}" for number in range(1, 19)]
FAULTS = [f"F{number}" for number in range(1, 31)]


def rows(heading):
    """The rows of the table under a heading, by what its first cell tells."""
    section = (ROOT / "docs" / "reliability.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| |")]


@pytest.fixture(scope="module")
def tests():
    """The names of all tests."""
    trees = [ast.parse(path.read_bytes()) for path in (ROOT / "tests").rglob("test_*.py")]
    functions = (
        node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {function.name for function in functions if function.name.startswith("test_")}


@pytest.mark.parametrize(("heading", "names"), [("Promises", PROMISES), ("Faults", FAULTS)])
def test_each_is_listed_with_tests_that_exist(heading, names, tests):
    listed = set()
    for row in rows(heading):
        named = re.findall(r"`(test_[A-Za-z0-9_]+[…*]?)`", row)
        numbers = re.findall(r"\b[PF]\d+\b", row.split("|")[1])
        assert named or not numbers, f"no test is named: {row}"
        for name in named:
            pattern = name.replace("…", "*")
            assert any(fnmatchcase(each, pattern) for each in tests), f"there is no test {name}: {row}"
        listed |= set(numbers)
    assert listed == set(names)
