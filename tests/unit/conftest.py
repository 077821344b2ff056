"""What unit tests share: worlds around a handler, and the command line in this process."""

import os
import sys

import pytest

from tests.handler_world import World
from tests.record_world import Keeping
from worker.cli.app import main


@pytest.fixture
def world():
    """A handler and everything around it; modules whose worker keeps records have a world of their own."""
    return World()


@pytest.fixture(params=[True, False], ids=["records", "no records"])
def any_world(request):
    """With records and without."""
    return Keeping if request.param else World


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line in this process; returns status, standard output, standard error."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["frame-capture", *args])
        with pytest.raises(SystemExit) as leaving:
            main()
        printed = capsys.readouterr()
        return leaving.value.code, printed.out, printed.err

    return run


@pytest.fixture
def clean_environment(monkeypatch):
    """No settings but those that the test makes."""
    for name in [name for name in os.environ if name.startswith("FRAME_CAPTURE_")]:
        monkeypatch.delenv(name)
