"""Deinterlacing: combs of real motion go, and progressive pictures in flagged streams stay as they are."""

from itertools import pairwise

import av
import numpy as np
import pytest

from tests.formats import within
from tests.pictures import MEDIA, capture_all, frame_of, picture, real_files, shown, video, with_fields
from worker.media.deinterlace import is_combed, progressive
from worker.media.scaler import luma

INTERLACED = {  # lossless or nearly
    "libx264": ("mkv", {"qp": "0", "preset": "ultrafast", "flags": "+ildct+ilme"}),
    "mpeg2video": ("ts", {"flags": "+ildct+ilme", "qscale": "1", "qmin": "1", "global_quality": "118"}),
}


def moving(position, *, deep=False):
    """A disc and a slanted bar, soft as a lens makes them, over a textured ground; `position` moves them."""
    y, x = np.mgrid[0:144, 0:192].astype(float)
    ground = 90 + 20 * np.sin(x / 9) * np.cos(y / 13)
    disc = 1 / (1 + np.exp((np.hypot(x - 60 - position, y - 70) - 30) / 0.8))
    bar = 1 / (1 + np.exp((np.abs(x - 150 - position + y / 4) - 6) / 0.8))
    picture = ground + 110 * disc - 60 * bar
    return np.round(picture * (4 if deep else 1)).astype(np.uint16 if deep else np.uint8)


def woven(first, second):
    frame = first.copy()
    frame[1::2] = second[1::2]
    return frame


def gray_frame(samples):
    deep = samples.dtype == np.uint16
    middle = np.full((samples.shape[0] // 2, samples.shape[1] // 2), 512 if deep else 128, samples.dtype)
    return frame_of("yuv420p10le" if deep else "yuv420p", samples, middle, middle, colorspace=1, color_range=1)


def flagged(pictures, codec="libx264", order="tff"):
    """Encode pictures as interlaced."""
    container, options = INTERLACED[codec]
    source = video(
        codec,
        [with_fields(gray_frame(samples), order) for samples in pictures],
        container=container,
        options=options,
        colorspace=1,
        color_range=1,
    )
    with av.open(source) as opened:
        assert next(opened.decode(video=0)).interlaced_frame
    source.seek(0)
    return source


def plain(samples):
    return picture(video("ffv1", [gray_frame(samples)], colorspace=1, color_range=1))


def psnr(one, other):
    error = np.mean((one.astype(float) - other) ** 2)
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("deep", [False, True], ids=["8 bit", "10 bit"])
@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize("shift", [3, 8, 20])
def test_the_comb_of_moving_things_goes(shift, order, deep):
    """What stays is the first field's moment, by the flag of which field that is."""
    first, second = moving(0, deep=deep), moving(shift, deep=deep)
    comb = woven(first, second) if order == "tff" else woven(second, first)
    wanted = plain(first)
    shown_picture = picture(flagged([comb] * 2, order=order))
    within("mkv", "libx264", "deinterlaced, moving things", 40 - psnr(shown_picture, wanted))
    assert psnr(shown_picture, wanted) > psnr(plain(comb), wanted) + 10


@pytest.mark.parametrize("codec", INTERLACED)
def test_progressive_pictures_in_flagged_streams_are_not_harmed(codec):
    samples = moving(0)
    source = flagged([samples] * 3, codec)
    with av.open(source) as opened:
        decoded = next(opened.decode(video=0)).to_ndarray(format="yuv420p")[: samples.shape[0]]
    within(INTERLACED[codec][0], codec, "deinterlaced, progressive in truth", (picture(source) != plain(decoded)).sum())
    if codec == "libx264":
        assert (decoded == samples).all()


def test_a_flagged_progressive_picture_is_scaled_as_one():
    """swscale scales the fields of a flagged frame by themselves: a checkerboard would not become gray."""
    y, x = np.mgrid[0:144, 0:192]
    board = np.where((x + y) % 2, 40, 200).astype(np.uint8)
    small = picture(flagged([board] * 2), width=48, height=36).astype(int)
    assert np.ptp(small[2:-2, 2:-2]) <= 4


def test_each_frame_is_judged_by_itself():
    """A film in an interlaced stream: two of five frames are woven from two pictures."""
    stills = [moving(shift) for shift in (0, 20, 40)]
    pictures = [stills[0], woven(stills[0], stills[1]), stills[1], woven(stills[1], stills[2]), stills[2]]
    images, _ = capture_all(flagged(pictures), number=5)
    levels = [shown(image) for image in images]
    assert [(level == plain(samples)).all() for level, samples in zip(levels, pictures, strict=True)] == [
        True, False, True, False, True
    ]  # fmt: skip
    assert psnr(levels[1], plain(stills[0])) > 34
    assert psnr(levels[3], plain(stills[1])) > 34


def test_an_unflagged_comb_stays():
    comb = woven(moving(0), moving(20))
    assert (plain(comb) == picture(video("libx264", [gray_frame(comb)], options={"qp": "0"}, colorspace=1))).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (16, 19), (17, 20), (1, 64)])
def test_small_frames_are_judged_too(size):
    assert is_combed(frame_of("gray", np.full(size[::-1], 50, np.uint8))) is False


@real_files
@pytest.mark.parametrize(
    ("name", "combed"),
    [("codecs/mpeg2_hdv_1080i50.mov", range(1)), ("containers/m2ts_avchd_1080i.mts", range(4))],
)
def test_real_flagged_files_that_are_progressive_stay_as_decoded(name, combed):
    """FFmpeg's idet finds progressive frames in both: 24 of 25, and 31 of 31 (a few have a slight real comb)."""
    changed = 0
    with av.open(MEDIA / name) as opened:
        for frame in opened.decode(video=0):
            assert frame.interlaced_frame
            whole = progressive(frame)
            assert not whole.interlaced_frame
            changed += bool((luma(whole)[0] != luma(frame)[0]).any())
    assert changed in combed


@real_files
@pytest.mark.parametrize("name", ["footage/tears_of_steel_70s.webm", "footage/tmk_chair_19.mp4"])
def test_real_motion_woven_into_fields_is_found_and_removed(name):
    with av.open(MEDIA / name) as opened:
        frames = [frame for frame, _ in zip(opened.decode(video=0), range(60), strict=False)]
    gains, found = [], 0
    for first, second in list(pairwise(frames))[::6]:
        one, two = (luma(frame)[0][: frame.height // 2 * 2, : frame.width // 2 * 2] for frame in (first, second))
        comb = woven(one, two)
        if psnr(comb, one) > 38:  # nothing that an eye would see
            continue
        found += is_combed(gray_frame(comb))
        wanted = plain(one)
        gains.append(psnr(picture(flagged([comb] * 2)), wanted) - psnr(plain(comb), wanted))
    assert len(gains) >= 5
    assert found >= 0.9 * len(gains)
    assert np.median(gains) > 5


@real_files
def test_progressive_footage_is_hardly_ever_taken_for_interlaced():
    judged = []
    for path in sorted((MEDIA / "footage").iterdir()):
        with av.open(path) as opened:
            for number, frame in zip(range(33), opened.decode(video=0), strict=False):
                if number % 8 == 0:
                    judged.append((path.name, is_combed(frame)))
    assert len(judged) > 60
    assert [name for name, combed in judged if combed] == []
