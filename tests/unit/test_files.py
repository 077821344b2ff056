"""The local store: what it refuses to follow, and that nothing partial is left or seen."""

import asyncio
import errno
import os
import resource
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from worker.adapters.files import PARTIAL_PREFIX, LocalStore
from worker.errors import Code, TaskError
from worker.task import Location


@pytest.fixture
def root(tmp_path):
    (tmp_path / "buckets").mkdir()
    return tmp_path / "buckets"


@pytest.fixture
def store(root):
    return LocalStore(root)


def at(key, bucket="bucket"):
    return Location("file", bucket, key)


async def test_a_bucket_is_a_directory_and_a_key_a_path_in_it(store, root):
    await store.write(at("a/b/c.jpg"), b"data", "image/jpeg")
    assert (root / "bucket" / "a" / "b" / "c.jpg").read_bytes() == b"data"


async def test_files_put_there_by_others_are_read(store, root):
    (root / "bucket").mkdir(parents=True)
    (root / "bucket" / "video.mp4").write_bytes(b"0123456789")
    info = await store.stat(at("video.mp4"))
    assert info.size == 10
    assert await store.read(at("video.mp4"), 3, 4, info.etag) == b"3456"


async def test_a_root_that_is_gone_is_waited_for_and_never_made(store, root):
    root.rmdir()
    for attempt in (store.check(), store.stat(at("a")), store.write(at("a"), b"1", "")):
        with pytest.raises(TaskError, match=r"root .*buckets cannot be used") as caught:
            await attempt
        assert (caught.value.code, caught.value.retryable) == (Code.STORAGE_UNAVAILABLE, True)
    assert not root.exists()


async def test_a_missing_file_is_told_with_its_path(store, root):
    with pytest.raises(TaskError, match=f"file://bucket/a/b.mp4: No such file or directory .{root}/bucket/a/b.mp4."):
        await store.stat(at("a/b.mp4"))


async def test_check_says_when_the_root_cannot_be_used(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TaskError, match=r"root .*file cannot be used"):
        await LocalStore(tmp_path / "file").check()


async def test_check_says_when_the_disk_cannot_be_asked(root, monkeypatch):
    def fails(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(os, "statvfs", fails)
    with pytest.raises(TaskError, match=r"root .*buckets cannot be used: .*Input/output error") as caught:
        await LocalStore(root).check()
    assert (caught.value.code, caught.value.retryable) == (Code.STORAGE_UNAVAILABLE, True)


def special_files(bucket):
    """One of each kind that is no ordinary file, by name; returns the error code that reading it gives."""
    secret = bucket.parent.parent / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(b"secret")
    (bucket / "link").symlink_to(secret / "key")
    (bucket / "dangling").symlink_to(secret / "none")
    (bucket / "linked").symlink_to(secret)
    os.mkfifo(bucket / "pipe")
    (bucket / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bucket / "socket"))
    return {
        "link": Code.ACCESS_DENIED,
        "dangling": Code.ACCESS_DENIED,
        "linked": Code.ACCESS_DENIED,
        "linked/key": Code.ACCESS_DENIED,
        "pipe": Code.ACCESS_DENIED,
        "socket": Code.ACCESS_DENIED,
        "directory": Code.RESOURCE_NOT_FOUND,
        "pipe/below": Code.RESOURCE_NOT_FOUND,
    }


async def test_nothing_but_ordinary_files_is_read(store, root):
    bucket = root / "bucket"
    bucket.mkdir(parents=True)
    for key, code in special_files(bucket).items():
        for reading in (store.stat(at(key)), store.read(at(key), 0, 10, "")):
            with pytest.raises(TaskError) as caught:
                await asyncio.wait_for(reading, 5)
            assert caught.value.code == code, key
            assert not caught.value.retryable
            assert f"file://bucket/{key}" in caught.value.message


async def test_nothing_but_ordinary_files_is_replaced(store, root):
    bucket = root / "bucket"
    bucket.mkdir(parents=True)
    for key, code in special_files(bucket).items():
        with pytest.raises(TaskError) as caught:
            await store.write(at(key), b"new", "")
        assert caught.value.code == (Code.INVALID_ARGUMENT if code == Code.RESOURCE_NOT_FOUND else code), key
    assert (root.parent / "secret" / "key").read_bytes() == b"secret"
    assert (bucket / "link").is_symlink()


async def test_a_device_is_refused(tmp_path):
    """The root may be anywhere, so `/dev` is a directory with a bucket of devices in it."""
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    try:
        os.mknod(bucket / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("making a device takes root")
    with pytest.raises(TaskError, match="AccessDenied"):
        await LocalStore(tmp_path).stat(at("null"))


async def test_a_bucket_that_is_a_link_is_refused(store, root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / "bucket").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TaskError, match="AccessDenied"):
        await store.write(at("a"), b"", "")
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_the_names_of_unfinished_files_are_no_keys(store):
    for key in (PARTIAL_PREFIX + "1", f"a/{PARTIAL_PREFIX}1/b"):
        for attempt in (store.stat(at(key)), store.read(at(key), 0, 1, ""), store.write(at(key), b"", "")):
            with pytest.raises(TaskError, match=PARTIAL_PREFIX) as caught:
                await attempt
            assert caught.value.code == Code.INVALID_ARGUMENT


async def test_a_name_too_long_for_the_file_system_is_invalid(store):
    with pytest.raises(TaskError, match="name too long") as caught:
        await store.write(at("x" * 300), b"", "")
    assert caught.value.code == Code.INVALID_ARGUMENT


@contextmanager
def largest_file(size):
    """Writing more than `size` bytes to a file fails with EFBIG: Python ignores the signal that goes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(store, root):
    await store.write(at("a.jpg"), b"old", "")
    with largest_file(1000), pytest.raises(TaskError, match="too large") as caught:
        await store.write(at("a.jpg"), bytes(100_000), "")
    assert caught.value.code == Code.STORAGE_UNAVAILABLE
    assert caught.value.retryable
    assert [path.name for path in (root / "bucket").iterdir()] == ["a.jpg"]
    assert (root / "bucket" / "a.jpg").read_bytes() == b"old"


FILL_DISK = """
import asyncio, sys
from pathlib import Path
from worker.adapters.files import LocalStore
from worker.errors import TaskError
from worker.task import Location
root = Path(sys.argv[1])
try:
    asyncio.run(LocalStore(root).write(Location("file", "bucket", "big"), bytes(4 << 20), ""))
except TaskError as error:
    print(error.code, error.retryable, list((root / "bucket").iterdir()))
"""


def test_a_full_disk_is_storage_unavailable(tmp_path):
    unshare = shutil.which("unshare")
    in_namespace = [unshare or "", "--user", "--map-root-user", "--mount"]
    if not unshare or subprocess.run([*in_namespace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets us mount no small file system in a namespace")
    mount = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$0" -c "$2" "$1"'
    command = [*in_namespace, "sh", "-c", mount, sys.executable, str(tmp_path), FILL_DISK]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert run.stdout == "StorageUnavailable True []\n"


async def test_a_file_written_in_place_while_it_is_read_is_noticed(store, root):
    await store.write(at("a"), b"12345678", "")
    info = await store.stat(at("a"))
    os.truncate(root / "bucket" / "a", 4)
    with pytest.raises(TaskError, match="changed while being read") as caught:
        await store.read(at("a"), 0, 8, info.etag)
    assert caught.value.retryable


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_descriptor_stays_open(store, root):
    (root / "bucket").mkdir(parents=True)
    before = open_descriptors()
    etag = await store.write(at("d/a"), b"1", "")
    await store.read(at("d/a"), 0, 1, etag)
    for key in special_files(root / "bucket"):
        for attempt in (store.stat(at(key)), store.write(at(key), b"", "")):
            with pytest.raises(TaskError):
                await attempt
    assert open_descriptors() == before


async def test_a_symbolic_link_as_root_is_followed_for_its_owner_chose_it(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    await LocalStore(tmp_path / "root").write(at("a"), b"1", "")
    assert (tmp_path / "real" / "bucket" / "a").read_bytes() == b"1"
