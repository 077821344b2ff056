"""Covers of every real file, against the pictures that are in them."""

import re
from base64 import b64decode
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.formats import within
from tests.pictures import MEDIA, capture_all, picture, real_files
from worker.errors import Code, TaskError
from worker.media.cover import find_cover, is_real_video
from worker.media.plan import CapturePlan, EntryPlan, Format, Limits, Mode, Rendition, Selection

# What the tags say: size of the front cover, or of the first picture, and its codec.
COVERS = {
    "aac_id3v2_picture.aac": ((650, 650), "JPEG"),
    "aiff_two_images.aiff": ((30, 30), "JPEG"),
    "ape_kde.ape": ((8, 14), "JPEG"),
    "flac_bear_picture.flac": ((371, 320), "PNG"),
    "flac_two_covers_tika.flac": ((64, 40), "PNG"),
    "m4a_beets_two_images.m4a": ((2, 3), "PNG"),
    "m4a_covr_with_name.m4a": ((2, 2), "PNG"),
    "m4a_two_covers_tika.m4a": ((64, 40), "PNG"),
    "mp3_beets_two_images.mp3": ((2, 3), "PNG"),
    "mp3_cover_tika.mp3": ((1, 1), "PNG"),
    "mp3_huge_id3.mp3": ((300, 300), "PNG"),
    "ogg_beets_coverart_legacy.ogg": ((2, 3), "PNG"),
    "ogg_beets_two_images.ogg": ((2, 3), "PNG"),
    "ogg_vorbis_two_covers_tika.ogg": ((64, 40), "PNG"),
    "opus_kde.opus": ((8, 14), "JPEG"),
    "wav_kde_id3.wav": ((8, 14), "JPEG"),
    "wma_four_images.wma": ((30, 30), "JPEG"),
    "wma_kde.wma": ((8, 14), "JPEG"),
}
SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff"}
NONE = [
    "mp3_empty_picture_tag.mp3",
    "nocover_audio_only.mp4",
    "nocover_audio_only.webm",
    "nocover_mp3.mp3",
    "nocover_wav.wav",
]
VIDEOS = [
    "video_mkv_cover_attachment.mkv",
    "video_mp4_covr.mp4",
    "video_webm_cover_bbb_trailer.webm",
]


def embedded(data, kind):
    """Read the embedded pictures of a kind as Pillow finds them in the file's own bytes."""
    start = -1
    while (start := data.find(SIGNATURES[kind], start + 1)) >= 0:
        image = PillowImage.open(BytesIO(data[start:]))
        yield image.size, np.asarray(image.convert("RGB")).astype(int)


def in_base64(data):
    """Read the fields of Ogg files that hold pictures, each of which lies in one page."""
    for field in re.findall(rb"(?i)(?:METADATA_BLOCK_PICTURE|COVERART)=([A-Za-z0-9+/]+=*)", data):
        yield b64decode(field[: len(field) // 4 * 4])


@real_files
def test_every_file_of_the_catalogue_is_tested():
    names = {path.name for path in (MEDIA / "audio_cover").iterdir()}
    assert names == {*COVERS, *NONE, *VIDEOS, "video_m4v_covr_drm.m4v"}


@real_files
@pytest.mark.parametrize("name", COVERS)
def test_the_cover_is_the_picture_in_the_file(name):
    size, kind = COVERS[name]
    levels = picture(f"audio_cover/{name}").astype(int)
    assert (levels.shape[1], levels.shape[0]) == size
    suffix = name.rpartition(".")[2]
    data = (MEDIA / "audio_cover" / name).read_bytes()
    candidates = embedded(b"".join(in_base64(data)) if suffix in {"ogg", "opus"} else data, kind)
    wanted = next(pixels for found, pixels in candidates if found == size)
    within(
        suffix, kind.lower(), "covers, real files", np.abs(levels[..., :3] - wanted).mean(), 0 if kind == "PNG" else 3
    )


@real_files
@pytest.mark.parametrize("name", [name for name in COVERS if "beets" in name])
def test_beets_covers_are_its_ground_truth(name):
    wanted = np.asarray(PillowImage.open(MEDIA / "ground_truth/beetbox_cover/image-2x3.png").convert("RGB"))
    assert (picture(f"audio_cover/{name}")[..., :3] == wanted).all()


@real_files
@pytest.mark.parametrize("name", NONE)
def test_no_picture_is_not_found_and_says_so(name):
    with pytest.raises(TaskError, match="no video stream and no embedded picture, only audio") as caught:
        capture_all(f"audio_cover/{name}")
    assert caught.value.code == Code.RESOURCE_NOT_FOUND


@real_files
@pytest.mark.parametrize("name", VIDEOS)
def test_real_video_beside_a_cover_is_captured(name):
    with av.open(MEDIA / "audio_cover" / name) as container:
        assert [is_real_video(stream) for stream in container.streams] == [True, False, False]
        video, cover = container.streams.video
        sizes = (video.width, video.height), (cover.width, cover.height)
    assert sizes[0] != sizes[1]
    levels = picture(f"audio_cover/{name}")
    assert (levels.shape[1], levels.shape[0]) == sizes[0]


@real_files
def test_video_that_cannot_be_decoded_does_not_give_its_cover_instead():
    with pytest.raises(TaskError, match="codec") as caught:
        capture_all("audio_cover/video_m4v_covr_drm.m4v")
    assert caught.value.code == Code.UNSUPPORTED_MEDIA


@real_files
def test_time_fields_do_not_matter_and_each_entry_gets_the_cover():
    from worker.media.capture import capture

    entries = tuple(EntryPlan(Selection(mode, Fraction(50), Fraction(3), 7), Rendition(Format.PNG)) for mode in Mode)
    data = BytesIO((MEDIA / "audio_cover/flac_bear_picture.flac").read_bytes())
    *images, report = capture(data, CapturePlan(entries))
    assert [(image.entry, image.index, image.width, image.height) for image in images] == [
        (number, 1, 371, 320) for number in range(len(entries))
    ]
    assert [entry.count for entry in report.entries] == [1] * len(entries)


@real_files
def test_a_picture_above_the_pixel_limit_is_an_error():
    with (
        av.open(MEDIA / "audio_cover" / "flac_bear_picture.flac") as container,
        pytest.raises(
            TaskError, match=r"embedded picture has more pixels: the limit LIMITS__PIXELS is 118719$"
        ) as caught,
    ):
        find_cover(container, Limits(max_pixels=371 * 320 - 1))
    assert caught.value.code == Code.LIMIT_EXCEEDED
    assert Limits().max_pixels > 371 * 320
