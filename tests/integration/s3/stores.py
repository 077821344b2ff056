"""S3 stores of a test before its server."""

from contextlib import asynccontextmanager

from worker.adapters.s3 import S3Store
from worker.settings import MIB, Store
from worker.stores import unobserved

BUCKET = "faults"
DATA = bytes(range(250)) * 400


def settings_of(server, endpoint, **overrides):
    values = {
        "kind": "s3",
        "endpoint_url": endpoint,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "max_attempts": 2,
        "multipart_bytes": 5 * MIB,
    }
    return Store(**(values | overrides))


@asynccontextmanager
async def opened(server, endpoint, on_request=unobserved, **overrides):
    async with S3Store(settings_of(server, endpoint, **overrides), on_request=on_request) as store:
        yield store
