"""What the stores of fault tests hold, seen without the worker's reading and writing: images, and result records."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.media import BUCKET
from tests.e2e.store import Bucket

RECORDS = "own"  # the prefix under which a test's workers keep records; each test has a folder of its own below it


@dataclass(frozen=True)
class Stored:
    """One object: its size in bytes, its tag, and the SHA-256 of its content."""

    size: int
    etag: str
    sha256: str


@dataclass(frozen=True)
class OnDisk:
    """A directory of buckets. A file's tag is its time, size and inode."""

    root: Path
    namespace: str

    @property
    def records_uri(self) -> str:
        return f"file://{BUCKET}/{RECORDS}/{self.namespace}"

    def object(self, uri: str) -> Stored:
        path = self.root / uri.split("://")[1]
        data, status = path.read_bytes(), path.stat()
        tag = f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
        return Stored(len(data), tag, hashlib.sha256(data).hexdigest())

    def records(self) -> list[dict[str, Any]]:
        files = (self.root / BUCKET / RECORDS / self.namespace).glob("*/*.json")
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
        return f"s3://{BUCKET}/{RECORDS}/{self.namespace}"

    def object(self, uri: str) -> Stored:
        answer = self.bucket.get(uri.removeprefix(f"oss://{BUCKET}/"))
        body = answer["Body"]
        return Stored(len(body), answer["ETag"].strip('"'), hashlib.sha256(body).hexdigest())

    def records(self) -> list[dict[str, Any]]:
        keys = self.bucket.keys(f"{RECORDS}/{self.namespace}/")
        return [json.loads(self.bucket.get(key)["Body"]) for key in keys if len(Path(key).stem) == 64]


def discrepancies(kept: OnDisk | InS3, ends: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Compare what was told of tasks that ended with what is stored; gives all that differs.

    `ends` are the terminal events of each task that was valid: each of them word by word that of its record, and each
    image of a success there as told. A record without an event is told too.
    """
    records = {record["TaskId"]: record for record in kept.records()}
    found = [f"{name} ended without a record" for name in ends.keys() - records.keys()]
    found += [f"{name} has a record and no end was told" for name in records.keys() - ends.keys()]
    for name in ends.keys() & records.keys():
        recorded = json.loads(records[name]["Event"]["Body"])
        found += [f"{name} was told otherwise than recorded" for event in ends[name] if event != recorded]
        if recorded["data"]["Status"] == "Succeeded":
            found += _missing(kept, records[name])
    return found


def _missing(kept: OnDisk | InS3, record: dict[str, Any]) -> list[str]:
    """List the images of a record that are not in the store as it says."""
    targets = record["About"]["Result"]["Targets"]
    frames = [frame for target in targets for entry in target["Image"]["Snapshots"] for frame in entry["Frames"]]
    found = [] if frames else [f"{record['TaskId']} succeeded without an image"]
    for frame in frames:
        try:
            stored = kept.object(frame["URI"])
        except Exception as error:  # noqa: BLE001 - whatever the store says of it, it is not there
            found.append(f"{frame['URI']} cannot be read: {error}")
            continue
        if stored != Stored(frame["Bytes"], frame["ETag"], frame["Sha256"]):
            found.append(f"{frame['URI']} was told as {frame}, and is {stored}")
    return found
