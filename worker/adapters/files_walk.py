"""The walk from the root of a local store to a file, which follows no symbolic link. Part of `files`.

Raises `OSError` as the system does, but for the root, without which there is no store.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.errors import Code, TaskError
from worker.task import Location

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def errors_of_root(root: Path) -> Iterator[None]:
    """Turn what the operating system says of the root into `StorageUnavailable`, which may pass."""
    try:
        yield
    except OSError as error:
        raise TaskError(
            Code.STORAGE_UNAVAILABLE, f"the store's root {root} cannot be used: {error}", retryable=True
        ) from error


def opened_root(root: Path) -> int:
    """Open the root, which is never made here: a disk that is not mounted must not become a directory."""
    with errors_of_root(root):
        return os.open(root, _DIRECTORY)


@contextmanager
def regular_file(root: Path, location: Location) -> Iterator[tuple[int, os.stat_result]]:
    """Open the file of `location`, and look at it.

    O_NONBLOCK, since opening a pipe would otherwise wait for its writer.
    """
    with directory_of(root, location, create=False) as directory:
        name = location.key.rpartition("/")[2]
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(file)
        _refuse_unless_regular(status.st_mode)
        yield file, status
    finally:
        os.close(file)


@contextmanager
def directory_of(root: Path, location: Location, *, create: bool) -> Iterator[int]:
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
        directory = opened_root(root)
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


def refuse_special(directory: int, name: str) -> None:
    """Raise unless `name` is free or an ordinary file: renaming would replace a link or a pipe."""
    with suppress(FileNotFoundError):
        _refuse_unless_regular(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _refuse_unless_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory")
    if not stat.S_ISREG(mode):
        raise PermissionError(errno.EACCES, "it is a link, pipe, socket or device, not a file")


def tag_from(status: os.stat_result) -> str:
    """Make the tag of a file: another one whenever it is changed or replaced."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def tag_of(directory: int, name: str) -> str:
    """Tell the tag of a file by its name; empty if there is none."""
    try:
        return tag_from(os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return ""
