"""What all object stores share: which buckets and keys may be used, and how requests are reported.

Pure rules; knows no storage technology.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote

from worker.errors import Code, TaskError
from worker.task import Location

MAX_KEY_BYTES = 1024

# Called after each request: operation, seconds, bytes from the store, bytes to the store, error code ("" on success).
OnRequest = Callable[[str, float, int, int, str], None]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class AllowedBuckets:
    """The buckets that may be read and those that may be written, each alone or with a prefix that keys must lie

    below, as `bucket/prefix`; none listed: all. What lies below `reserved` is the worker's own, and for no task to read
    or write.
    """

    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    reserved: Location | None = None

    def check_read(self, location: Location) -> None:
        """Raise `AccessDenied` or `InvalidArgument` unless `location` may be read."""
        _check_bucket(location, self.sources, "read", "STORE__SOURCE_BUCKETS")
        check_key(location)
        self._check_reserved(location)

    def check_write(self, location: Location) -> None:
        """Raise `AccessDenied` or `InvalidArgument` unless `location` may be written."""
        _check_bucket(location, self.targets, "written", "STORE__TARGET_BUCKETS")
        check_key(location)
        self._check_reserved(location)

    def _check_reserved(self, location: Location) -> None:
        own = self.reserved
        if own and location.bucket == own.bucket and f"{location.key}/".startswith(f"{own.key}/"):
            raise TaskError(Code.ACCESS_DENIED, f"{location} is where the worker keeps its records: use another prefix")


def place_of(uri: str) -> Location | None:
    """Read a bucket and prefix from a setting that is such a URI or empty."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    return Location(scheme, bucket, key) if uri else None


def _check_bucket(location: Location, allowed: tuple[str, ...], use: str, setting: str) -> None:
    # The pattern also keeps out access-point ARNs, with which an S3 client would change the host.
    if not _BUCKET.fullmatch(location.bucket):
        raise TaskError(
            Code.INVALID_ARGUMENT,
            f"{location.bucket!r} is no bucket name: it has 3 to 63 lower-case letters, digits, dots and hyphens",
        )
    if allowed and not any(_lies_in(location, place) for place in allowed):
        raise TaskError(
            Code.ACCESS_DENIED,
            f"{location} may not be {use}: the worker's setting {setting} allows {', '.join(allowed)}",
        )


def _lies_in(location: Location, place: str) -> bool:
    """Tell whether an object is in a bucket, or below the prefix that follows its name."""
    return f"{location.bucket}/{location.key}/".startswith(f"{place.removesuffix('/')}/")


def check_key(location: Location) -> None:
    """Raise `InvalidArgument` for a key that a path or a normalising proxy could lead elsewhere.

    Keys are looked at as they are and percent-decoded once: clients send `..` raw, and proxies resolve both.
    """
    for key in (location.key, unquote(location.key)):
        problem = _problem_of(key)
        if problem:
            raise TaskError(Code.INVALID_ARGUMENT, f"the key {location.key!r} {problem}")


def _problem_of(key: str) -> str:
    if _UNPRINTABLE.search(key):
        return "holds a backslash, a control character or a lone surrogate"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"is longer than {MAX_KEY_BYTES} bytes"
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        return "has an empty segment, `.` or `..`: write `directory/name`"
    return ""


@dataclass(slots=True)
class Transfer:
    """The bytes that one request moved so far: `bytes_in` from the store, `bytes_out` to it."""

    bytes_in: int = 0
    bytes_out: int = 0


@contextmanager
def observed(on_request: OnRequest, operation: str) -> Iterator[Transfer]:
    """Report one request when it is over, however it ends; what is cancelled is reported as `Canceled`."""
    transfer = Transfer()
    started = time.perf_counter()
    code: str = Code.CANCELED
    try:
        yield transfer
        code = ""
    except TaskError as error:
        code = error.code
        raise
    finally:
        on_request(operation, time.perf_counter() - started, transfer.bytes_in, transfer.bytes_out, code)


def unobserved(operation: str, seconds: float, bytes_in: int, bytes_out: int, code: str) -> None:
    """Report to nobody."""
