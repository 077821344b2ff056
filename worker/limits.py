"""What a task, a source and a decoder process may cost: the settings that bound it, and how one that is hit is told.

No message can raise any of them. Knows nothing of how each is kept.
"""

import json
import os
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

MIB = 2**20


def json_list(example: str) -> Callable[[object], object]:
    """Read a list that comes as text here, not in pydantic-settings, which would stop at the first that is no JSON."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise PydanticCustomError("json", f"should be a JSON list such as {example}") from None

    return read


_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
_Names = Annotated[tuple[_Name, ...], NoDecode, BeforeValidator(json_list('["h264", "hevc", "av1"]'))]


class Section(BaseModel):
    """Settings that belong together. Immutable; a name that is none is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Pool(Section):
    """The decoder processes."""

    slots: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)),
        ge=1,
        le=256,
        description="Decoder processes, and so tasks at once. Default: the CPUs this process may use.",
    )
    split: bool = Field(
        default=True, description="Cut a long task into parts that use all slots which no other task waits for."
    )
    max_tasks: int = Field(100, ge=1, description="Tasks after which a decoder process is replaced.")
    memory_bytes: int = Field(1024 * MIB, ge=64 * MIB, description="Resident memory above which a decoder is killed.")
    soft_time_limit_s: float = Field(
        600,
        gt=0,
        description="Time in a decoder, waiting for the store included, that an attempt may take; or each part of one.",
    )
    hard_time_limit_s: float = Field(
        660, gt=0, description="Time in a decoder after which it is killed, whatever it does."
    )
    cpu_time_limit_s: float = Field(
        600, gt=0, description="CPU time that a decoder may use for an attempt, or a part of one; then it is killed."
    )
    silence_limit_s: float = Field(
        60, gt=0, description="Time that a decoder may give no sign of life while nobody keeps it waiting."
    )
    inflight_bytes: int = Field(
        64 * MIB, ge=MIB, description="Encoded images of one task waiting for upload; more pauses its decoder."
    )
    cache_bytes: int = Field(64 * MIB, ge=4 * MIB, description="Source bytes kept in memory per running task.")
    sandbox: Literal["required", "best_effort", "off"] = Field(
        "best_effort",
        description="What holds a decoder that a file has taken over: `best_effort` what the kernel has of Landlock "
        "and seccomp, `required` both or no start, `off` neither.",
    )

    @model_validator(mode="after")
    def _hard_after_soft(self) -> Self:
        if self.hard_time_limit_s < self.soft_time_limit_s:
            raise PydanticCustomError(
                "limits",
                "…__HARD_TIME_LIMIT_S ({hard} s) is less than …__SOFT_TIME_LIMIT_S ({soft} s), which then never comes; "
                "make it the greater",
                {"hard": f"{self.hard_time_limit_s:g}", "soft": f"{self.soft_time_limit_s:g}"},
            )
        return self


class LimitSettings(Section):
    """Bounds that no message can raise."""

    body_bytes: int = Field(256 * 1024, ge=1024, description="Size of a task message.")
    source_bytes: int = Field(5 * 1024 * MIB, ge=1, description="Size of a source.")
    entries: int = Field(16, ge=1, description="`Snapshots` entries in a task.")
    frames_per_entry: int = Field(10_000, ge=1, description="Images of one entry.")
    pixels: int = Field(50_000_000, ge=1, description="Width × height of a source frame.")
    side: int = Field(16_384, ge=1, description="Width or height of a source frame.")
    streams: int = Field(128, ge=1, description="Streams in a source.")
    decoded_frames: int = Field(1_000_000, ge=1, description="Frames decoded for one task.")
    image_bytes: int = Field(64 * MIB, ge=1024, description="Size of one image.")
    opening_bytes: int = Field(
        128 * MIB, ge=16 * MIB, description="Memory that FFmpeg may ask for at once while it opens a source."
    )
    allocation_bytes: int = Field(512 * MIB, ge=16 * MIB, description="The same while it reads and decodes.")
    codecs: _Names = Field(
        (), description="JSON list of video codecs that may be decoded, by FFmpeg's names; empty: all that it decodes."
    )
    frames: int = Field(20_000, ge=1, description="Images of one task.")
    output_bytes: int = Field(10 * 1024 * MIB, ge=1024, description="Size of all images of one task.")
    read_ratio: float = Field(
        5, ge=1, description="Times its own size that may be read of a source in one attempt; 64 MiB always may."
    )
    read_requests: int = Field(
        50_000, ge=1, description="Requests to the store for the bytes of a source in one attempt."
    )
