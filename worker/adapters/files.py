"""Objects as files: a directory of buckets on the local disk. `file://`, `oss://` and `s3://` all mean it.

Owns the atomic replacement of files. An object's tag is its modification time, size and inode, so telling it reads
nothing; a replaced file has another inode. It makes few system calls: each lets other threads run, and to come back
costs more than the call.
"""

import asyncio
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from worker.adapters.files_walk import (
    directory_of,
    errors_of_root,
    opened_root,
    refuse_special,
    regular_file,
    tag_from,
    tag_of,
)
from worker.errors import Code, TaskError
from worker.ports import ObjectInfo
from worker.stores import AllowedBuckets, OnRequest, observed, unobserved
from worker.task import Location

# Files being written. No key may have such a segment, so no task can read, replace or be given an unfinished file.
PARTIAL_PREFIX = ".partial-"
FULL_BYTES = 2**20

_CODES = {
    errno.ENOENT: Code.RESOURCE_NOT_FOUND,
    errno.ENOTDIR: Code.RESOURCE_NOT_FOUND,
    errno.EISDIR: Code.RESOURCE_NOT_FOUND,
    errno.EACCES: Code.ACCESS_DENIED,
    errno.EPERM: Code.ACCESS_DENIED,
    errno.EROFS: Code.ACCESS_DENIED,
    errno.ELOOP: Code.ACCESS_DENIED,  # a symbolic link
    errno.ENXIO: Code.ACCESS_DENIED,  # a socket
    errno.ENAMETOOLONG: Code.INVALID_ARGUMENT,
}
# Of a path to write to: some part of it, or its end, is taken by something else.
_WRITE_CODES = _CODES | {errno.ENOTDIR: Code.INVALID_ARGUMENT, errno.EISDIR: Code.INVALID_ARGUMENT}


class LocalStore:
    """Implements `ports.ObjectStore`. A bucket is created by the first write to it."""

    def __init__(
        self, root: Path, *, allowed: AllowedBuckets | None = None, on_request: OnRequest = unobserved
    ) -> None:
        self._root = root
        self._allowed = allowed or AllowedBuckets()
        self._on_request = on_request
        self._partials = map(f"{PARTIAL_PREFIX}{secrets.token_hex(8)}-{{}}".format, count())

    async def check(self) -> None:
        """Raise `StorageUnavailable` when the root directory is missing or cannot be used, or its disk is full."""
        await asyncio.to_thread(self._check)

    async def stat(self, location: Location, head_bytes: int = 0) -> ObjectInfo:
        """Tell a file's size and tag, and read its head at the same visit: each costs a change of threads."""
        self._allowed.check_read(location)
        _check_no_partial(location)
        with observed(self._on_request, "stat") as transfer:
            info = await asyncio.to_thread(self._visit, location, 0, head_bytes)
            transfer.bytes_in = len(info.head)
            return info

    async def read(self, location: Location, offset: int, size: int, etag: str) -> bytes:
        """Read a range of a file, which must still be the one with `etag` afterwards."""
        self._allowed.check_read(location)
        _check_no_partial(location)
        with observed(self._on_request, "read") as transfer:
            found = await asyncio.to_thread(self._visit, location, offset, size, etag)
            transfer.bytes_in = len(found.head)
            return found.head

    def check_write(self, location: Location) -> None:
        """Raise `AccessDenied` or `InvalidArgument` for a bucket or a key that no task may write."""
        self._allowed.check_write(location)
        _check_no_partial(location)

    async def write(self, location: Location, data: bytes, content_type: str) -> str:
        """Write a file aside and rename it. A cancelled write may still be completed."""
        del content_type  # files have none
        self.check_write(location)
        with observed(self._on_request, "write") as transfer:
            etag = await asyncio.to_thread(self._write, location, data)
            transfer.bytes_out = len(data)
            return etag

    async def write_if(self, location: Location, data: bytes, content_type: str, etag: str | None) -> bool:
        """Write a file aside and give it its name if the one of that name is as expected."""
        del content_type
        self.check_write(location)
        with observed(self._on_request, "write_if") as transfer:
            stored = await asyncio.to_thread(self._write_if, location, data, etag)
            transfer.bytes_out = len(data)
            return stored

    def _check(self) -> None:
        os.close(opened_root(self._root))
        with errors_of_root(self._root):
            disk = os.statvfs(self._root)
        if disk.f_bavail * disk.f_frsize < FULL_BYTES:
            raise TaskError(Code.STORAGE_UNAVAILABLE, f"the disk of {self._root} is full", retryable=True)

    def _visit(self, location: Location, offset: int, size: int, etag: str = "") -> ObjectInfo:
        """Look at a file and read a range of it; it must have `etag`, if that is given, and keep it."""
        with _errors_of(self._root, location), regular_file(self._root, location) as (file, status):
            etag = etag or tag_from(status)
            data = os.pread(file, size, offset) if size else b""
            # Looked at after reading, it also tells of a change while reading.
            if size and tag_from(os.fstat(file)) != etag:
                raise TaskError(
                    Code.STORAGE_UNAVAILABLE, f"{location} was changed while being read: try again", retryable=True
                )
            return ObjectInfo(status.st_size, etag, data)

    def _write(self, location: Location, data: bytes) -> str:
        with (
            _errors_of(self._root, location, _WRITE_CODES),
            directory_of(self._root, location, create=True) as directory,
        ):
            name = location.key.rpartition("/")[2]
            refuse_special(directory, name)
            return _replace(directory, next(self._partials), name, data)

    def _write_if(self, location: Location, data: bytes, etag: str | None) -> bool:
        with (
            _errors_of(self._root, location, _WRITE_CODES),
            directory_of(self._root, location, create=True) as directory,
        ):
            name = location.key.rpartition("/")[2]
            if etag is None:
                with suppress(FileExistsError):
                    _replace(directory, next(self._partials), name, data, publish=_publish_new)
                    return True
                return False
            fcntl.flock(directory, fcntl.LOCK_EX)  # among those who replace; let go when the directory is closed
            if tag_of(directory, name) != etag:
                return False
            _replace(directory, next(self._partials), name, data)
            return True


def _check_no_partial(location: Location) -> None:
    if any(segment.startswith(PARTIAL_PREFIX) for segment in location.key.split("/")):
        raise TaskError(
            Code.INVALID_ARGUMENT,
            f"the key {location.key!r} has a segment that begins with {PARTIAL_PREFIX!r}, which unfinished files do",
        )


def _publish(directory: int, partial: str, name: str) -> None:
    """Give a file that is complete its name, whoever had it before."""
    os.replace(partial, name, src_dir_fd=directory, dst_dir_fd=directory)


def _publish_new(directory: int, partial: str, name: str) -> None:
    """Give a file that is complete its name. Raises `FileExistsError` if another has it, and changes nothing then."""
    os.link(partial, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    os.unlink(partial, dir_fd=directory)


def _replace(
    directory: int, partial: str, name: str, data: bytes, publish: Callable[[int, str, str], None] = _publish
) -> str:
    """Write the hidden file `partial`, flush it to the disk, and `publish` it as `name`; returns its tag.

    Flushed, since the task is acknowledged on the strength of it: after a power failure a renamed file that was not
    flushed may be empty, and a rename may be forgotten unless its directory is flushed too.
    """
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=directory)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
            tag = tag_from(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        publish(directory, partial, name)
    except BaseException:
        os.unlink(partial, dir_fd=directory)
        raise
    os.fsync(directory)
    return tag


@contextmanager
def _errors_of(root: Path, location: Location, codes: Mapping[int, Code] = _CODES) -> Iterator[None]:
    """Turn what the operating system says of a path into the error that a task ends with.

    What `codes` does not list may pass: a full disk, an I/O error, too many open files.
    """
    try:
        yield
    except OSError as error:
        code = codes.get(error.errno or 0)
        what = f"{location}: {error.strerror} ({root.absolute() / location.bucket / location.key})"
        raise TaskError(code or Code.STORAGE_UNAVAILABLE, what, retryable=code is None) from error
