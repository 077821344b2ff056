"""Keyframes carry the times of their frames, whatever lies between them, and what lies between is not read."""

import io
from fractions import Fraction

import pytest
from PIL import Image as Picture

from devkit.counter import read_number
from devkit.media import counter_video, large_video
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Image, Mode, Rendition, Report, Selection

SECONDS, FPS = 12, 25
OPEN_GOPS = (
    "keyint=50:min-keyint=50:scenecut=0:bframes=3:b-adapt=0:pools=none:frame-threads=1:log-level=error:open-gop=1"
)
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
VIDEOS = {
    "mp4": {},
    "mp4 with B-frames": {"bframes": 2},
    "mov with B-frames": {"bframes": 3, "suffix": "mov"},
    "fragmented mp4 with B-frames": {"bframes": 2, "container_options": FRAGMENTED},
    "mp4 with open GOPs": {
        "stem": "open-gops",
        "codec": "libx265",
        "bframes": 3,
        "options": {"x265-params": OPEN_GOPS},
    },
    "mkv with B-frames": {"bframes": 2, "suffix": "mkv"},
    "ts with B-frames": {"bframes": 2, "suffix": "ts"},
}


@pytest.fixture(scope="module", params=VIDEOS)
def video(request, tmp_path_factory):
    options = dict(VIDEOS[request.param])
    name = f"{options.pop('stem', 'video')}.{options.pop('suffix', 'mp4')}"
    path = tmp_path_factory.mktemp("video") / name
    return counter_video(path, width=320, height=240, seconds=SECONDS, **options)


class CountingFile(io.FileIO):
    """A file that knows how many bytes were read of it."""

    count = 0

    def readinto(self, buffer):
        size = super().readinto(buffer)
        self.count += size
        return size

    def read(self, size=-1):
        data = super().read(size)
        self.count += len(data)
        return data


def images_of(video, *selections):
    """Capture; gives number, time and whether it is a keyframe of each image, per entry."""
    found = [[] for _ in selections]
    plan = CapturePlan(tuple(EntryPlan(each, Rendition()) for each in selections))
    with video.path.open("rb") as file:
        for event in capture(file, plan):
            if isinstance(event, Image):
                number = read_number(Picture.open(io.BytesIO(event.data)), size=(video.width, video.height))
                found[event.entry].append((number, event.time_s, event.key_frame))
            elif isinstance(event, Report):
                assert [each.error_code for each in event.entries] == [""] * len(selections)
    return found


def assert_keyframes(video, images, start_s=0):
    for number, time_s, key_frame in images:
        assert abs(time_s - Fraction(number, FPS)) <= Fraction(1, 1000)
        assert key_frame
    # x265 puts the keyframes of open GOPs where it likes.
    wanted = [number for number in video.keyframes if number >= start_s * FPS]
    assert len(images) == len({number for number, _, _ in images}) == len(wanted)
    if video.path.stem != "open-gops":
        assert [number for number, _, _ in images] == wanted


def test_each_keyframe_has_the_time_of_its_frame(video):
    (images,) = images_of(video, Selection(Mode.KEYFRAME))
    assert_keyframes(video, images)


def test_keyframes_from_a_time_on(video):
    (images,) = images_of(video, Selection(Mode.KEYFRAME, start_s=Fraction(4)))
    assert_keyframes(video, images, 4)


def test_keyframes_beside_another_entry_are_the_same(video):
    (alone,) = images_of(video, Selection(Mode.KEYFRAME))
    beside, frames = images_of(video, Selection(Mode.KEYFRAME), Selection(interval_s=Fraction(5)))
    assert beside == alone
    assert [number for number, _, _ in frames] == [0, 125, 250]


def test_of_an_indexed_file_little_more_than_its_keyframes_is_read(tmp_path):
    video = large_video(tmp_path / "video.mp4", min_bytes=60_000_000)
    plan = CapturePlan((EntryPlan(Selection(Mode.KEYFRAME), Rendition(width=64, height=36)),))
    with CountingFile(video.path) as file:
        images = [event for event in capture(file, plan) if isinstance(event, Image)]
        assert len(images) == len(video.keyframes)
        assert file.count < video.path.stat().st_size / 5  # one frame of ten
