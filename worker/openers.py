"""Which store the settings name, and how sources are opened from it. Names the adapters of stores and sources."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from worker.adapters.files import LocalStore
from worker.adapters.hls import open_source
from worker.ports import ObjectInfo, ObjectStore, OpenSource, SourceOpener
from worker.read_budget import ReadBudget
from worker.settings import Settings
from worker.stores import AllowedBuckets, OnRequest, place_of
from worker.task import Location

if TYPE_CHECKING:
    from worker.adapters.s3 import S3Store


@asynccontextmanager
async def open_store(
    settings: Settings, on_request: OnRequest, allowed: AllowedBuckets | None = None
) -> AsyncIterator["LocalStore | S3Store"]:
    """Open the store that the settings name, with what it allows to tasks unless `allowed` tells otherwise."""
    buckets = (settings.store.source_buckets, settings.store.target_buckets)
    allowed = allowed or AllowedBuckets(*buckets, place_of(settings.records.uri))
    if settings.store.kind == "s3":
        from worker.adapters.s3 import S3Store  # noqa: PLC0415 - its library takes long to import

        async with S3Store(settings.store, allowed=allowed, on_request=on_request) as store:
            yield store
    else:
        yield LocalStore(settings.store.root, allowed=allowed, on_request=on_request)


def opener(settings: Settings, store: ObjectStore) -> SourceOpener:
    """Make what opens the store's objects as the sources of decoders."""
    limits = settings.limits

    def open_bounded(location: Location, info: ObjectInfo) -> AbstractAsyncContextManager[OpenSource]:
        return open_source(
            store,
            location,
            info,
            cache_bytes=settings.pool.cache_bytes,
            max_bytes=limits.source_bytes,
            budget=ReadBudget(limits.read_ratio, limits.read_requests),
        )

    return open_bounded
