"""One frame of a large source costs a small part of it, in few requests."""

import io
import sys

import pytest
from PIL import Image

from bench.reading import inflate
from devkit.counter import read_number
from devkit.media import counter_video
from tests.e2e.media import BUCKET, task

MIN_BYTES = 10**9
MAX_READ_BYTES = 8_000_000
MAX_REQUESTS = 12


@pytest.fixture(scope="module")
def large(bucket, tmp_path_factory):
    """A video of more than 1 GB with its index at the end, in the bucket: twelve minutes, whose pictures are padded."""
    folder = tmp_path_factory.mktemp("large")
    small = counter_video(folder / "small.mp4", width=320, height=180, fps=10, seconds=720, gop=20)
    bucket.put("videos/large.mp4", path := inflate(small.path, folder / "large.mp4"))
    assert path.stat().st_size >= MIN_BYTES
    path.unlink()
    yield small
    bucket.delete("videos/large.mp4")


@pytest.mark.parametrize("time_s", ["0", "417.9", "719.5"])
async def test_one_frame_of_a_large_source_reads_little_of_it(line, worker, bucket, large, time_s):
    before = worker.metrics()
    told = await line.outcome(
        task({"StartTime": float(time_s), "Number": 1, "URI": f"oss://{BUCKET}/large.jpg"}, source="videos/large.mp4")
    )
    assert told.status == "Succeeded", told.data["Message"]
    with Image.open(io.BytesIO(bucket.get("large.jpg")["Body"])) as image:
        assert read_number(image) == int(float(time_s) * 10)
    after = worker.metrics()
    read = after["store_read_bytes_total"] - before["store_read_bytes_total"]
    requests = after["store_requests_total read ok"] - before["store_requests_total read ok"]
    sys.stdout.write(f"the frame at {time_s} s of a video of 1 GB: {read:,.0f} bytes in {requests:.0f} requests\n")
    assert 0 < read < MAX_READ_BYTES
    assert requests <= MAX_REQUESTS
