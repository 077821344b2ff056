"""Real playlists: every frame is the one of a full decode of all segments.

The truth is made without our code: FFmpeg decodes all segments of a run from its start, through PyAV.
"""

import hashlib
import io
import itertools
import random
from contextlib import closing
from fractions import Fraction
from functools import cache

import av
import pytest

from tests.formats import tally
from tests.pictures import MEDIA
from tests.playlists import Reading, at, captured
from worker.errors import Code, TaskError
from worker.media.joined import JoinedReader
from worker.media.plan import Limits
from worker.media.runs import runs_of
from worker.media.segments import LENGTH_BYTES, SLOT_BYTES, read_table

REAL = MEDIA / "hls"


def digest(frame):
    return hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()


def decoded(file):
    """All frames from the start, as (seconds, digest), each run's after the end of the run before; and the end."""
    frames, offset = [], Fraction(0)
    for _, run in itertools.groupby(read_table(file), lambda segment: segment.run):
        data, init_slot = b"", 0
        for segment in run:
            for slot in {segment.init_slot, segment.slot} - {init_slot, 0} if segment.init_slot else {segment.slot}:
                file.seek(slot * SLOT_BYTES)
                data += file.read(int.from_bytes(file.read(LENGTH_BYTES)))
            init_slot = segment.init_slot
        with av.open(io.BytesIO(data)) as container:
            found = [
                (frame.pts * frame.time_base, frame.duration, digest(frame)) for frame in container.decode(video=0)
            ]
            stream = container.streams.video[0]
            duration = found[-1][1] * stream.time_base or 1 / stream.guessed_rate
        frames += [(offset + time - found[0][0], sha) for time, _, sha in found]
        offset += found[-1][0] - found[0][0] + duration
    return frames, offset


def shown(frames, time):
    return [sha for start, sha in frames if start <= max(time + Fraction(1, 1000), 0)][-1]


FOLDERS = {
    "hls_plain_ts_bbb_trailer/hls.m3u8": 812,
    "hls_rollover_ts/playlist.m3u8": 480,
    "hls_fmp4/playlist.m3u8": 30,
    "hls_cmaf_audio_rendition/playlist.m3u8": 90,
    "hls_byterange_bipbop/master.m3u8": 1794,
    "hls_byterange_single/manifest.m3u8": 58,
    "hls_multivideo_red_green_blue/master.m3u8": 120,
    "hls_timestamp_jump/index.m3u8": 205,
}


@cache
def truth(key):
    with Reading(REAL.parent, key) as file:
        return decoded(file)


def real(key, what, found, wanted):
    """Assert that all frames are the wanted ones, and count them for `docs/formats.md`."""
    tally("hls", "h264", f"{what}, real files", found, wanted)
    assert found == wanted, key


@pytest.mark.parametrize("key", FOLDERS)
def test_real_playlists_give_the_frames_of_a_full_decode_at_random_times(key):
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there")
    frames, end = truth(key)
    assert len(frames) == FOLDERS[key]
    chance = random.Random(key)
    for _ in range(6):
        times = sorted(Fraction(chance.randint(0, int(end * 1000)), 1000) for _ in range(chance.choice((1, 2, 6))))
        with Reading(REAL.parent, key) as file:
            parts = runs_of(file, Limits(), segmented=file.segmented)
            with parts[0].open() as media, closing(JoinedReader(parts, media)) as reader:
                found = [digest(reader.at(time).frame) for time in times]
        real(key, "frames at random times", found, [shown(frames, time) for time in times])


@pytest.mark.parametrize("key", FOLDERS)
def test_real_playlists_give_every_frame_in_order(key):
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there")
    frames, end = truth(key)
    with Reading(REAL.parent, key) as file:
        parts = runs_of(file, Limits(), segmented=file.segmented)
        with parts[0].open() as media, closing(JoinedReader(parts, media)) as reader:
            shot = reader.at(Fraction(0))
            found = [(shot.time_s, digest(shot.frame))]
            while (shot := reader.following()) is not None:
                found.append((shot.time_s, digest(shot.frame)))
            assert reader.current().end_s == end
    real(key, "every frame in turn", found, frames)


def test_audio_without_a_picture_is_not_found():
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there")
    with Reading(REAL.parent, "hls_audio_only_aac/manifest.m3u8") as file, pytest.raises(TaskError) as caught:
        captured(file, at(0))
    assert caught.value.code == Code.RESOURCE_NOT_FOUND
    assert "no video stream and no embedded picture" in caught.value.message
