"""Real files, most of them odd ones: every frame that is given is, bit by bit, the one of a full decode from the start.

What is not exact, and why, stands in `tests.formats.DEVIATIONS` and nowhere else. The files are beside the project.
"""

import csv
import functools
import random
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from operator import itemgetter

import pytest

from tests.formats import DEVIATIONS, tally
from tests.naive import decode_all, digest
from tests.naive_selection import dhash, expect
from tests.pictures import MEDIA, real_files
from worker.errors import TaskError
from worker.media.capture import capture
from worker.media.container import Media
from worker.media.decode import FrameReader
from worker.media.encode import encode
from worker.media.plan import CapturePlan, EntryPlan, Format, Image, Limits, Mode, Rendition, Selection
from worker.media.raster import Renderer
from worker.media.timeline import first_pts

pytestmark = real_files
REFUSED = {
    "containers/webp_iss.webp": "UnsupportedMedia",  # FFmpeg decodes no animated WebP
    "audio_cover/video_m4v_covr_drm.m4v": "UnsupportedMedia",  # encrypted
    "timing/negative_duration.mp4": "CorruptMedia",  # a track without samples
}
TOO_LONG = {"geometry/huge_8k_vp9_60s_3600frames.webm"}  # a full decode takes minutes
FIELDS = {"containers/m2ts_avchd_1080i.mts"}  # each half of a frame is a packet of its own: always tested, it is quick
FOLDERS = ("containers", "codecs", "timing", "geometry", "footage", "audio_cover")
SMALL_BYTES, FEW_FRAMES = 600_000, 300


def column(name):
    with (MEDIA / "CATALOG.tsv").open() as file:
        return {row["path"]: row[name] for row in csv.DictReader(file, delimiter="\t")}


def catalog():
    with (MEDIA / "CATALOG.tsv").open() as file:
        rows = {row["path"]: row for row in csv.DictReader(file, delimiter="\t")}
    for path, row in sorted(rows.items()):
        if path.startswith(FOLDERS) and row["vcodec"] not in {"-", ""} and path not in TOO_LONG:
            frames = row["frames_decoded_pyav18"].split()[0]
            small = int(row["size"]) <= SMALL_BYTES and (not frames.isdecimal() or int(frames) <= FEW_FRAMES)
            quick = small or path in FIELDS
            yield pytest.param(path, marks=[] if quick else [pytest.mark.slow, pytest.mark.timeout(600)])


FILES = list(catalog()) if MEDIA.is_dir() else []
CONTAINERS, CODECS = (column("container"), column("vcodec")) if MEDIA.is_dir() else ({}, {})


@functools.lru_cache(maxsize=1)
def truth_of(name):
    return decode_all(MEDIA / name, keep=False, keys=True)


@contextmanager
def opened(name):
    """A reader of a file as a capture uses it."""
    with (MEDIA / name).open("rb") as file, Media(file, Limits()) as media:
        yield FrameReader(media, Limits(), first_pts(media))


@pytest.fixture
def name(request):
    name = request.param
    if name in REFUSED:
        with pytest.raises(TaskError) as caught, opened(name) as reader:
            reader.at(Fraction(0))
        assert caught.value.code == REFUSED[name]
        pytest.skip(f"refused, as it should be: {caught.value}")
    return name


def real(name, what, found, wanted):
    """Assert that all frames are the wanted ones, and count them for `docs/formats.md`."""
    deviates = f"{name}, {what}" in DEVIATIONS
    if deviates:
        assert set(found) < set(wanted), "what is given has to be right, and a deviation to be one"
        found = [each if each in found else None for each in wanted]
    tally(CONTAINERS[name].split(",")[0], CODECS[name], f"{what}, real files", found, wanted)
    assert deviates or found == wanted


def describe(shot):
    return shot.pts, digest(shot.frame)


def wanted_at(truth, time_s):
    frame = truth.frames[truth.on_screen(time_s)]
    return frame.pts, frame.digest


@pytest.mark.parametrize("name", FILES, indirect=True)
def test_frames_at_random_times(name):
    truth = truth_of(name)
    rng = random.Random(name)
    end_s = truth.end_s
    for count in (12, 3, 1, 1):
        times_s = sorted(end_s * Fraction(rng.randrange(10_000), 10_000) for _ in range(count))
        with opened(name) as reader:
            assert reader.origin_pts == truth.frames[0].pts
            found, wanted = [describe(reader.at(t)) for t in times_s], [wanted_at(truth, t) for t in times_s]
        real(name, "frames at random times", found, wanted)


@pytest.mark.parametrize("name", FILES, indirect=True)
def test_the_end(name):
    truth = truth_of(name)
    with opened(name) as reader:
        shot = reader.at(truth.end_s + 10)
    found, wanted = (*describe(shot), shot.end_s), (*wanted_at(truth, truth.end_s), truth.end_s)
    real(name, "the last frame and the end", [found], [wanted])


@pytest.mark.parametrize("name", FILES, indirect=True)
def test_every_frame_in_turn(name):
    truth = truth_of(name)
    with opened(name) as reader:
        found = [describe(reader.at(Fraction(0)))]
        while (shot := reader.following()) is not None:
            found.append(describe(shot))
    first = truth.on_screen(Fraction(0))
    real(name, "every frame in turn", found, [(frame.pts, frame.digest) for frame in truth.frames[first:]])


@pytest.mark.parametrize("name", FILES, indirect=True)
def test_keyframes(name):
    truth = truth_of(name)
    with opened(name) as reader:
        found = [describe(shot) for shot in reader.keyframes(Fraction(0))]
    real(name, "keyframes", found, [(truth.frames[i].pts, truth.frames[i].digest) for i in sorted(truth.keys)])


def sparse_plans(end_s, rendition, *, keyframes):
    """Entries of every mode that want few frames, together and alone, of the whole and of a part."""
    selections = [
        Selection(Mode.AVERAGE, number=5),
        Selection(Mode.INTERVAL, end_s / 3, end_s / 11, 3),
        Selection(Mode.INTERVAL, interval_s=end_s / 4),
        Selection(Mode.DHASH, interval_s=end_s / 6, threshold=5),
        Selection(Mode.DHASH, end_s / 2, end_s / 9, 2),
        Selection(Mode.INTERVAL, end_s * 8 / 9, end_s, 1),
        *([Selection(Mode.KEYFRAME, end_s / 5, number=2)] if keyframes else []),
    ]
    entries = [EntryPlan(selection, rendition) for selection in selections]
    yield CapturePlan(tuple(entries))
    yield from (CapturePlan((entries[place],)) for place in (0, 4))
    yield CapturePlan(tuple(entries[1:4]), end_s / 4, end_s / 2)


def samples(video, plan):
    """The places of the frames that an entry of `dhash` looks at, and of those that entries may come to."""
    for entry in plan.entries:
        selection = entry.selection
        hashes = selection.mode is Mode.DHASH
        every = replace(entry, selection=replace(selection, mode=Mode.INTERVAL, number=0)) if hashes else entry
        for each in expect(video, every, plan.trim_start_s, plan.trim_duration_s).frames:
            yield each.index, hashes


def with_pictures(name, plans):
    """Decode again, keeping the frames that are needed, and the hashes of those that are compared."""
    truth = truth_of(name)
    needed = {place: hashes for plan in plans for place, hashes in sorted(samples(truth, plan), key=itemgetter(1))}
    video = decode_all(MEDIA / name, keep={truth.frames[place].digest for place in needed})
    hashes = {place: dhash(video.frames[place].frame) for place, hashed in needed.items() if hashed}
    return replace(video, keys=truth.keys, hashes=hashes)


@pytest.mark.parametrize("name", FILES, indirect=True)
def test_captures_of_few_frames_in_every_mode(name):
    """Pixels are compared after scaling to one size: that pictures have the right shape is tested elsewhere."""
    rendition = Rendition(Format.PNG, 160, 120)
    plans = list(sparse_plans(truth_of(name).end_s, rendition, keyframes=f"{name}, keyframes" not in DEVIATIONS))
    video = with_pictures(name, plans)
    with (MEDIA / name).open("rb") as file, Media(file, Limits()) as media:
        margins = media.presentation.margins
    kind = (CONTAINERS[name].split(",")[0], CODECS[name], "sparse captures, real files")
    for plan in plans:
        with (MEDIA / name).open("rb") as file:
            *events, report = capture(file, plan)
        for number, entry in enumerate(plan.entries):
            if entry.selection.mode is Mode.KEYFRAME and not video.monotonic:
                continue
            wanted = expect(video, entry, plan.trim_start_s, plan.trim_duration_s)
            images = [event for event in events if isinstance(event, Image) and event.entry == number]
            found = [(i.requested_s + plan.trim_start_s, i.source_pts, i.dhash, i.score, i.data) for i in images]
            expected = []
            for each in wanted.frames:
                frame = video.frames[each.index]
                data = encode(Renderer(rendition).render(frame.frame, Fraction(1), margins), Format.PNG, 90)
                expected.append((each.asked_s, frame.pts, each.hash, each.score, data))
            tally(*kind, found, expected)
            assert [each[:4] for each in found] == [each[:4] for each in expected], entry
            assert found == expected, entry
            assert report.entries[number].error_code == wanted.error
