"""Bytes read from the store against those of the index and of the packets that a request needs."""

import pytest

from bench.limits import REQUESTS, VIDEOS, make
from bench.minimum import read
from bench.reading import inflate, measure
from worker.adapters.pool import DecoderPool
from worker.settings import Pool

FASTSTART = {"movflags": "faststart"}
FILES = {"mp4": ("video.mp4", {}), "mp4, index first": ("video.mp4", FASTSTART), "mov": ("video.mov", {}),
         "mkv": ("video.mkv", {})}  # fmt: skip
NAMES = ["one in the middle", "the last", "interval 5 s", "average 3", "keyframe", "keyframe and interval 5 s"]


PROBED = "FFmpeg reads the first packets, 1.2 MB of these, to learn the stream's properties"
LAST = "FFmpeg reads all that follows the last cue when it seeks there, and the end is told by the last frames alone"
NOT_YET = {
    ("mp4, index first", "keyframe and interval 5 s"): (1.1, PROBED),
    ("mkv", "one in the middle"): (1.6, PROBED),
    ("mkv", "average 3"): (3.7, LAST),
    ("mkv", "interval 5 s"): (2.5, LAST),
    ("mkv", "keyframe"): (1.3, LAST),
    ("mkv", "keyframe and interval 5 s"): (2.8, LAST),
}
"""How many times more is read than is allowed, at most, and why."""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make(tmp_path_factory.mktemp("small") / "small.mp4", VIDEOS["libx264 GOP 50"])


async def test_the_keyframes_of_a_matroska_file_are_read_without_what_lies_between(small, tmp_path):
    (tmp_path / "bucket").mkdir()
    path = inflate(small, tmp_path / "bucket" / "video.mkv")
    coded = read(path)
    groups = sum(each.size for each in coded.pictures) / sum(each.start for each in coded.pictures)
    async with DecoderPool(Pool(slots=1)) as pool:
        found = await measure(pool, path, coded, REQUESTS["keyframe"])
    assert found.bytes_read <= found.allowed_bytes + groups  # the last one, to its end
    assert found.bytes_read < path.stat().st_size / 4


@pytest.mark.parametrize("file", FILES)
async def test_little_more_is_read_than_the_index_and_what_is_needed(small, tmp_path, file):
    name, options = FILES[file]
    (tmp_path / "bucket").mkdir()
    path = inflate(small, tmp_path / "bucket" / name, options)
    coded = read(path)
    async with DecoderPool(Pool(slots=1)) as pool:
        found = {request: await measure(pool, path, coded, REQUESTS[request]) for request in NAMES}
    too_much = {request: one for request, one in found.items() if one.bytes_read > one.allowed_bytes}
    known = {request: bound for (kind, request), (bound, _) in NOT_YET.items() if kind == file}
    assert too_much.keys() == known.keys(), too_much
    for request, one in too_much.items():
        assert one.bytes_read < known[request] * one.allowed_bytes, request
