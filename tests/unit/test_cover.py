"""Covers of files made with what real ones lack: kinds of pictures, orientations, attachments, broken ones."""

import wave
from base64 import b64encode
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.formats import within
from tests.pictures import capture_all, picture, shown
from worker.errors import Code, TaskError
from worker.media.cover import find_cover
from worker.media.plan import ScaleType


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
