"""The generated pages say what the code says."""

from pathlib import Path

import pytest

from devkit.docs import ERRORS, pages
from worker.errors import Code

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", pages())
def test_a_page_is_as_it_would_be_generated_now(name):
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "run `make docs`"


def test_every_error_code_is_told():
    assert set(ERRORS) == set(Code)


def test_pages_do_not_depend_on_the_environment(monkeypatch):
    before = pages()
    monkeypatch.setenv("FRAME_CAPTURE_POOL__SLOTS", "7")
    monkeypatch.setenv("FRAME_CAPTURE_AMQP__URL", "amqp://someone:secret@elsewhere/")
    assert pages() == before
