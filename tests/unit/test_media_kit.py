"""The test media hold what the kit says: every number is read back from decoded pixels, in frame order."""

import io
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from devkit.counter import dhash, draw_number, draw_scene, read_number, scene_dhash, score
from devkit.media import (
    SCENE_PATTERNS,
    Scene,
    counter_video,
    cover_mp3,
    cover_picture,
    every,
    large_video,
)


def decode(video):
    """Every frame's luma, time and key-frame flag."""
    with av.open(video.path) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            luma = frame.to_ndarray()[: video.height, : video.width]
            yield luma, frame.pts * stream.time_base, bool(frame.key_frame)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x264.mp4", {"gop": 25}),
        ("x264_bframes.mp4", {"gop": 25, "bframes": 2}),
        ("x265_bframes.mp4", {"gop": 30, "bframes": 3, "codec": "libx265", "fps": Fraction(30000, 1001)}),
        ("vp8.webm", {"gop": 20, "codec": "libvpx"}),
        ("vp9.webm", {"gop": 20, "codec": "libvpx-vp9"}),
        ("mpeg4.avi", {"gop": 12, "codec": "mpeg4"}),
        ("mpeg2.ts", {"gop": 12, "codec": "mpeg2video"}),
        ("odd_grid.mkv", {"gop": 10, "width": 322, "height": 182, "start_s": Fraction(3)}),
    ],
)
def test_numbers_key_frames_times_and_dhashes_are_as_told(tmp_path, name, options):
    options = {"width": 640, "height": 360, **options}
    video = counter_video(tmp_path / name, seconds=6, **options)

    frames = list(decode(video))

    size = (video.width, video.height)
    assert [read_number(luma, size=size) for luma, _, _ in frames] == list(range(len(video.times_s)))
    assert len(frames) == int(6 * options.get("fps", 25))
    assert tuple(number for number, (_, _, key) in enumerate(frames) if key) == video.keyframes
    first = frames[0][1]
    assert all(
        abs((time_s - first) - (told - video.times_s[0])) <= Fraction(1, 1000)
        for (_, time_s, _), told in zip(frames, video.times_s, strict=True)
    )
    assert [dhash(luma) for luma, _, _ in frames] == [video.dhash_of(number) for number in range(len(frames))]


def test_a_key_frame_is_decodable_on_its_own(tmp_path):
    video = counter_video(tmp_path / "closed.mp4", seconds=4, width=640, height=360, gop=25, bframes=2)
    with av.open(video.path) as container:
        stream = container.streams.video[0]
        container.seek(int(video.times_s[50] / stream.time_base), stream=stream)
        numbers = [read_number(frame.to_ndarray()[:360], size=(640, 360)) for frame in container.decode(stream)]

    assert numbers == list(range(50, 100))


def test_variable_rate_times_are_exact(tmp_path):
    times_s = [Fraction(k * k, 1000) for k in range(40)]
    video = counter_video(
        tmp_path / "vfr.mp4",
        times_s=times_s,
        time_base=Fraction(1, 1000),
        start_s=Fraction(1, 2),
        width=320,
        height=180,
    )

    frames = list(decode(video))

    assert [time_s for _, time_s, _ in frames] == [time_s + Fraction(1, 2) for time_s in times_s]
    assert [read_number(luma, size=(320, 180)) for luma, _, _ in frames] == list(range(40))
    assert video.number_at(Fraction(8, 1000)) == 2
    assert video.number_at(Fraction(9, 1000)) == 3
    assert video.end_s == times_s[-1] + Fraction(1, 2) + Fraction(1, 25)


def test_a_minute_of_720p_is_small_and_complete(tmp_path):
    video = counter_video(tmp_path / "minute.mp4", fps=10, seconds=65)

    assert video.path.stat().st_size < 2_000_000
    assert [read_number(luma) for luma, _, _ in decode(video)] == list(range(650))


def test_a_large_video_has_its_index_at_the_end(tmp_path):
    video = large_video(tmp_path / "large.mp4", min_bytes=400_000_000)

    with video.path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(-64 * 1024, io.SEEK_END)
        assert b"moov" in file.read()
    assert size >= 400_000_000
    assert [read_number(luma) for luma, _, _ in decode(video)] == list(range(600))


def test_the_same_call_makes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        counter_video(tmp_path / f"{name}.mp4", seconds=2, width=320, height=180, bframes=2)
        counter_video(tmp_path / f"{name}.mkv", seconds=1, width=320, height=180, codec="libx265")
        cover_mp3(tmp_path / f"{name}.mp3", seconds=1)

    for suffix in (".mp4", ".mkv", ".mp3"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_the_rotation_mark_is_read_back(tmp_path):
    video = counter_video(tmp_path / "turned.mp4", seconds=1, width=320, height=180, rotation_deg=90)

    with av.open(video.path) as container:
        assert next(container.decode(video=0)).rotation == 90


def test_times_off_the_time_base_are_refused(tmp_path):
    with pytest.raises(ValueError, match="1/3 s is no whole multiple of the time base 1/25 s"):
        counter_video(tmp_path / "x.mp4", times_s=[Fraction(0), Fraction(1, 3)])


@pytest.mark.parametrize(("codec", "bframes"), [("mpeg2video", 2), ("libsvtav1", 0)])
def test_codecs_whose_key_frames_cannot_be_told_are_refused(tmp_path, codec, bframes):
    with pytest.raises(ValueError, match=codec):
        counter_video(tmp_path / "x.ts", codec=codec, bframes=bframes)


def test_neighbouring_scenes_differ_well_over_the_threshold_and_by_various_amounts():
    scenes = every(10, 100)
    scores = [score(scene_dhash(before.pattern), scene_dhash(after.pattern)) for before, after in pairwise(scenes)]

    assert min(scores) > 15
    assert len(set(scores)) >= 3
    assert [scene.start for scene in scenes] == list(range(0, 100, 10))


def test_scores_follow_the_scenes(tmp_path):
    scenes = (Scene(0, 0b1111), Scene(10, 0b0011))
    video = counter_video(tmp_path / "two.mp4", seconds=1, width=320, height=180, scenes=scenes)

    assert video.scores([0, 9, 10, 20]) == (100, 0, 25, 0)


def picture(number=123_456, size=(1280, 720), pattern=SCENE_PATTERNS[0]):
    luma = draw_number(draw_scene(*size, pattern), size[1], number)[: size[1]]
    return Image.fromarray(np.ascontiguousarray(luma))


def as_jpeg(image):
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=90)
    return Image.open(file)


@pytest.mark.parametrize("number", [0, 1, 123_456, 0b1010_1010_1010_1010_1010, (1 << 20) - 1])
@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (320, 180), (64, 48), (1920, 1080)])
def test_any_number_fits_any_size_and_leaves_the_dhash_alone(number, size):
    image = picture(number, size)

    assert read_number(image, size=size) == number
    assert dhash(np.asarray(image)) == scene_dhash(SCENE_PATTERNS[0])


@pytest.mark.parametrize("original", [(1280, 720), (720, 1280)])
@pytest.mark.parametrize(
    ("scale_type", "wanted"),
    [
        ("stretch", (640, 360)),
        ("stretch", (160, 90)),
        ("stretch", (200, 500)),
        ("crop", (512, 512)),
        ("crop", (100, 100)),
        ("fill", (512, 512)),
        ("fill", (300, 160)),
        ("fit", (512, 512)),
        ("fit", (150, 150)),
    ],
)
def test_the_number_survives_scaling_cropping_and_jpeg(original, scale_type, wanted):
    source = picture(size=original)
    if scale_type == "crop":
        image = ImageOps.fit(source, wanted, Image.Resampling.BICUBIC)
    elif scale_type == "fill":
        image = ImageOps.pad(source, wanted, Image.Resampling.BICUBIC)
    elif scale_type == "fit":
        image = ImageOps.contain(source, wanted, Image.Resampling.BICUBIC)
    else:
        image = source.resize(wanted, Image.Resampling.BICUBIC)

    assert read_number(as_jpeg(image), size=original, scale_type=scale_type) == 123_456


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(ImageOps.mirror(picture()), id="mirrored"),
        pytest.param(ImageOps.flip(picture()), id="upside down"),
        pytest.param(picture().rotate(180), id="turned"),
        pytest.param(Image.blend(picture(7), picture(8), 0.5), id="blend"),
        pytest.param(Image.new("L", (1280, 720), 128), id="no number"),
    ],
)
def test_a_picture_without_one_whole_number_is_refused(image):
    with pytest.raises(ValueError, match="no frame number"):
        read_number(image)


def test_a_crop_that_cuts_the_number_is_refused():
    with pytest.raises(ValueError, match="the picture ends at"):
        read_number(picture().crop((500, 0, 780, 720)), scale_type="crop")


def test_a_number_of_more_than_20_bits_is_refused():
    with pytest.raises(ValueError, match="0 to 1048575, not 1048576"):
        picture(1 << 20)


def test_the_mp3_holds_its_pictures_and_its_sound(tmp_path):
    back = cover_picture("back", size=200, file_format="PNG", kind=4)
    front = cover_picture("front", size=300)

    pictures = cover_mp3(tmp_path / "two.mp3", pictures=[back, front], seconds=2)

    with av.open(tmp_path / "two.mp3") as container:
        found = [(stream.metadata["comment"], stream.codec_context.name) for stream in container.streams.video]
        packets = {p.stream.index: bytes(p) for p in container.demux(video=(0, 1)) if p.size}
        container.seek(0)
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert found == [("Cover (back)", "png"), ("Cover (front)", "mjpeg")]
    assert list(packets.values()) == [picture.data for picture in pictures]
    assert 2 * 48_000 <= samples < 2 * 48_000 + 3 * 1152


def test_the_mp3_has_a_front_cover_by_default(tmp_path):
    (cover,) = cover_mp3(tmp_path / "cover.mp3")

    assert cover.kind == 3
    assert Image.open(io.BytesIO(cover.data)).size == (600, 600)
