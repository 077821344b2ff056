"""The accountant of the fault tests finds what it is there for."""

import hashlib
import json
import os

import pytest

from tests.e2e.media import BUCKET
from tests.faults.kept import RECORDS, OnDisk, discrepancies

IMAGE = b"an image"


@pytest.fixture
def kept(tmp_path):
    """A task that succeeded with one image, as a worker leaves it."""
    kept = OnDisk(tmp_path, "ns")
    image = tmp_path / BUCKET / "task-1" / "1.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(IMAGE)
    (_, etag) = kept.objects()["task-1/1.jpg"]
    uri = f"oss://{BUCKET}/task-1/1.jpg"
    frame = {"URI": uri, "Bytes": len(IMAGE), "ETag": etag, "Sha256": hashlib.sha256(IMAGE).hexdigest()}
    result = {"Targets": [{"Image": {"Snapshots": [{"Frames": [frame]}]}}]}
    event = {"id": "e", "data": {"TaskId": "task-1", "Status": "Succeeded"}}
    record = {"TaskId": "task-1", "Event": {"Body": json.dumps(event)}, "About": {"Result": result}}
    path = tmp_path / BUCKET / RECORDS / "ns" / "ab" / "abc.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    return kept


def told(**more):
    return {"task-1": [{"id": "e", "data": {"TaskId": "task-1", "Status": "Succeeded"}} | more]}


def image_of(kept):
    return kept.root / BUCKET / "task-1" / "1.jpg"


def test_nothing_is_wrong_where_nothing_is(kept):
    assert discrepancies(kept, told()) == []


def test_an_image_that_is_gone_is_found(kept):
    image_of(kept).unlink()
    (found,) = discrepancies(kept, told())
    assert found.endswith("and is None")


def test_another_content_is_found(kept):
    path = image_of(kept)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.write(b"AN")
    os.utime(path, ns=times)  # the same size, tag and inode
    (found,) = discrepancies(kept, told())
    assert found.endswith("has another content")


def test_an_event_other_than_the_recorded_one_is_found(kept):
    assert discrepancies(kept, told(id="other")) == ["task-1 was told otherwise than recorded"]


def test_an_end_without_a_record_and_a_record_without_an_end_are_found(kept):
    assert discrepancies(kept, {"task-2": []}) == [
        "task-2 ended without a record",
        "task-1 has a record and no end was told",
    ]
