"""What we tell of a task: the content of events and of the result file, as pydantic models.

Owns the names and types on the wire; the JSON Schemas of events and results are made from these models, so
descriptions are for users. How values get here is in `event`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer
from pydantic.alias_generators import to_pascal

Status = Literal["Running", "Retrying", "Succeeded", "Failed", "Canceled"]


class _Told(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, validate_by_name=True, extra="forbid", frozen=True)


class WarningContent(_Told):
    """Something to know about a result that is good all the same."""

    code: str
    message: str


class ProblemContent(_Told):
    """One thing wrong with a task message."""

    path: str = Field(description="Where, as a JSON path such as `$.Targets[0].Image`.")
    code: str
    message: str


class FrameContent(_Told):
    """One stored image."""

    index: int = Field(ge=1, description="From 1, in time order within its entry.")
    uri: str = Field(alias="URI", description="Where the image is.")
    time: float = Field(description="Where the frame starts on the timeline, in seconds, rounded to 1 µs.")
    source_pts: int = Field(description="The frame's timestamp in the stream's own time base; -1 for a cover.")
    key_frame: bool
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Of the stored bytes.")
    e_tag: str = Field(alias="ETag", description="As the store gave it.")
    d_hash: str | None = Field(
        None, alias="DHash", pattern="^[0-9a-f]{16}$", description="`dhash` only: 64 bits in hexadecimal."
    )
    score: float | None = Field(
        None, ge=0, le=100, description="`dhash` only: percent of difference to the sample before."
    )
    repeated: bool = Field(description="The same frame as the image before, since the source has none in between.")


class SnapshotContent(_Told):
    """A `Snapshots` entry as it was sent, and once the task is over what became of it."""

    model_config = ConfigDict(extra="allow")

    count: int | None = Field(None, ge=0, description="How many images were stored.")
    requested: int | None = Field(None, ge=0, description="How many were asked for; 0: as many as there are.")
    code: str | None = Field(None, description="The error of this entry, if it failed.")
    message: str | None = Field(None, description="What was wrong with this entry.")
    warnings: list[WarningContent] | None = Field(None, description="What to know about the images.")
    frames: list[FrameContent] | None = Field(None, description="The images; left out where the list is too long.")

    @model_serializer(mode="wrap")
    def _sent_first(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = write(self)
        return (self.model_extra or {}) | told


class ImageContent(_Told):
    """The images of a target."""

    model_config = ConfigDict(extra="allow")

    snapshots: list[SnapshotContent]


class TargetContent(_Told):
    """A target as it was sent, with results."""

    model_config = ConfigDict(extra="allow")

    image: ImageContent


class Result(_Told):
    """All about a task: the content of an event, and of the file at `ExtendedMessageURI`."""

    project_name: str = Field(description="`unknown` where an invalid message does not tell.")
    task_id: str
    task_type: Literal["MediaConvert"] = Field("MediaConvert")
    status: Status
    code: str = Field(description="The error code; empty if there is no error.")
    message: str = Field(description="What was wrong, with which value, and what would be right.")
    start_time: str = Field(description="When the attempt started, RFC 3339, UTC.")
    end_time: str | None = Field(None, description="When the task was over, RFC 3339, UTC.")
    attempt: int | None = Field(None, ge=1, description="The attempt that runs, or the next one when `Retrying`.")
    retry_after: int | None = Field(
        None, ge=0, description="`Retrying`: about how many seconds until the next attempt."
    )
    progress: int | None = Field(None, ge=0, le=100, description="`Running`: percent done.")
    user_data: str | None = Field(None, description="As sent.")
    tags: dict[str, Any] | None = Field(None, description="As sent.")
    sources: list[dict[str, Any]] | None = Field(None, description="As sent.")
    targets: list[TargetContent] | None = Field(None, description="As sent, with the results of each entry.")
    extended_message_uri: str | None = Field(
        None, alias="ExtendedMessageURI", description="Where the full result is, with all frames."
    )
    problems: list[ProblemContent] | None = Field(None, description="Everything wrong with an invalid message.")


class EventMessage(BaseModel):
    """An event: CloudEvents 1.0, structured JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    specversion: Literal["1.0"] = Field("1.0")
    id: str = Field(description="The same for each copy of a terminal event.")
    source: str = Field(min_length=1, description="The worker's setting `events.source`.")
    type: Literal["imm:Task:MediaConvert"] = Field("imm:Task:MediaConvert")
    subject: str = Field(description="The TaskId.")
    time: str = Field(description="RFC 3339, UTC.")
    datacontenttype: Literal["application/json"] = Field("application/json")
    traceparent: str | None = Field(None, description="The W3C trace of the task message.")
    tracestate: str | None = Field(None, description="Goes with `traceparent`.")
    data: Result


class ImmEnvelope(BaseModel):
    """An event in IMM's own envelope, chosen by the setting `events.envelope`."""

    id: str
    source: str
    type: Literal["imm:Task:MediaConvert"] = Field("imm:Task:MediaConvert")
    subject: str
    time: str
    content: str = Field(description="The data as JSON text.")
