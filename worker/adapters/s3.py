"""Objects in S3-compatible storage. `oss://` and `s3://` both mean it.

Owns the one client of the worker's life, with its timeouts and retries, and the meaning of what S3 answers. An object
becomes visible only as a whole, which S3 promises of a PUT and of a completed multipart upload.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Self, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from worker.adapters.s3_errors import BAD_CREDENTIALS, BrokenBodyError, broken_body_of, code_of, errors_of, status_of
from worker.errors import Code, TaskError
from worker.ports import ObjectInfo
from worker.settings import Store
from worker.stores import AllowedBuckets, OnRequest, Transfer, observed, unobserved
from worker.task import Location

# Parts of one object under way at once; the settings bound all requests together.
PARTS_AT_ONCE = 4
CONNECT_TIMEOUT_S = 10
ABORT_S = 0.5  # a canceled task stops within a second, and its drain or second SIGTERM waits no longer

_PARTIAL_CONTENT = 206
_PAST_THE_END = 416
_PRECONDITION_FAILED = 412
_T = TypeVar("_T")

# Their DEBUG logs show key ids and session tokens.
_TALKATIVE = ("botocore", "aiobotocore", "urllib3", "aiohttp")


class S3Store:
    """Implements `ports.ObjectStore`; usable while entered as a context manager."""

    def __init__(
        self, settings: Store, *, allowed: AllowedBuckets | None = None, on_request: OnRequest = unobserved
    ) -> None:
        self._settings = settings
        self._allowed = allowed or AllowedBuckets(settings.source_buckets, settings.target_buckets)
        self._on_request = on_request
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._resources = AsyncExitStack()
        # Long enough for every try to run into its own time limit: ends what trickles, or stalls while sending.
        self._deadline_s = 2 * settings.timeout_s * settings.max_attempts
        self._client: Any

    async def __aenter__(self) -> Self:
        for name in _TALKATIVE:
            logger = logging.getLogger(name)
            logger.setLevel(max(logger.level, logging.INFO))
        try:
            with errors_of("the store"):  # it reads the credentials of the AWS chain
                self._client = await self._resources.enter_async_context(_new_client(self._settings))
        except ValueError as error:
            endpoint_url = self._settings.endpoint_url
            raise TaskError(
                Code.INVALID_ARGUMENT, f"the setting endpoint_url is {endpoint_url!r}, not like `https://host:port`"
            ) from error
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._resources.aclose()

    async def check(self) -> None:
        """Prove that the endpoint answers and knows the credentials; needs no permission.

        Listing buckets is what every endpoint understands without naming one. Being forbidden to is proof enough, for
        its answer tells an unknown key from a known one. Raises `StorageUnavailable` or `AccessDenied`.
        """
        try:
            async with self._request("check", "the list of buckets"):
                await self._client.list_buckets()
        except TaskError as error:
            answer = error.__cause__
            if not isinstance(answer, ClientError) or error.retryable or code_of(answer) in BAD_CREDENTIALS:
                raise

    async def stat(self, location: Location, head_bytes: int = 0) -> ObjectInfo:
        """Tell an object's size and tag: with a HEAD request, or as what comes with its first bytes."""
        _check_scheme(location)
        self._allowed.check_read(location)
        if head_bytes and (info := await self._whole(lambda: self._open_once(location, head_bytes))):
            return info
        async with self._request("stat", location):
            answer = await self._client.head_object(Bucket=location.bucket, Key=location.key)
        return ObjectInfo(answer["ContentLength"], _unquoted(answer["ETag"]))

    async def read(self, location: Location, offset: int, size: int, etag: str) -> bytes:
        """Read a range of the object that has `etag`. A body that breaks off is asked for again at once."""
        _check_scheme(location)
        self._allowed.check_read(location)
        return await self._whole(lambda: self._read_once(location, offset, size, etag))

    async def _whole(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat a request at once while the body of its answer breaks off."""
        for _ in range(self._settings.max_attempts - 1):
            with suppress(BrokenBodyError):
                return await request()
        return await request()

    def check_write(self, location: Location) -> None:
        """Raise `AccessDenied` or `InvalidArgument` for a bucket or a key that no task may write."""
        _check_scheme(location)
        self._allowed.check_write(location)

    async def write(self, location: Location, data: bytes, content_type: str) -> str:
        """Store an object, in parts if it is larger than the setting `multipart_bytes`."""
        self.check_write(location)
        if len(data) > self._settings.multipart_bytes:
            return await self._write_in_parts(location, data, content_type)
        names = {"Bucket": location.bucket, "Key": location.key}
        async with self._request("write", location) as transfer:
            answer = await self._client.put_object(**names, Body=data, ContentType=content_type)
            transfer.bytes_out = len(data)
        return _unquoted(answer["ETag"])

    async def write_if(self, location: Location, data: bytes, content_type: str, etag: str | None) -> bool:
        """Store an object in one request, on a condition that the store checks."""
        self.check_write(location)
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": f'"{etag}"'}
        names = {"Bucket": location.bucket, "Key": location.key}
        async with self._request("write_if", location) as transfer:
            try:
                await self._client.put_object(**names, **condition, Body=data, ContentType=content_type)
            except ClientError as error:
                # An object that should be there and is not gives the second.
                if status_of(error) == _PRECONDITION_FAILED or (etag and code_of(error) == "NoSuchKey"):
                    return False
                raise
            transfer.bytes_out = len(data)
        return True

    @asynccontextmanager
    async def _request(self, operation: str, what: Location | str) -> AsyncIterator[Transfer]:
        """Hold one of the slots for a request about `what`, report it, and translate its errors."""
        async with self._slots:
            with observed(self._on_request, operation) as transfer, errors_of(str(what)):
                async with asyncio.timeout(self._deadline_s):
                    yield transfer

    async def _read_once(self, location: Location, offset: int, size: int, etag: str) -> bytes:
        names = {"Bucket": location.bucket, "Key": location.key}
        wanted = f"bytes={offset}-{offset + size - 1}"
        async with self._request("read", location) as transfer:
            try:
                answer = await self._client.get_object(**names, Range=wanted, IfMatch=f'"{etag}"')
            except ClientError as error:
                if status_of(error) == _PAST_THE_END:
                    return b""
                raise
            data = await _body_of(location, offset, size, answer)
            transfer.bytes_in = len(data)
            return data

    async def _open_once(self, location: Location, head_bytes: int) -> ObjectInfo | None:
        """Ask for the head; None for an empty object, of which no range can be had."""
        names = {"Bucket": location.bucket, "Key": location.key}
        async with self._request("stat", location) as transfer:
            try:
                answer = await self._client.get_object(**names, Range=f"bytes=0-{head_bytes - 1}")
            except ClientError as error:
                if status_of(error) == _PAST_THE_END:
                    return None
                raise
            head = await _body_of(location, 0, head_bytes, answer)
            transfer.bytes_in = len(head)
            size = int(answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"])
            return ObjectInfo(size, _unquoted(answer["ETag"]), head)

    async def _write_in_parts(self, location: Location, data: bytes, content_type: str) -> str:
        names = {"Bucket": location.bucket, "Key": location.key}
        async with AsyncExitStack() as undo:
            async with self._request("create_upload", location):
                answer = await self._client.create_multipart_upload(**names, ContentType=content_type)
            names["UploadId"] = answer["UploadId"]
            undo.push_async_callback(self._abort, location, names)
            parts = await self._write_parts(location, data, names)
            async with self._request("complete_upload", location):
                done = await self._client.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
            undo.pop_all()
        return _unquoted(done["ETag"])

    async def _write_parts(self, location: Location, data: bytes, names: dict[str, str]) -> list[dict[str, Any]]:
        """Upload all parts, a few at once; the first failure cancels the others."""
        size = self._settings.multipart_bytes
        few = asyncio.Semaphore(PARTS_AT_ONCE)

        async def write_part(number: int) -> dict[str, Any]:
            async with few, self._request("write_part", location) as transfer:
                part = data[(number - 1) * size : number * size]
                answer = await self._client.upload_part(**names, PartNumber=number, Body=part)
                transfer.bytes_out = len(part)
                return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(write_part(number)) for number in range(1, -(-len(data) // size) + 1)]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return [task.result() for task in tasks]

    async def _abort(self, location: Location, names: dict[str, str]) -> None:
        """Give an upload up, within a moment. A failure of this is only reported: what went wrong before matters more.

        The bucket's lifecycle rule removes what then stays behind, invisibly.
        """
        with suppress(TaskError, TimeoutError):
            async with asyncio.timeout(ABORT_S), self._request("abort_upload", location):
                await self._client.abort_multipart_upload(**names)


def _new_client(settings: Store) -> Any:
    config = AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": settings.addressing},
        request_checksum_calculation=settings.checksums,
        response_checksum_validation=settings.checksums,
        connect_timeout=min(CONNECT_TIMEOUT_S, settings.timeout_s),
        read_timeout=settings.timeout_s,
        max_pool_connections=settings.max_concurrency,
        retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
    )
    return get_session().create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url or None,
        aws_access_key_id=settings.access_key_id.get_secret_value() or None,
        aws_secret_access_key=settings.secret_access_key.get_secret_value() or None,
        aws_session_token=settings.session_token.get_secret_value() or None,
        verify=None if settings.ca_file is None else str(settings.ca_file),
        config=config,
    )


def _check_scheme(location: Location) -> None:
    if location.scheme == "file":
        raise TaskError(
            Code.INVALID_ARGUMENT,
            f"{location} is a local file, but this worker's store is S3: write oss:// or s3://",
        )


def _unquoted(etag: str) -> str:
    return etag.strip('"')


async def _body_of(location: Location, offset: int, size: int, answer: dict[str, Any]) -> bytes:
    async with answer["Body"] as body:
        _check_range(location, offset, size, answer)
        with broken_body_of(location):
            data: bytes = await body.read()
    return data


def _check_range(location: Location, offset: int, size: int, answer: dict[str, Any]) -> None:
    """Raise if the store sent the whole object instead of the range, as some proxies do."""
    if answer["ResponseMetadata"]["HTTPStatusCode"] != _PARTIAL_CONTENT and (offset or answer["ContentLength"] > size):
        raise TaskError(
            Code.STORAGE_UNAVAILABLE, f"{location}: the store ignores the Range header, without which nothing works"
        )
