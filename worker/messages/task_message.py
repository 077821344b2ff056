"""The task message: IMM's `CreateMediaConvertTask` request, as far as it is served.

Owns which fields there are and what each may be by itself; rules across fields are in `parse`. The JSON Schema of
the task is made from these models, so descriptions are for users.
"""

from fractions import Fraction
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from worker.media.plan import Format
from worker.messages.fields import (
    NAME_PATTERN,
    TOPIC_PATTERN,
    Message,
    ObjectUri,
    OnlyFalse,
    OnlyUnaligned,
    OnlyZero,
    Refused,
    Seconds,
    Size,
    is_empty,
)
from worker.template import TEMPLATE_PATTERN

MAX_TEXT_BYTES = 2048
MAX_TAGS = 100
DEFAULT_TOPIC = "default"
FORMATS = {"jpg": Format.JPG, "jpeg": Format.JPG, "png": Format.PNG, "webp": Format.WEBP, "avif": Format.AVIF}
ZERO = Fraction(0)

_NOT_EMPTY = {"type": "object", "minProperties": 1}
_AVERAGE_NEEDS_NUMBER: dict[str, Any] = {
    "if": {"properties": {"Mode": {"const": "average"}}, "required": ["Mode"]},
    "then": {"properties": {"Number": {"type": "integer", "minimum": 1}}, "required": ["Number"]},
}
_ONE_TOPIC: dict[str, Any] = {
    "not": {"properties": {"MNS": _NOT_EMPTY, "RocketMQ": _NOT_EMPTY}, "required": ["MNS", "RocketMQ"]}
}


def _tags(value: object) -> dict[str, object]:
    if not isinstance(value, dict) or len(value) > MAX_TAGS:
        raise PydanticCustomError("tags", "Input should be an object of at most 100 strings")
    return {name: text for name, text in value.items() if not is_empty(text)}


def is_user_data(value: object) -> TypeGuard[str]:
    """Tell whether a value can be the `UserData` of a task."""
    return isinstance(value, str) and len(value.encode()) <= MAX_TEXT_BYTES


def _user_data(value: object) -> str:
    if not is_user_data(value):
        raise PydanticCustomError("user_data", "Input should be a string of at most 2048 bytes in UTF-8")
    return value


class SourceMessage(Message):
    """A media file, and the part of it that counts as the timeline."""

    uri: ObjectUri = Field(alias="URI", description="The file: `oss://`, `s3://` or `file://`, bucket and key.")
    start_time: Seconds = Field(ZERO, description="Where the timeline starts, in seconds.")
    duration: Seconds = Field(ZERO, description="How long it is, in seconds; 0: to the end.")
    align_mode: OnlyUnaligned = Field(None, description="Only its default is served.")
    attached: OnlyFalse = Field(None, description="Only its default is served.")
    disable_audio: OnlyFalse = Field(None, description="Only its default is served.")
    disable_video: OnlyFalse = Field(None, description="Only its default is served.")
    subtitles: Refused = Field(None, description="Not served.")


class SnapshotMessage(Message):
    """What to capture, how it looks, and where it is stored."""

    model_config = ConfigDict(json_schema_extra=_AVERAGE_NEEDS_NUMBER)

    format: Literal["jpg", "jpeg", "png", "webp", "avif"] = Field(description="The image format.")
    uri: Annotated[str, WithJsonSchema({"type": "string", "pattern": TEMPLATE_PATTERN})] = Field(
        alias="URI", description="The output: a URI with `{fields}`."
    )
    mode: Literal["interval", "average", "keyframe", "dhash"] = Field("interval", description="How frames are chosen.")
    start_time: Seconds = Field(ZERO, description="Where to start, in seconds of the timeline.")
    interval: Seconds = Field(ZERO, description="Seconds from image to image; 0: every frame.")
    number: int = Field(0, ge=0, description="How many images; 0: until the end. `average` needs at least 1.")
    threshold: int = Field(0, ge=0, le=100, description="`dhash`: the percentage of difference a frame must exceed.")
    width: Size | None = Field(None, description="Pixels (`512`) or share of the picture (`0.5`, `1.0`).")
    height: Size | None = Field(None, description="Pixels (`512`) or share of the picture (`0.5`, `1.0`).")
    scale_type: Literal["stretch", "crop", "fill", "fit"] = Field(
        "stretch", description="How the picture is fitted to `Width` × `Height`."
    )
    quality: int = Field(90, ge=1, le=100, description="Of jpg, webp and avif.")


class ImageMessage(Message):
    """The images of a target."""

    snapshots: list[SnapshotMessage] = Field(min_length=1, description="What to capture, entry by entry.")
    sprites: Refused = Field(None, description="Not served yet.")
    animations: Refused = Field(None, description="Not served yet.")


class TargetMessage(Message):
    """A target: images only, nothing is transcoded."""

    image: ImageMessage = Field(description="The images to make.")
    uri: Refused = Field(None, alias="URI", description="Not served.")
    container: Refused = Field(None, description="Not served.")
    video: Refused = Field(None, description="Not served.")
    audio: Refused = Field(None, description="Not served.")
    subtitle: Refused = Field(None, description="Not served.")
    segment: Refused = Field(None, description="Not served.")
    speed: Refused = Field(None, description="Not served.")
    strip_metadata: Refused = Field(None, description="Not served.")
    attached_picture: Refused = Field(None, description="Not served.")
    data: Refused = Field(None, description="Not served.")


Topic = Annotated[str, StringConstraints(pattern=TOPIC_PATTERN)]


class MnsMessage(Message):
    """Where events go, in MNS terms."""

    topic_name: Topic = Field(description="The first word of the events' routing key.")


class RocketMqMessage(Message):
    """Where events go, in RocketMQ terms."""

    topic_name: Topic = Field(description="The first word of the events' routing key.")
    instance_id: str = Field("", max_length=128, description="Accepted and ignored.")


class NotificationMessage(Message):
    """How to tell of the task."""

    model_config = ConfigDict(json_schema_extra=_ONE_TOPIC)

    mns: MnsMessage | None = Field(None, alias="MNS", description="A topic; give this or `RocketMQ`.")
    rocket_mq: RocketMqMessage | None = Field(None, alias="RocketMQ", description="A topic; give this or `MNS`.")
    extended_message_uri: ObjectUri | None = Field(
        None, alias="ExtendedMessageURI", description="Where the full result is also written, as JSON."
    )

    @property
    def topic(self) -> str:
        """The topic that is given; `default` if none is."""
        chosen = self.mns or self.rocket_mq
        return chosen.topic_name if chosen else DEFAULT_TOPIC


class TaskMessage(Message):
    """A frame-capture task, as in IMM's `CreateMediaConvertTask`."""

    project_name: str = Field(pattern=NAME_PATTERN, description="The project: the second word of the routing key.")
    sources: list[SourceMessage] = Field(min_length=1, json_schema_extra={"maxItems": 1}, description="The media file.")
    targets: list[TargetMessage] = Field(min_length=1, description="What to make of it.")
    notification: NotificationMessage | None = Field(None, description="How to tell of the task.")
    user_data: Annotated[
        str, PlainValidator(_user_data), WithJsonSchema({"type": "string", "maxLength": MAX_TEXT_BYTES})
    ] = Field("", description="Echoed in every event; at most 2,048 bytes.")
    tags: Annotated[
        dict[str, str],
        BeforeValidator(_tags),
        WithJsonSchema(
            {
                "type": "object",
                "maxProperties": MAX_TAGS,
                "additionalProperties": {"anyOf": [{"type": "string"}, {"enum": [None, [], {}]}]},
            }
        ),
    ] = Field({}, description="Echoed in every event; `{tags.name}` in URIs.")
    credential_config: Refused = Field(None, description="Not served: credentials are the worker's settings.")
    alignment_index: OnlyZero = Field(None, description="Only its default is served.")
    target_groups: Refused = Field(None, description="Not served.")
