"""Frames decoded against the fewest that a request forces one to decode, counted independently (`bench.minimum`)."""

import av
import pytest

from bench.limits import REQUESTS, SLACK, VIDEOS, make, measure
from bench.minimum import needed, read, wanted
from tests.naive import digest


@pytest.fixture(scope="module", params=VIDEOS)
def video(request, tmp_path_factory):
    path = make(tmp_path_factory.mktemp("video") / "video.mp4", VIDEOS[request.param])
    return path, read(path)


@pytest.mark.parametrize("name", REQUESTS)
def test_hardly_more_is_decoded_than_has_to_be(video, name):
    path, coded = video
    found = measure(path, coded, REQUESTS[name])
    assert found.decoded >= found.fewest, "fewer than possible: what was decoded in vain is not counted"
    assert found.decoded <= SLACK * found.fewest


def test_the_fewest_frames_are_enough(video):
    path, coded = video
    full = decode(path, coded, range(len(coded.pictures)))
    for name, selections in REQUESTS.items():
        places = set().union(*(wanted(coded, selection) for selection in selections))
        found = decode(path, coded, needed(coded, places))
        for place in places:
            pts = coded.pictures[place].pts
            assert found[pts] == full[pts], name


def decode(path, coded, places):
    """Decode only the packets at some places, anew where referenced ones are left out; digests by pts."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count = 1
        packets = (packet for packet in container.demux(stream) if packet.size)
        frames, whole = [], True
        for place, (packet, picture) in enumerate(zip(packets, coded.pictures, strict=True)):
            if place not in places:
                whole &= not picture.referenced
                continue
            if picture.start and not whole:
                frames += context.decode(None)
                context.flush_buffers()
                whole = True
            frames += context.decode(packet)
        frames += context.decode(None)
        return {frame.pts: digest(frame) for frame in frames}
