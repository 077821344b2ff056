"""The image, built once for all tests of a run; they are skipped where nothing can build it."""

import pytest

from devkit import image


@pytest.fixture(scope="session")
def built_image():
    if reason := image.why_not():
        pytest.skip(reason)
    return image.build()
