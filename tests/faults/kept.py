"""What the stores of fault tests hold, seen without the worker's reading and writing: images, and result records."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.media import BUCKET
from tests.e2e.store import Bucket

RECORDS = "own"  # the prefix under which a test's workers keep records; each test has a folder of its own below it


@dataclass(frozen=True)
class OnDisk:
    """A directory of buckets. A file's tag is its time, size and inode."""

    root: Path
    namespace: str

    @property
    def records_uri(self) -> str:
        return _records_uri("file", self.namespace)

    def objects(self) -> dict[str, tuple[int, str]]:
        """Tell of each object, by key, its size in bytes and its tag."""
        folder = self.root / BUCKET
        files = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
        return {str(path.relative_to(folder)): (status.st_size, _tag(status)) for path, status in files.items()}

    def read(self, key: str) -> bytes:
        return (self.root / BUCKET / key).read_bytes()

    def records(self) -> list[dict[str, Any]]:
        files = (self.root / BUCKET / _prefix(self.namespace)).glob("*/*.json")
        return [json.loads(path.read_bytes()) for path in files if not path.name.startswith(".")]

    def unfinished(self) -> list[str]:
        """Names of what somebody began to write and did not."""
        return [str(path) for path in self.root.rglob(".partial-*")]


@dataclass(frozen=True)
class InS3:
    """A bucket on an S3 server."""

    bucket: Bucket
    namespace: str

    @property
    def records_uri(self) -> str:
        return _records_uri("s3", self.namespace)

    def objects(self) -> dict[str, tuple[int, str]]:
        """Tell of each object, by key, its size in bytes and its tag."""
        return {each["Key"]: (each["Size"], each["ETag"].strip('"')) for each in self.bucket.listed("")}

    def read(self, key: str) -> bytes:
        data: bytes = self.bucket.get(key)["Body"]
        return data

    def records(self) -> list[dict[str, Any]]:
        keys = self.bucket.keys(f"{_prefix(self.namespace)}/")
        return [json.loads(self.bucket.get(key)["Body"]) for key in keys if len(Path(key).stem) == 64]


def discrepancies(kept: OnDisk | InS3, ends: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Compare what was told of tasks that ended with what is stored; gives all that differs.

    `ends` are the terminal events of each task that was valid: each of them word by word that of its record, and each
    image of a success there with the size and the tag told, of each task the first with the content told. A record
    without an event is told too.
    """
    objects = kept.objects()
    records = {record["TaskId"]: record for record in kept.records()}
    found = [f"{name} ended without a record" for name in ends.keys() - records.keys()]
    found += [f"{name} has a record and no end was told" for name in records.keys() - ends.keys()]
    for name in ends.keys() & records.keys():
        recorded = json.loads(records[name]["Event"]["Body"])
        found += [f"{name} was told otherwise than recorded" for event in ends[name] if event != recorded]
        if recorded["data"]["Status"] == "Succeeded":
            frames = _frames(records[name])
            found += [] if frames else [f"{name} succeeded without an image"]
            for frame in frames:
                stored = objects.get(_key(frame))
                if stored != (frame["Bytes"], frame["ETag"]):
                    found.append(f"{frame['URI']} was told as {frame}, and is {stored}")
                elif frame is frames[0] and hashlib.sha256(kept.read(_key(frame))).hexdigest() != frame["Sha256"]:
                    found.append(f"{frame['URI']} was told as {frame}, and has another content")
    return found


def _prefix(namespace: str) -> str:
    return f"{RECORDS}/{namespace}"


def _records_uri(scheme: str, namespace: str) -> str:
    return f"{scheme}://{BUCKET}/{_prefix(namespace)}"


def _frames(record: dict[str, Any]) -> list[dict[str, Any]]:
    targets = record["About"]["Result"]["Targets"]
    return [frame for target in targets for entry in target["Image"]["Snapshots"] for frame in entry["Frames"]]


def _key(frame: dict[str, Any]) -> str:
    return str(frame["URI"]).removeprefix(f"oss://{BUCKET}/")


def _tag(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
