"""The stream of bytes from a segment on, with what comes before it."""

import io

import pytest

from worker.media.segments import LENGTH_BYTES, Segment, SegmentStream


def virtual(*slots):
    file = io.BytesIO()
    for number, data in enumerate(slots):
        file.seek(number * 1000)
        file.write(len(data).to_bytes(LENGTH_BYTES) + data)
    return file


@pytest.mark.parametrize(
    ("place", "expected"), [(0, b"IJaaabbKc"), (1, b"IJbbKc"), (2, b"Kc")], ids=["first", "second", "third"]
)
def test_a_stream_starts_at_any_segment_with_what_comes_before_it(monkeypatch, place, expected):
    monkeypatch.setattr("worker.media.segments.SLOT_BYTES", 1000)
    file = virtual(b"", b"IJ", b"aaa", b"", b"bb", b"K", b"c")
    rows = [Segment(2, 1, 0, 0, 1), Segment(4, 1, 0, 1, 1), Segment(6, 5, 0, 2, 1)]
    stream = SegmentStream(file, rows, place)
    assert b"".join(iter(lambda: stream.read(2), b"")) == expected
    assert stream.place == 2
    assert stream.seek(0) == 0
    assert stream.place == place
    assert expected.startswith(stream.read(100))
    with pytest.raises(io.UnsupportedOperation):
        stream.seek(0, io.SEEK_END)
    assert not stream.seekable()


def test_streams_of_one_file_do_not_disturb_each_other(monkeypatch):
    monkeypatch.setattr("worker.media.segments.SLOT_BYTES", 1000)
    file = virtual(b"", b"abcdef", b"uvwxyz")
    rows = [Segment(1, 0, 0, 0, 1), Segment(2, 0, 0, 1, 1)]
    one, other = SegmentStream(file, rows, 0), SegmentStream(file, rows, 1)
    assert [one.read(2), other.read(3), one.read(2), other.read(3), one.read(9), one.read(9)] == [
        b"ab", b"uvw", b"cd", b"xyz", b"ef", b"uvwxyz",
    ]  # fmt: skip
