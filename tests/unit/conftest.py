"""What unit tests share: worlds around a handler."""

import pytest

from tests.handler_world import World
from tests.record_world import Keeping


@pytest.fixture
def world():
    """A handler and everything around it; modules whose worker keeps records have a world of their own."""
    return World()


@pytest.fixture(params=[True, False], ids=["records", "no records"])
def any_world(request):
    """With records and without."""
    return Keeping if request.param else World
