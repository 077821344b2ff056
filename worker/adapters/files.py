"""Objects as files: a directory of buckets on the local disk. `file://`, `oss://` and `s3://` all mean it.

Owns the walk from the root to a file, which follows no symbolic link, and the atomic replacement of files. An object's
tag is its modification time, size and inode, so telling it reads nothing; a replaced file has another inode. It makes
few system calls: each lets other threads run, and to come back costs more than the call.
"""

import asyncio
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from worker.errors import Code, TaskError
from worker.ports import ObjectInfo
from worker.stores import AllowedBuckets, OnRequest, observed, unobserved
from worker.task import Location

# Files being written. No key may have such a segment, so no task can read, replace or be given an unfinished file.
PARTIAL_PREFIX = ".partial-"
FULL_BYTES = 2**20

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
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
        os.close(_opened(self._root))
        disk = os.statvfs(self._root)
        if disk.f_bavail * disk.f_frsize < FULL_BYTES:
            raise TaskError(Code.STORAGE_UNAVAILABLE, f"the disk of {self._root} is full", retryable=True)

    def _visit(self, location: Location, offset: int, size: int, etag: str = "") -> ObjectInfo:
        """Look at a file and read a range of it; it must have `etag`, if that is given, and keep it."""
        with _errors_of(self._root, location), _regular_file(self._root, location) as (file, status):
            etag = etag or _tag(status)
            data = os.pread(file, size, offset) if size else b""
            # Looked at after reading, it also tells of a change while reading.
            if size and _tag(os.fstat(file)) != etag:
                raise TaskError(
                    Code.STORAGE_UNAVAILABLE, f"{location} was changed while being read: try again", retryable=True
                )
            return ObjectInfo(status.st_size, etag, data)

    def _write(self, location: Location, data: bytes) -> str:
        with (
            _errors_of(self._root, location, _WRITE_CODES),
            _directory_of(self._root, location, create=True) as directory,
        ):
            name = location.key.rpartition("/")[2]
            _refuse_special(directory, name)
            return _replace(directory, next(self._partials), name, data)

    def _write_if(self, location: Location, data: bytes, etag: str | None) -> bool:
        with (
            _errors_of(self._root, location, _WRITE_CODES),
            _directory_of(self._root, location, create=True) as directory,
        ):
            name = location.key.rpartition("/")[2]
            if etag is None:
                with suppress(FileExistsError):
                    _replace(directory, next(self._partials), name, data, publish=_publish_new)
                    return True
                return False
            fcntl.flock(directory, fcntl.LOCK_EX)  # among those who replace; let go when the directory is closed
            if _tag_of(directory, name) != etag:
                return False
            _replace(directory, next(self._partials), name, data)
            return True


def _opened(root: Path) -> int:
    """Open the root, which is never made here: a disk that is not mounted must not become a directory."""
    try:
        return os.open(root, _DIRECTORY)
    except OSError as error:
        raise TaskError(
            Code.STORAGE_UNAVAILABLE, f"the store's root {root} cannot be used: {error}", retryable=True
        ) from error


def _check_no_partial(location: Location) -> None:
    if any(segment.startswith(PARTIAL_PREFIX) for segment in location.key.split("/")):
        raise TaskError(
            Code.INVALID_ARGUMENT,
            f"the key {location.key!r} has a segment that begins with {PARTIAL_PREFIX!r}, which unfinished files do",
        )


def _tag(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


@contextmanager
def _regular_file(root: Path, location: Location) -> Iterator[tuple[int, os.stat_result]]:
    """Open the file of `location`, and look at it.

    O_NONBLOCK, since opening a pipe would otherwise wait for its writer.
    """
    with _directory_of(root, location, create=False) as directory:
        name = location.key.rpartition("/")[2]
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(file)
        _refuse_unless_regular(status.st_mode)
        yield file, status
    finally:
        os.close(file)


@contextmanager
def _directory_of(root: Path, location: Location, *, create: bool) -> Iterator[int]:
    """Open the directory that holds the key, walking down from the bucket."""
    directory = _bucket(root, location.bucket, create=create)
    try:
        for name in location.key.split("/")[:-1]:
            child = _enter(name, directory, create=create)
            os.close(directory)
            directory = child
        yield directory
    finally:
        os.close(directory)


def _bucket(root: Path, name: str, *, create: bool) -> int:
    """Open a bucket by its path, which is one step. Only if that fails, the root tells why or where to make it."""
    try:
        return os.open(root / name, _DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        directory = _opened(root)
        try:
            return _enter(name, directory, create=create)
        finally:
            os.close(directory)


def _enter(name: str, parent: int, *, create: bool) -> int:
    try:
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
        _make_directory(name, parent)
        return _enter(name, parent, create=False)
    except NotADirectoryError:
        # Linux says the same of files and of links to directories.
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, f"{name!r} is a symbolic link") from None
        raise


def _make_directory(name: str, parent: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    os.fsync(parent)


def _refuse_special(directory: int, name: str) -> None:
    """Raise unless `name` is free or an ordinary file: renaming would replace a link or a pipe."""
    with suppress(FileNotFoundError):
        _refuse_unless_regular(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _refuse_unless_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory")
    if not stat.S_ISREG(mode):
        raise PermissionError(errno.EACCES, "it is a link, pipe, socket or device, not a file")


def _tag_of(directory: int, name: str) -> str:
    """Tell the tag of a file by its name; empty if there is none."""
    try:
        return _tag(os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return ""


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
            tag = _tag(os.fstat(descriptor))
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
