"""The object stores that the contract is tested on: makers of stores of one kind, which share their objects."""

from contextlib import asynccontextmanager

from tests.fakes import MemoryStore
from worker.adapters.files import LocalStore
from worker.adapters.s3 import S3Store
from worker.settings import MIB, Store
from worker.stores import AllowedBuckets, unobserved

BUCKET = "contract"
OTHER = "contract-other"


def local(root):
    @asynccontextmanager
    async def new(*, sources=(), targets=(), reserved=None, on_request=unobserved):
        yield LocalStore(root, allowed=AllowedBuckets(sources, targets, reserved), on_request=on_request)

    return new


def memory(objects):
    @asynccontextmanager
    async def new(*, sources=(), targets=(), reserved=None, on_request=unobserved):
        yield MemoryStore(objects, allowed=AllowedBuckets(sources, targets, reserved), on_request=on_request)

    return new


def s3(server):
    @asynccontextmanager
    async def new(*, sources=(), targets=(), reserved=None, on_request=unobserved):
        settings = Store(
            kind="s3",
            endpoint_url=server.endpoint,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
            multipart_bytes=5 * MIB,
        )
        allowed = AllowedBuckets(sources, targets, reserved)
        async with S3Store(settings, allowed=allowed, on_request=on_request) as store:
            yield store

    return new
