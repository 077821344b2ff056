"""Keyframes of Matroska files by their cues: the same as all packets give, or the cues are not believed."""

import hashlib
import io
from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.streams import Stream, make
from worker.media import timeline
from worker.media.container import Media
from worker.media.cues import are_complete
from worker.media.plan import Limits
from worker.media.timeline import key_packets

REAL = Path(__file__).parents[2].parent / "shared" / "media"
X264 = "keyint=12:min-keyint=3:bframes=3:threads=1:open-gop={}"
X265 = "keyint=12:min-keyint=3:bframes=3:pools=none:frame-threads=1:log-level=none:open-gop={}"
STEPS = (1,) * 120


def stream(codec="libx264", container="mkv", open_gop=0, *, start=0, steps=STEPS):
    name, params = ("x265-params", X265) if codec == "libx265" else ("x264-params", X264)
    options = (("deadline", "realtime"),) if codec == "libvpx-vp9" else (("preset", "ultrafast"),)
    options += () if codec == "libvpx-vp9" else ((name, params.format(open_gop)),)
    return Stream(
        codec, container, 12, 0 if codec == "libvpx-vp9" else 3, options, Fraction(1, 25), Fraction(25), steps, start,
        0, (96, 64), interlaced=False,
    )  # fmt: skip


VIDEOS = {
    "H.264": stream(),
    "H.264, open GOPs": stream(open_gop=1),
    "HEVC, open GOPs": stream("libx265", open_gop=1),
    "VP9": stream("libvpx-vp9", "webm"),
    "late start": stream(start=250),
    "gaps": stream(steps=tuple(1 + 40 * (number % 30 == 7) for number in range(90))),
}


@pytest.fixture(params=VIDEOS)
def data(request, tmp_path):
    return make(VIDEOS[request.param], tmp_path).read_bytes()


def keys(data, monkeypatch, *, by_cues, start_pts=None):
    """Times and contents of the keyframes' packets, and how many seeks it took."""
    monkeypatch.setattr(timeline, "SPARSE_BYTES", 0 if by_cues else 2**62)
    with Media(io.BytesIO(data), Limits()) as media:
        found = [(each.pts, hashlib.sha256(bytes(each)).digest()) for each in key_packets(media, start_pts)]
        return found, media.seeks


def test_cues_lead_to_the_keyframes_that_all_packets_give(data, monkeypatch):
    expected, _ = keys(data, monkeypatch, by_cues=False)
    found, seeks = keys(data, monkeypatch, by_cues=True)
    assert found == expected
    assert len(found) >= 3
    assert seeks > len(found)
    for start_pts, _ in expected:
        later, _ = keys(data, monkeypatch, by_cues=True, start_pts=start_pts)
        wanted = [each for each in expected if each[0] >= start_pts]
        assert [each for each in later if each[0] >= start_pts] == wanted


def test_where_a_cue_leads_nowhere_the_rest_is_read(monkeypatch, tmp_path):
    data = bytearray(make(VIDEOS["H.264"], tmp_path).read_bytes())
    whole, _ = keys(data, monkeypatch, by_cues=True)
    with av.open(io.BytesIO(data)) as container:
        video = container.streams.video[0]
        container.seek(0, stream=video)
        entry = video.index_entries[len(whole) // 2]
        position, lost = entry.pos, entry.timestamp
    data[position : position + 64] = bytes(64)
    expected, _ = keys(data, monkeypatch, by_cues=False)
    assert lost in {pts for pts, _ in whole} - {pts for pts, _ in expected}
    assert keys(data, monkeypatch, by_cues=True)[0] == expected
    assert whole[-1] in expected


def test_only_cues_of_a_known_muxer_are_believed_and_only_those_that_are_there(tmp_path):
    data = make(VIDEOS["H.264"], tmp_path).read_bytes()
    assert are_complete(io.BytesIO(data))
    assert data.count(b"Lavf") >= 1
    assert not are_complete(io.BytesIO(data.replace(b"Lavf", b"Chro")))
    assert not are_complete(io.BytesIO(data[: len(data) // 2]))
    assert not are_complete(io.BytesIO(data.replace(b"\x1c\x53\xbb\x6b", b"\x1c\x53\xbb\x6c")))


@given(st.data())
def test_whatever_a_head_says_it_is_read_to_an_answer(data):
    head = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67" + data.draw(st.binary(max_size=200))
    assert are_complete(io.BytesIO(head)) in (True, False)


@pytest.mark.parametrize("path", sorted(REAL.rglob("*.mkv")) + sorted(REAL.rglob("*.webm")), ids=lambda path: path.name)
def test_real_files_with_cues_that_are_believed_have_one_for_each_keyframe(path, monkeypatch):
    with path.open("rb") as file:
        if not are_complete(file) or path.parent.name == "broken":
            pytest.skip("its cues are not believed")
    data = path.read_bytes()
    expected, _ = keys(data, monkeypatch, by_cues=False)
    assert keys(data, monkeypatch, by_cues=True)[0] == expected


def test_the_shared_media_are_there():
    if not REAL.is_dir():
        pytest.skip(f"no folder {REAL.name} of shared media beside the checkout")
    assert list(REAL.rglob("*.mkv"))
