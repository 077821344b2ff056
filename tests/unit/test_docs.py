"""The generated pages say what the code says."""

import re
from pathlib import Path

import pytest

from devkit.docs import ERRORS, WARNINGS, pages
from worker.errors import Code
from worker.limits import LimitSettings, Pool

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize("name", pages())
def test_a_page_is_as_it_would_be_generated_now(name):
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "run `make docs`"


def test_every_error_code_is_told():
    assert set(ERRORS) == set(Code)


def test_every_warning_is_told():
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "worker").rglob("*.py")))
    assert set(re.findall(r'(?:\.warn\(|FRAMES_OMITTED =)\s*"(\w+)"', code)) == set(WARNINGS)


def test_every_test_that_proves_a_promise_exists():
    tests = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    named = re.findall(r"`(test_\w+)`", (DOCS / "reliability.md").read_text(encoding="utf-8"))
    assert named
    assert [each for each in named if f"def {each}(" not in tests] == []


def test_every_limit_is_in_the_table_of_limits_with_a_test_that_exists():
    page = (DOCS / "limits.md").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    assert [each for each in re.findall(r"`(test_\w+)`", page) if f"def {each}(" not in tests] == []
    named = set(re.findall(r"`((?:LIMITS|POOL)__\w+)`", page))
    limits = {f"LIMITS__{name}".upper() for name in LimitSettings.model_fields} - {"LIMITS__CODECS"}
    assert limits <= named
    assert named <= limits | {f"POOL__{name}".upper() for name in Pool.model_fields}


def test_pages_do_not_depend_on_the_environment(monkeypatch):
    before = pages()
    monkeypatch.setenv("FRAME_CAPTURE_POOL__SLOTS", "7")
    monkeypatch.setenv("FRAME_CAPTURE_AMQP__URL", "amqp://someone:secret@elsewhere/")
    assert pages() == before


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/security.md"])
def test_every_file_that_proves_a_promise_of_security_is_there(page):
    named = re.findall(r"`((?:tests|worker)/[\w/]+\.py)`", (ROOT / page).read_text(encoding="utf-8"))
    assert named
    assert [each for each in named if not (ROOT / each).is_file()] == []
