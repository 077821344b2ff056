"""One frame of a large source costs a small part of it."""

import io
import sys

import pytest
from PIL import Image

from devkit.counter import read_number
from devkit.media import large_video
from tests.e2e.media import BUCKET, task

MIN_BYTES = 400_000_000


@pytest.fixture
def large(bucket, tmp_path):
    """A video of more than 400 MB with its index at the end, in the bucket."""
    video = large_video(tmp_path / "large.mp4", min_bytes=MIN_BYTES)
    bucket.put("videos/large.mp4", video.path)
    yield video
    bucket.delete("videos/large.mp4")


async def test_one_frame_of_a_large_source_reads_little_of_it(line, worker, bucket, large):
    before = worker.metrics()
    told = await line.outcome(
        task({"StartTime": 31.7, "Number": 1, "URI": f"oss://{BUCKET}/large.jpg"}, source="videos/large.mp4")
    )
    assert told.status == "Succeeded", told.data["Message"]
    with Image.open(io.BytesIO(bucket.get("large.jpg")["Body"])) as image:
        assert read_number(image) == large.number_at(31) + 7
    after = worker.metrics()
    size = large.path.stat().st_size
    read = after["store_read_bytes_total"] - before["store_read_bytes_total"]
    requests = after["store_requests_total read ok"] - before["store_requests_total read ok"]
    figures = f"{read:,.0f} bytes in {requests:.0f} requests, {100 * read / size:.2f} %"
    sys.stdout.write(f"one frame of {size:,} bytes: {figures}\n")
    assert size >= MIN_BYTES
    assert 0 < read < 0.05 * size
