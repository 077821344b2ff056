"""What unit tests share."""

import pytest

from tests.handler_world import World


@pytest.fixture
def world():
    """A handler and everything around it; modules whose worker keeps records have a world of their own."""
    return World()
