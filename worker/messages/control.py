"""What is said to all workers at once on the control exchange."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _ControlMessage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    cancel: str = Field(min_length=1, max_length=255)


def cancel_message(task_id: str) -> bytes:
    """Ask for a task to end as canceled. Raises `ValueError` for what can be no id."""
    return _ControlMessage(cancel=task_id).model_dump_json().encode()


def read_cancel(body: bytes) -> str:
    """Read which task is to end. Raises `ValueError` for any other message."""
    try:
        return _ControlMessage.model_validate_json(body).cancel
    except ValidationError as error:
        raise ValueError(f'should be {{"cancel": "<TaskId>"}}; got {body[:200]!r}') from error
