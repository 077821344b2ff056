"""Every setting of the worker, with its unit, default and meaning. Read once, from the environment, and passed on.

`FRAME_CAPTURE_<SECTION>__<NAME>` sets one, for example `FRAME_CAPTURE_AMQP__URL`. Secrets can also come from files:
`FRAME_CAPTURE_SECRETS_DIR` names a directory with one file per setting, named as the variable, in lower case.
What a task may cost is in `worker.limits`. The table in `docs/settings.md` is generated from both.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from worker.addresses import AmqpUrl, EndpointUrl, PemFile, Places, check_tls
from worker.limits import MIB, LimitSettings, Pool, Section, json_list

__all__ = [
    "MIB", "Amqp", "Events", "Http", "LimitSettings", "Pool", "RecordSettings", "Retry", "Settings", "Store",
]  # fmt: skip

STORE_WAITS = 3  # in one attempt: to find the source, for the last images, and for the result file
PUBLICATIONS = 3  # of one attempt: that it started, how it ended, and the copy of its message
RECORD_WAITS = 2  # in one attempt: to look for a record, and to write it
SPARE_S = 60
LONGEST_DELAY_S = (2**32 - 1) // 1000  # RabbitMQ counts a message's time in so many milliseconds at most


def _rising(delays: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in pairwise(delays)):
        raise PydanticCustomError("delays", "should rise from delay to delay, such as [5, 30, 120]")
    return delays


_Delays = Annotated[
    tuple[Annotated[int, Field(ge=1, le=LONGEST_DELAY_S)], ...],
    NoDecode,
    BeforeValidator(json_list("[5, 30, 120]")),
    AfterValidator(_rising),
]


class Amqp(Section):
    """The broker and the names of what the worker uses there."""

    url: AmqpUrl = Field(
        SecretStr("amqp://guest:guest@127.0.0.1:5672/"), description="Broker URL, `amqp://` or `amqps://`."
    )
    ca_file: PemFile = Field(
        None, description="PEM file of the authorities to trust at an `amqps://` broker; empty: the machine's."
    )
    cert_file: PemFile = Field(None, description="PEM file of the client certificate to show to an `amqps://` broker.")
    key_file: PemFile = Field(None, description="PEM file of its key, without a password.")
    namespace: str = Field(
        "frame-capture", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Prefix of all exchanges and queues."
    )
    lane: str = Field(
        "main", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The task queue to serve: `<namespace>.tasks.<lane>`."
    )
    declare: Literal["active", "passive"] = Field(
        "active", description="`active` declares exchanges and queues at start, `passive` only checks that they exist."
    )
    heartbeat_s: int = Field(15, ge=1, le=600, description="AMQP heartbeat; a dead peer is noticed after about three.")
    connect_timeout_s: float = Field(10, gt=0, description="Time limit of one connection attempt.")
    startup_deadline_s: float = Field(
        120, gt=0, description="Without broker and store for this long at start: exit non-zero."
    )
    recovery_deadline_s: float = Field(600, gt=0, description="Not consuming for this long after start: exit non-zero.")
    publish_timeout_s: float = Field(10, gt=0, description="Time limit of one try to publish.")
    publish_deadline_s: float = Field(120, gt=0, description="Time limit of all tries to publish one message.")
    delivery_limit: int = Field(20, ge=1, description="Redeliveries after which the broker dead-letters a task.")
    consumer_timeout_s: float = Field(
        1800, ge=60, description="The broker's delivery acknowledgement timeout, which it does not tell us."
    )

    @model_validator(mode="after")
    def _usable_files(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise PydanticCustomError("tls", "set both …__CERT_FILE and …__KEY_FILE, or neither")
        encrypted = urlsplit(self.url.get_secret_value()).scheme == "amqps"
        check_tls((self.ca_file, self.cert_file, self.key_file), encrypted=encrypted, url="AMQP__URL", scheme="amqps")
        return self


class Store(Section):
    """Where sources are read and images written."""

    kind: Literal["local", "s3"] = Field(
        "local", description="`local`: a directory of buckets; `s3`: S3-compatible storage."
    )
    root: Path = Field(
        Path("buckets"), description="The directory of buckets of the local store; relative to where the command runs."
    )
    endpoint_url: EndpointUrl = Field(
        "", description="S3 endpoint, for example `https://oss-cn-hangzhou.aliyuncs.com`; empty: AWS."
    )
    ca_file: PemFile = Field(
        None, description="PEM file of the authorities to trust at an `https://` endpoint; empty: the well-known ones."
    )
    region: str = Field("us-east-1", description="S3 region.")
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Bucket in the path or in the host name."
    )
    access_key_id: SecretStr = Field(SecretStr(""), description="Empty: the usual AWS chain (environment, role, …).")
    secret_access_key: SecretStr = Field(SecretStr(""), description="Secret of the access key.")
    session_token: SecretStr = Field(SecretStr(""), description="Token of temporary credentials.")
    checksums: Literal["when_required", "when_supported"] = Field(
        "when_required", description="When to send and check CRC checksums; many S3-compatible stores know none."
    )
    max_concurrency: int = Field(16, ge=1, le=256, description="Requests under way at once.")
    timeout_s: float = Field(30, gt=0, description="Time limit of one request without progress.")
    max_attempts: int = Field(4, ge=1, le=20, description="Tries of one request before the task is postponed.")
    multipart_bytes: int = Field(
        16 * MIB, ge=5 * MIB, description="Objects larger than this are uploaded in parts of this size."
    )
    source_buckets: Places = Field(
        (), description="JSON list of buckets that may be read, each alone or with a prefix; empty: all."
    )
    target_buckets: Places = Field(
        (), description="JSON list of buckets that may be written, each alone or with a prefix; empty: all."
    )

    @model_validator(mode="after")
    def _usable_access(self) -> Self:
        if bool(self.access_key_id.get_secret_value()) != bool(self.secret_access_key.get_secret_value()):
            raise PydanticCustomError(
                "key", "set both …__ACCESS_KEY_ID and …__SECRET_ACCESS_KEY, or neither to use the usual AWS chain"
            )
        encrypted = not self.endpoint_url.startswith("http:")
        check_tls((self.ca_file, None, None), encrypted=encrypted, url="STORE__ENDPOINT_URL", scheme="https")
        return self


class Retry(Section):
    """What follows a failure that may pass."""

    max_attempts: int = Field(5, ge=1, description="Attempts at a task in all.")
    crash_attempts: int = Field(2, ge=1, description="Attempts that may kill a decoder before the task is parked.")
    delays_s: _Delays = Field(
        (5, 30, 120, 600, 1800), min_length=1, description="JSON list of delays, rising; each has a queue of its own."
    )
    jitter: float = Field(0.25, ge=0, lt=1, description="A delay is shortened by up to this share, at random.")


class Events(Section):
    """What is announced."""

    envelope: Literal["cloudevents", "imm"] = Field(
        "cloudevents", description="CloudEvents 1.0, or IMM's own envelope."
    )
    source: str = Field("frame-capture", min_length=1, description="The CloudEvents `source`.")
    inline_bytes: int = Field(128 * 1024, ge=4096, description="A larger result leaves `Frames` out of the event.")
    progress_interval_s: float = Field(1.0, ge=0.1, description="At most one progress event in this time.")


class RecordSettings(Section):
    """The result records: how each task ended, one object for each."""

    uri: str = Field(
        "",
        pattern=r"^$|^(file|s3|oss)://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.=-]*[A-Za-z0-9_=-]){1,8}$",
        description="Bucket and prefix of the records in the worker's store, such as `s3://bucket/records`, "
        "which no task may read or write; empty: none are kept.",
    )
    hold_s: float = Field(
        180, ge=0, description="Time that a task waits in the worker for the records; then it goes to a delay queue."
    )


class Http(Section):
    """Health and metrics."""

    host: str = Field("0.0.0.0", description="Address to listen on; `127.0.0.1` keeps other machines out.")  # noqa: S104
    port: int = Field(8080, ge=0, le=65535, description="Port of `/livez`, `/readyz`, `/metrics`; 0 takes a free one.")
    projects: int = Field(
        100, ge=0, le=10_000, description="Projects with metrics of their own; what comes later counts as `(other)`."
    )


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        env_prefix="FRAME_CAPTURE_", env_nested_delimiter="__", extra="forbid", frozen=True, allow_inf_nan=False
    )

    amqp: Amqp = Amqp()
    store: Store = Store()
    pool: Pool = Pool()
    limits: LimitSettings = LimitSettings()
    retry: Retry = Retry()
    events: Events = Events()
    records: RecordSettings = RecordSettings()
    http: Http = Http()
    drain_timeout_s: float = Field(25, ge=0, description="Time that running tasks get to finish after SIGTERM.")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="`auto`: JSON unless on a terminal.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        """Refuse limits with which the broker would take a task away from a worker that keeps all of them."""
        longest_s = (
            self.pool.hard_time_limit_s
            + self.store.timeout_s * self.store.max_attempts * STORE_WAITS
            + self.amqp.publish_deadline_s * PUBLICATIONS
            + self.records.hold_s * (RECORD_WAITS if self.records.uri else 0)
            + SPARE_S
        )
        if longest_s > self.amqp.consumer_timeout_s:
            raise PydanticCustomError(
                "consumer_timeout",
                "a task may take {longest} s (POOL__HARD_TIME_LIMIT_S, 3 × STORE__TIMEOUT_S × STORE__MAX_ATTEMPTS, "
                "{times} × AMQP__PUBLISH_DEADLINE_S, with records 2 × RECORDS__HOLD_S, and 60), but the broker takes "
                "it away after {timeout} s: raise `consumer_timeout` in rabbitmq.conf and AMQP__CONSUMER_TIMEOUT_S "
                "with it, or lower those limits",
                {"longest": f"{longest_s:g}", "times": PUBLICATIONS, "timeout": f"{self.amqp.consumer_timeout_s:g}"},
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings gives all of these by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then secret files, whose names have sections too."""
        return (
            init_settings,
            env_settings,
            NestedSecretsSettingsSource(file_secret_settings, secrets_dir_missing="error"),
        )
