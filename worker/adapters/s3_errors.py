"""What S3 and its client library say when a request fails, and the error that a task ends with. Part of `s3`."""

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from worker.errors import Code, TaskError
from worker.task import Location

_BROKEN_BODY = (ResponseStreamingError, IncompleteReadError, ReadTimeoutError, aiohttp.ClientError)
# 4xx answers that may pass; an upload that is gone was aborted, or completed by a request whose answer was lost. The
# number instead of a code is an answer to HEAD, which has no body: 400 is then all that is said of an expired token.
_PASSING = frozenset(
    {
        "RequestTimeout",
        "OperationAborted",
        "ConditionalRequestConflict",
        "NoSuchUpload",
        "400",
        "429",
        "TooManyRequests",
    }
    | {"SlowDown", "ExpiredToken", "TokenRefreshRequired", "RequestTimeTooSkewed"}
)
_NOT_IMPLEMENTED = 501
BAD_CREDENTIALS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"}
    | {"AuthorizationHeaderMalformed"}
)


class BrokenBodyError(TaskError):
    """The body of an answer broke off or stalled, which the client's own retries do not cover."""


def status_of(error: ClientError) -> int:
    """Tell the HTTP status of an answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: ClientError) -> str:
    """Tell S3's own error code, which answers to HEAD lack: then it is the status."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def broken_body_of(location: Location) -> Iterator[None]:
    """Turn what goes wrong while a body is read into `BrokenBodyError`."""
    try:
        yield
    except _BROKEN_BODY as error:
        raise BrokenBodyError(
            Code.STORAGE_UNAVAILABLE, f"{location}: the answer broke off ({error})", retryable=True
        ) from error


@contextmanager
def errors_of(what: str) -> Iterator[None]:
    """Turn what the client raises about `what` into the error that a task ends with."""
    try:
        yield
    except ClientError as error:
        raise _error_of_answer(what, error) from error
    except ParamValidationError as error:
        raise TaskError(Code.INVALID_ARGUMENT, f"{what} is no valid object: {error}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise TaskError(
            Code.ACCESS_DENIED,
            f"{what}: the worker has no credentials ({error}): set FRAME_CAPTURE_STORE__ACCESS_KEY_ID and "
            "FRAME_CAPTURE_STORE__SECRET_ACCESS_KEY, or what the usual AWS chain reads (environment, ~/.aws, role)",
        ) from error
    except TimeoutError as error:
        raise TaskError(
            Code.STORAGE_UNAVAILABLE, f"{what}: the store did not answer in time ({error})", retryable=True
        ) from error
    except (BotoCoreError, aiohttp.ClientError, OSError) as error:
        raise TaskError(
            Code.STORAGE_UNAVAILABLE, f"{what}: the store could not be reached ({error})", retryable=True
        ) from error


def _error_of_answer(what: str, error: ClientError) -> TaskError:
    status, code = status_of(error), code_of(error)
    detail = error.response.get("Error", {}).get("Message", "")
    answer = f"the store answered {status} {code}: {detail}" if code != str(status) else f"{status} {detail}"
    if (status >= 500 and status != _NOT_IMPLEMENTED) or code in _PASSING:
        return TaskError(Code.STORAGE_UNAVAILABLE, f"{what}: {answer}", retryable=True)
    if status == 412:
        return TaskError(
            Code.STORAGE_UNAVAILABLE, f"{what} was changed while being read: try again ({answer})", retryable=True
        )
    if status == 404:
        return TaskError(Code.RESOURCE_NOT_FOUND, f"{what} does not exist ({answer})")
    if status in {401, 403}:
        return TaskError(
            Code.ACCESS_DENIED,
            f"{what}: the worker's credentials may not do this, or there is no such object and they may not list "
            f"the bucket, which S3 does not tell apart ({answer})",
        )
    return TaskError(Code.INVALID_ARGUMENT, f"{what}: {answer}")
