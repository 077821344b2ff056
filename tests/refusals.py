"""The error of an attempt, which a test has to get."""

import pytest

from worker.errors import TaskError


async def refused(attempt, code, *, retryable=False):
    """Await what has to raise an error of this code; give its message."""
    with pytest.raises(TaskError) as caught:
        await attempt
    assert caught.value.code == code, caught.value
    assert caught.value.retryable is retryable
    return caught.value.message
