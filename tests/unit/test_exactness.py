"""Every frame of one stream of each kind, asked for alone and in every mode, is that of the naive full decode.

The drawn streams of `test_capture` come by all of this at random; here each kind that people ask about has its test.
"""

from fractions import Fraction
from itertools import pairwise

import pytest

from tests.exact import assert_as_expected
from tests.formats import tally
from tests.naive import decode_all, digest
from tests.streams import CONTAINERS, FAST, REORDERING, Stream, make
from worker.media.container import Media
from worker.media.decode import FrameReader
from worker.media.plan import CapturePlan, EntryPlan, Format, Limits, Mode, Rendition, Selection
from worker.media.timeline import first_pts

PNG = Rendition(format=Format.PNG)
FRAMES = 40


def stream(codec, container, params="", *, bframes=2, start=0, steps=(1,) * FRAMES, base=25, **options):
    """A recipe; `params` go to x264 or x265, `start` and `steps` count in ticks of 1/`base` s."""
    if codec == "libx264":
        options |= {"x264-params": f"keyint=12:scenecut=0:bframes={bframes}:b-adapt=0:threads=1:{params}"}
    elif codec == "libx265":
        rest = f"pools=none:frame-threads=1:log-level=none:min-keyint=12:{params}"
        options |= {"x265-params": f"keyint=12:scenecut=0:bframes={bframes}:b-adapt=0:{rest}"}
    options = FAST.get(codec, {}) | options
    size = (176, 144) if codec == "h263" else (96, 64)
    bframes = bframes if codec in REORDERING else 0
    return Stream(
        codec, container, 12, bframes, tuple(options.items()), Fraction(1, base), Fraction(25), tuple(steps), start, 0,
        size, interlaced="+ildct" in options.get("flags", "") or "tff=1" in params,
    )  # fmt: skip


X264 = {
    "closed GOPs": "open-gop=0:min-keyint=12",
    "open GOPs, recovery points": "open-gop=1:min-keyint=12",
    "B-pyramid": "bframes=7:b-pyramid=normal:ref=4",
    "open GOPs with a B-pyramid": "open-gop=1:bframes=7:b-pyramid=normal:ref=4",
    "open GOPs whose keyframes forget pictures": "open-gop=1:keyint=3:b-pyramid=strict:ref=3",
    "intra refresh": "intra-refresh=1",
    "MBAFF": "tff=1",
    "MBAFF with open GOPs": "bff=1:open-gop=1",
    "interlaced in name": "fake-interlaced=1",
}
X265 = {
    "closed GOPs": "open-gop=0",
    "CRA and RASL": "open-gop=1:bframes=4:b-pyramid=1",
    "CRA, RADL and RASL": "open-gop=1:bframes=4:radl=0:temporal-layers=2",
    "RADL": "open-gop=0:radl=2:bframes=4",
    "temporal layers": "open-gop=0:temporal-layers=2:bframes=4",
}
HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "8", "deadline": "good"}
VARIABLE = [1 + (n * 7) % 5 for n in range(FRAMES)]
STREAMS = {
    **{f"H.264 {name}, {c}": stream("libx264", c, p) for name, p in X264.items() for c in ("mp4", "mkv", "ts")},
    **{f"HEVC {name}, {c}": stream("libx265", c, p) for name, p in X265.items() for c in ("mp4", "mkv", "ts")},
    **{f"HEVC keyframes closer than frames are reordered, {c}": stream(
        "libx265", c, "keyint=2:min-keyint=1:open-gop=1", bframes=1) for c in ("mp4", "fmp4")},
    "VP8 with hidden frames": stream("libvpx", "webm", **HIDDEN),
    "VP9 with hidden frames": stream("libvpx-vp9", "webm", **HIDDEN),
    "VP9 with hidden frames, mp4": stream("libvpx-vp9", "mp4", **HIDDEN),
    "MPEG-2 interlaced": stream("mpeg2video", "ts", flags="+ildct+ilme"),
    "MPEG-2 closed GOPs": stream("mpeg2video", "mpg", flags="+cgop", sc_threshold="1000000000"),
    "WMV 1": stream("wmv1", "asf"),
    "VP8 in OGG": stream("libvpx", "ogg"),
    "WMV 2 in AVI": stream("wmv2", "avi"),
    "MPEG-2 in MXF": stream("mpeg2video", "mxf"),
    "raw HEVC": stream("libx265", "hevc"),
    "variable frame rate, mp4": stream("libx264", "mp4", steps=VARIABLE, base=100),
    "variable frame rate, mkv": stream("libx265", "mkv", "open-gop=1", steps=VARIABLE, base=100),
    "variable frame rate, ts": stream("libx264", "ts", "open-gop=1", steps=VARIABLE, base=100),
    "one long gap": stream("libx264", "mp4", steps=[1] * 20 + [400] + [1] * 20),
    "MP4 that starts late": stream("libx264", "mp4", start=1000),
    "TS that starts late": stream("libx264", "ts", start=90_000),
    "TS whose clock wraps": stream("libx264", "ts", "open-gop=1", start=95443 * 25),
    "TS of MPEG-2 whose clock wraps": stream("mpeg2video", "ts", start=95443 * 25),
    "PS whose frames are reordered": stream("mpeg1video", "mpg"),
    **{f"{codec} in {c}": stream(codec, c) for codec, containers in CONTAINERS.items() for c in containers},
}  # fmt: skip


def all_modes(length_s):
    """Entries of every mode, for all frames and for some, asking for more than there are and from within."""
    third = length_s / 3
    selections = (
        Selection(),
        Selection(Mode.INTERVAL, interval_s=Fraction(3, 50)),
        Selection(Mode.INTERVAL, third, Fraction(1, 7), 1000),
        Selection(Mode.INTERVAL, 2 * length_s, number=1),
        Selection(Mode.AVERAGE, number=7),
        Selection(Mode.AVERAGE, third, number=200),
        Selection(Mode.KEYFRAME),
        Selection(Mode.KEYFRAME, third, number=2),
        Selection(Mode.DHASH, interval_s=Fraction(1, 10), threshold=3),
        Selection(Mode.DHASH, number=4),
    )
    return tuple(EntryPlan(each, PNG) for each in selections)


def alone(path, time_s):
    """The frame at one time, from a reader that is asked nothing else."""
    with path.open("rb") as file, Media(file, Limits()) as media:
        shot = FrameReader(media, Limits(), first_pts(media)).at(time_s)
        return shot.time_s, digest(shot.frame)


def assert_exact(path, kind):
    video = decode_all(path, keys=True)
    shown = [*(a for a, b in pairwise(video.times_s) if b - a > video.tolerance_s), video.times_s[-1]]
    frames = {time: video.frames[video.on_screen(time)].digest for time in shown}
    found = [alone(path, time) for time in shown]
    tally(*kind, "single frames, made streams", found, list(frames.items()))
    assert found == list(frames.items())
    entries = all_modes(video.end_s)
    alone_too = [CapturePlan((entry,)) for entry in entries if entry.selection.mode is Mode.KEYFRAME]
    for plan in (CapturePlan(entries), *alone_too, CapturePlan(entries, video.end_s / 4, video.end_s / 2)):
        assert_as_expected(path, plan, kind, "made streams", video)
    return video


def parameters():
    """Those whose kind another one shows in another container are slow."""
    for name in STREAMS:
        slow = name.endswith(", mkv") or " in " in name
        yield pytest.param(name, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("name", list(parameters()))
def test_every_frame(name, tmp_path):
    recipe = STREAMS[name]
    path = make(recipe, tmp_path)
    assert len(assert_exact(path, (recipe.container, recipe.codec)).frames) >= len(recipe.steps) - 3


def test_samples_past_an_end_that_only_all_packets_tell(tmp_path):
    """The last packet is not that of the last frame, and frames are shown for different times."""
    steps = (173, 20, 151, 15, 100, 138, 142, 153, 63, 171, 179, 158, 95, 116, 6, 26, 59, 97, 57, 82, 49, 177, 34, 9,
             128, 47, 157, 58, 171, 13, 97, 170, 66, 24, 24, 71, 142, 127, 6, 106, 44, 12, 180, 145, 43, 175, 141, 88,
             11, 170, 101)  # fmt: skip
    recipe = stream("libx264", "mp4", "keyint=300:bframes=1", bframes=1, steps=steps, base=600)
    path, end_s = make(recipe, tmp_path), Fraction(sum(steps), 600)
    for number in (0, 4):
        entry = EntryPlan(Selection(Mode.INTERVAL, end_s * 2 / 3, end_s / 3, number), PNG)
        for plan in (CapturePlan((entry,), end_s * 5 / 6, end_s * 2), CapturePlan((entry,), Fraction(0), end_s * 2)):
            assert_as_expected(path, plan, ("mp4", "libx264"), "made streams")
