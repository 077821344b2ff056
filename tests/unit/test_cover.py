"""Covers: of every real file, against the pictures that are in them, and of files made with what those lack."""

import re
import wave
from base64 import b64decode, b64encode
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.formats import within
from tests.pictures import MEDIA, capture_all, picture, real_files, shown
from worker.errors import Code, TaskError
from worker.media.cover import find_cover, is_real_video
from worker.media.plan import CapturePlan, EntryPlan, Format, Limits, Mode, Rendition, ScaleType, Selection

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


# --- made files


def image_file(kind, colour=(200, 40, 90), size=(24, 16), *, orientation=0, mode="RGB"):
    """An image with a green upper left quarter."""
    image = PillowImage.new("RGB", size, colour)
    image.paste((20, 200, 30), (0, 0, size[0] // 2, size[1] // 2))
    file = BytesIO()
    more = {}
    if orientation:
        more["exif"] = PillowImage.Exif()
        more["exif"][0x112] = orientation
    if kind == "JPEG":
        more["quality"] = 95
    if kind == "WEBP":
        more["lossless"] = True
    image.convert(mode).save(file, kind, **more)
    return file.getvalue()


def mp3_with(*pictures):
    """A short silent MP3 with ID3v2 pictures: (the kind's number, data)."""
    file = BytesIO()
    with av.open(file, "w", format="mp3") as output:
        stream = output.add_stream("libmp3lame", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 11520), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    audio = file.getvalue()
    frames = b""
    for kind, data in pictures:
        body = b"\0image/png\0" + bytes([kind]) + b"\0" + data
        frames += b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return BytesIO(b"ID3\3\0\0" + size + frames + audio[audio.index(b"\xff\xfb") :])


OTHER, ICON, FRONT, BACK = 0, 1, 3, 4


@pytest.mark.parametrize(
    "kinds", [(BACK, FRONT), (OTHER, ICON, BACK, FRONT), (FRONT, BACK), (BACK, FRONT, FRONT)], ids=str
)
def test_the_front_cover_wins_wherever_it_stands(kinds):
    pictures = [(kind, image_file("PNG", size=(20 + 2 * place, 10))) for place, kind in enumerate(kinds)]
    assert picture(mp3_with(*pictures)).shape[1] == 20 + 2 * kinds.index(FRONT)


def test_without_a_front_cover_the_first_picture_is_taken():
    source = mp3_with((BACK, image_file("PNG", size=(20, 10))), (OTHER, image_file("PNG", size=(22, 10))))
    assert picture(source).shape[1] == 20


def test_a_broken_front_cover_gives_way_to_the_next_picture():
    source = mp3_with((FRONT, image_file("PNG")[:40]), (BACK, image_file("PNG", size=(20, 10))))
    assert picture(source).shape[1] == 20


def test_covers_that_are_all_broken_are_corrupt():
    with pytest.raises(TaskError, match=r"no embedded picture can be decoded \(stream 1: .*; stream 2: ") as caught:
        capture_all(mp3_with((FRONT, image_file("PNG")[:40]), (BACK, image_file("PNG")[:50])))
    assert caught.value.code == Code.CORRUPT_MEDIA


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_cover_as_pillow_does(orientation):
    from PIL import ImageOps

    data = image_file("JPEG", orientation=orientation)
    wanted = np.asarray(ImageOps.exif_transpose(PillowImage.open(BytesIO(data)))).astype(int)
    images, _ = capture_all(mp3_with((FRONT, data)))
    levels = shown(images[0]).astype(int)
    assert levels.shape == wanted.shape
    within("mp3", "jpeg", "covers, EXIF orientation", np.abs(levels - wanted).mean(), 3)
    assert not PillowImage.open(BytesIO(images[0].data)).getexif()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "L"),
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("PNG", "L"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("PNG", "RGBA"),
        ("PNG", "I;16"),
        ("WEBP", "RGB"),
        ("GIF", "P"),
        ("BMP", "RGB"),
    ],
)
def test_every_kind_of_image_file_shows_the_colours_that_pillow_reads(kind, mode):
    """Whatever type the tag claims: here it is always PNG."""
    if mode == "I;16":
        file = BytesIO()
        ramp = (np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * 170).astype(np.uint16)
        PillowImage.fromarray(ramp).save(file, "PNG")
        data, wanted = file.getvalue(), np.repeat((ramp / 257)[..., None], 3, axis=2)
    else:
        data = image_file(kind, mode=mode)
        wanted = np.asarray(PillowImage.open(BytesIO(data)).convert("RGB")).astype(int)
    levels = picture(mp3_with((FRONT, data)))[..., :3].astype(int)
    assert np.abs(levels - wanted).mean() < (3 if kind == "JPEG" else 1)


def test_plain_audio_has_no_cover():
    file = BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(8000)
        output.writeframes(bytes(1600))
    file.seek(0)
    with av.open(file) as container:
        assert find_cover(container) is None


@pytest.mark.parametrize(
    ("rendition", "warned"),
    [
        ({"width": 12}, True),
        ({"height": 8}, True),
        ({"width": 24}, False),
        ({"width": 12, "height": 12}, False),
        ({"width": 12, "scale_type": ScaleType.FIT}, False),
    ],
    ids=str,
)
def test_a_cover_that_one_side_alone_distorts_is_told(rendition, warned):
    _, report = capture_all(mp3_with((FRONT, image_file("PNG"))), **rendition)
    assert [warning.code for warning in report.warnings] == ["AspectRatioChanged"] * warned


# --- Matroska attachments


def element(number, data):
    """An EBML element: its number in hexadecimal, its size in eight bytes, its data."""
    return bytes.fromhex(number) + (len(data) | 1 << 56).to_bytes(8, "big") + data


def audio_mka(*attachments):
    """An audio-only Matroska file with attachments: (file name, MIME type, data)."""
    file = BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    files = b""
    for number, (name, kind, data) in enumerate(attachments, start=1):
        parts = [("466E", name.encode()), ("4660", kind.encode()), ("465C", data), ("46AE", bytes([number]))]
        files += element("61A7", b"".join(element(*part) for part in parts))
    data = file.getvalue()
    at = data.index(bytes.fromhex("1F43B675"))  # the first cluster
    extra = element("1941A469", files)
    segment = data.index(bytes.fromhex("18538067"))
    # A segment of unknown size ends with the file; the offsets of cues and seek head behind it are not needed.
    head = data[: segment + 4] + b"\x01" + b"\xff" * 7
    return BytesIO(head + data[segment + 12 : at] + extra + data[at:])


@pytest.mark.parametrize(
    ("kind", "mime"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("BMP", "image/bmp"), ("JPEG", "x/y")],
)
def test_matroska_attachments_are_covers_whatever_ffmpeg_calls_them(kind, mime):
    data = image_file(kind)
    font = ("font.ttf", "font/ttf", b"\0\1\0\0" + bytes(50))
    levels = picture(audio_mka(font, (f"cover.{kind}", mime, data)))[..., :3].astype(int)
    wanted = np.asarray(PillowImage.open(BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(levels - wanted).mean() < 3


def test_the_attachment_named_cover_comes_first():
    small = ("small_cover.webp", "image/webp", image_file("WEBP", size=(12, 8)))
    cover = ("cover.webp", "image/webp", image_file("WEBP"))
    assert picture(audio_mka(small, cover)).shape[1] == 24


def test_attachments_that_are_no_pictures_are_no_covers():
    with pytest.raises(TaskError) as caught:
        capture_all(audio_mka(("font.ttf", "font/ttf", b"\0\1\0\0" + bytes(50))))
    assert caught.value.code == Code.RESOURCE_NOT_FOUND


# --- the old field of Ogg


@pytest.mark.parametrize(("value", "found"), [("", False), ("not base64!", False), ("QUJD", False), (None, True)])
def test_the_coverart_field_of_ogg(value, found):
    value = b64encode(image_file("PNG")).decode() if value is None else value
    file = BytesIO()
    with av.open(file, "w", format="ogg") as output:
        stream = output.add_stream("libopus", rate=48_000)
        stream.metadata["COVERART"] = value
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    if found:
        assert picture(file).shape == (16, 24, 3)
        return
    with pytest.raises(TaskError) as caught:
        capture_all(file)
    assert caught.value.code == Code.RESOURCE_NOT_FOUND
