"""Real captures inside the sandbox: of each container, codec and image format, the same as outside, none missing."""

import io
from fractions import Fraction
from pathlib import Path

import pytest

from tests.integration.lures import a_video
from tests.integration.pool_runs import MemorySource
from tests.integration.test_cage import cage, full
from worker.errors import TaskError
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Format, Image, Mode, Rendition, ScaleType, Selection

MEDIA = Path(__file__).parents[2].parent / "shared" / "media"
LARGEST_BYTES = 3_000_000
MADE = [
    ("mp4", "libx264"), ("mp4", "libx265"), ("matroska", "ffv1"), ("webm", "libvpx-vp9"), ("webm", "libvpx"),
    ("mpegts", "mpeg2video"), ("mpeg", "mpeg1video"), ("avi", "magicyuv"), ("flv", "flv"), ("asf", "wmv2"),
    ("mov", "mpeg4"), ("rm", "rv20"), ("mxf", "mpeg2video"), ("ivf", "libvpx"),
]  # fmt: skip
KINDS = zip(Mode, Format, ScaleType, strict=True)
PLAN = CapturePlan(
    tuple(
        EntryPlan(Selection(mode, interval_s=Fraction(1, 20), number=2), Rendition(form, 40, 24, scale))
        for mode, form, scale in KINDS
    )
)


def small_files():
    found = [path for path in MEDIA.rglob("*.*") if path.is_file() and path.stat().st_size <= LARGEST_BYTES]
    kept = [path for path in sorted(found) if not path.name.startswith("huge_") and "ground_truth" not in path.parts]
    return [path for path in kept if path.suffix not in {".md", ".tsv", ".mpd", ".m3u8"}]


def result(events):
    return [(event.entry, event.time_s, event.sha256) for event in events if isinstance(event, Image)]


def outside(data):
    try:
        return result(capture(io.BytesIO(data), PLAN))
    except TaskError as error:
        return error.code, error.message


async def inside(pool, data):
    try:
        return result([event async for event in pool.capture(PLAN, MemorySource(data))])
    except TaskError as error:
        return error.code, error.message


@full
async def test_made_videos_of_all_kinds():
    async with cage("tests.integration.escapes:frugal") as pool:
        for container, codec in MADE:
            data = a_video(container, codec)
            captured = await inside(pool, data)
            assert len(captured) > 4, (container, codec, captured)
            assert captured == outside(data), (container, codec)
        assert pool.restarts == {}


@full
@pytest.mark.skipif(not MEDIA.is_dir(), reason=f"the shared media are not at {MEDIA}")
@pytest.mark.parametrize(
    "folder",
    [
        "audio_cover",
        *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.timeout(1200)]) for name in (
            "broken", "codecs", "containers", "footage", "geometry", "timing", "hls"
        )),
    ],
)  # fmt: skip
async def test_real_files(folder):
    files = [path for path in small_files() if path.relative_to(MEDIA).parts[0] == folder]
    assert files
    different = {}
    async with cage("tests.integration.escapes:frugal") as pool:
        for path in files:
            data = path.read_bytes()
            found, wanted = await inside(pool, data), outside(data)
            if found != wanted:
                different[path.name] = (found, wanted)
    assert different == {}
