"""Covers of real audio files, and what is not a cover."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from worker.errors import Code, TaskError
from worker.media.cover import find_cover, is_real_video

MEDIA = Path(__file__).parents[2].parent / "shared" / "media"
real_files = pytest.mark.skipif(not MEDIA.is_dir(), reason=f"the shared media are not at {MEDIA}")


@real_files
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mp3_cover_tika.mp3", (1, 1)),
        ("mp3_beets_two_images.mp3", (2, 3)),
        ("mp3_huge_id3.mp3", (300, 300)),
        ("m4a_two_covers_tika.m4a", (64, 40)),
        ("m4a_beets_two_images.m4a", (2, 3)),
        ("flac_bear_picture.flac", (371, 320)),
        ("flac_two_covers_tika.flac", (64, 40)),
        ("ogg_vorbis_two_covers_tika.ogg", (64, 40)),
        ("opus_kde.opus", (8, 14)),
        ("wma_kde.wma", (8, 14)),
        ("wav_kde_id3.wav", (8, 14)),
        ("ape_kde.ape", (8, 14)),
        ("aac_id3v2_picture.aac", (650, 650)),
    ],
)
def test_the_cover_of_an_audio_file(name, size):
    with av.open(MEDIA / "audio_cover" / name) as container:
        assert not any(is_real_video(stream) for stream in container.streams)
        frame = find_cover(container)
        assert frame is not None
        assert (frame.width, frame.height) == size


@real_files
def test_the_front_cover_comes_before_the_first_picture():
    with av.open(MEDIA / "audio_cover" / "wma_four_images.wma") as container:
        first, front = container.streams.video[:2]
        assert (first.metadata["comment"], front.metadata["comment"]) == ("A bright coloured fish", "Cover (front)")
        frame = find_cover(container)
        assert frame.format.name.startswith("yuvj")  # the JPEG, not the GIF before it


@real_files
@pytest.mark.parametrize(
    "name", ["nocover_mp3.mp3", "nocover_wav.wav", "nocover_audio_only.mp4", "mp3_empty_picture_tag.mp3"]
)
def test_no_picture_is_none(name):
    with av.open(MEDIA / "audio_cover" / name) as container:
        assert find_cover(container) is None


@real_files
@pytest.mark.parametrize("name", ["video_mp4_covr.mp4", "video_mkv_cover_attachment.mkv"])
def test_real_video_beside_a_cover_is_told_apart(name):
    with av.open(MEDIA / "audio_cover" / name) as container:
        assert [is_real_video(stream) for stream in container.streams] == [True, False, False]


@real_files
def test_a_picture_above_the_pixel_limit_is_an_error():
    with (
        av.open(MEDIA / "audio_cover" / "flac_bear_picture.flac") as container,
        pytest.raises(TaskError, match=r"no embedded picture can be decoded .stream 1: ") as caught,
    ):
        find_cover(container, max_pixels=1000)
    assert caught.value.code == Code.CORRUPT_MEDIA


def mp3_with_pictures(path, *pictures):
    """Write a short silent MP3 with ID3v2 pictures: (description of the kind's byte, data)."""
    with av.open(path, "w", format="mp3") as output:
        stream = output.add_stream("libmp3lame", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 11520), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    audio = path.read_bytes()
    frames = b""
    for kind, data in pictures:
        body = b"\0image/png\0" + bytes([kind]) + b"\0" + data
        frames += b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\3\0\0" + size + frames + audio[audio.index(b"\xff\xfb") :])


def png(width, height):
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = width, height, "rgb24", Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8))
    frame.pts = 0
    return bytes(context.encode(frame)[0])


def test_a_front_cover_after_another_picture_wins(tmp_path):
    mp3_with_pictures(tmp_path / "a.mp3", (4, png(5, 6)), (3, png(7, 8)))
    with av.open(tmp_path / "a.mp3") as container:
        frame = find_cover(container)
    assert (frame.width, frame.height) == (7, 8)


def test_a_broken_front_cover_gives_way_to_the_next_picture(tmp_path):
    mp3_with_pictures(tmp_path / "a.mp3", (3, png(7, 8)[:40]), (4, png(5, 6)))
    with av.open(tmp_path / "a.mp3") as container:
        frame = find_cover(container)
    assert (frame.width, frame.height) == (5, 6)


def test_plain_audio_has_no_cover(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(8000)
        output.writeframes(bytes(1600))
    with av.open(tmp_path / "a.wav") as container:
        assert find_cover(container) is None
