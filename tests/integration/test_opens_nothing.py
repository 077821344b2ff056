"""Whatever a file names, FFmpeg opens nothing: no file is read, no byte is sent, with each of the fences alone too."""

import ctypes
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from tests.integration.lures import a_video, lures
from worker.adapters import seccomp
from worker.errors import Code, TaskError
from worker.media import codecs, container, opening
from worker.media.allocation import limit_allocations
from worker.media.capture import capture
from worker.media.container import Media
from worker.media.opening import FORMATS, open_container
from worker.media.plan import CapturePlan, EntryPlan, Limits, Rendition, Selection

HERE = Path(__file__).parents[2]
IN_OPEN, IN_NONBLOCK = 0x20, os.O_NONBLOCK
FEW = "HLS: segment by http", "HLS: segment of a file", "HLS: variant by http", "concat, relative"
MOV = "MOV with its media elsewhere"
trap = pytest.mark.skipif(os.uname().machine not in seccomp.MACHINES, reason="no filter is written for this processor")


class World:
    """A secret file that tells when it is opened, and ports that tell when somebody comes."""

    def __init__(self, folder):
        self.secret = folder / "secret.ts"
        self.secret.write_bytes(a_video("mpegts", "mpeg2video", frames=30))
        libc = ctypes.CDLL(None)
        self._watch = libc.inotify_init1(IN_NONBLOCK)
        assert libc.inotify_add_watch(self._watch, str(self.secret).encode(), IN_OPEN) > 0
        self.visits = 0
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._udp.setblocking(False)
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    @property
    def ports(self):
        return self._tcp.getsockname()[1], self._udp.getsockname()[1]

    def _receive(self):
        while True:
            visitor, _ = self._tcp.accept()
            with visitor:
                if visitor.recv(3) == b"end":
                    return
                self.visits += 1

    def openings(self):
        """Count how often the secret was opened since this was asked last."""
        try:
            return len(list(struct.iter_unpack("iIII", os.read(self._watch, 4096))))
        except BlockingIOError:
            return 0

    def close(self):
        with socket.create_connection(("127.0.0.1", self.ports[0])) as last:
            last.sendall(b"end")
        self._thread.join()
        with pytest.raises(BlockingIOError):
            self._udp.recv(1)
        self._tcp.close()
        self._udp.close()
        os.close(self._watch)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("lures"))
    yield world
    world.close()


def tried(world, ways, *free):
    ports = map(str, world.ports)
    command = [sys.executable, "-m", "tests.integration.trapped", str(world.secret), *ports, ways, *free]
    done = subprocess.run(command, check=False, cwd=HERE, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def trapped(world):
    return tried(world, "worker;worker, all formats;plain;formats only;protocols only")


@trap
def test_the_worker_does_not_even_try_to_open_what_a_file_names(trapped):
    found = {lure: ways["worker"] for lure, ways in trapped.items()}
    assert len(found) > 40
    assert found.pop("a good video") == "opened"
    assert found.pop(MOV) == "opened", "and the track that is elsewhere is left there"
    disguised = {lure: found.pop(lure) for lure in list(found) if "like MPEG-TS" in lure}
    assert {how.split(":")[1].strip() for how in found.values()} == {Code.UNSUPPORTED_MEDIA}
    assert {how.split(":")[1].strip() for how in disguised.values()} == {Code.CORRUPT_MEDIA}


@trap
def test_the_whitelist_of_formats_alone_stops_all_but_references_of_mov(trapped):
    found = {lure: ways["formats only"] for lure, ways in trapped.items() if lure != MOV}
    assert found.pop("a good video") == "opened"
    assert {how.split(":")[0] for how in found.values()} == {"ArgumentError", "InvalidDataError"}


@trap
def test_the_whitelist_of_protocols_alone_stops_all(trapped):
    assert not [ways["protocols only"] for ways in trapped.values() if ways["protocols only"].startswith("SIG")]
    assert trapped["a good video"]["protocols only"] == "opened"


@trap
def test_the_whitelist_of_protocols_that_the_worker_gives_is_one(trapped):
    found = {lure: ways["worker, all formats"] for lure, ways in trapped.items()}
    assert not [how for how in found.values() if how.startswith("SIG")]
    assert found["metadata like MPEG-TS"] == "opened", "with all formats allowed"


@trap
def test_without_them_the_lures_do_work(trapped):
    """So that the trap is one, and the lures are well made."""
    caught = {lure for lure, ways in trapped.items() if ways["plain"] == "SIGSYS"}
    assert caught >= {*FEW, MOV, "HLS: key by http", "HLS: head by http", "HLS: variant of a file", "SDP", "vobsub"}
    assert caught >= {"HLS like MPEG-TS: segment by http", "concat like MPEG-TS", "SDP like MPEG-TS"}


def test_nothing_is_read_and_nothing_is_sent(world, monkeypatch):
    monkeypatch.chdir(world.secret.parent)
    world.openings()
    before = world.visits
    plan = CapturePlan((EntryPlan(Selection(number=1), Rendition()),))
    for lure, data in lures(world.secret, *world.ports).items():
        with pytest.raises(TaskError) as caught:
            list(capture(io.BytesIO(data), plan))
        assert caught.value.code in {Code.UNSUPPORTED_MEDIA, Code.CORRUPT_MEDIA}, lure
    assert (world.openings(), world.visits - before) == (0, 0)


def test_a_file_and_a_port_do_tell_when_they_are_visited(world):
    world.openings()
    before = world.visits
    found = tried(world, "plain", "free")
    assert found["concat, relative"]["plain"] == found["HLS: segment of a file"]["plain"] == "opened"
    assert world.openings() > 0  # those that follow each other count as one
    assert world.visits - before > 2


# --- every option and list, since FFmpeg ignores what is mistyped


def test_all_listed_formats_are_there():
    assert [name for name in FORMATS.split(",") if not av.format.ContainerFormat(name, "r").is_input] == []


def test_all_listed_audio_decoders_are_there():
    assert [name for name in codecs._AUDIO.split(",") if av.Codec(name, "r").type != "audio"] == []


def test_decoders_are_all_of_video_in_software_or_those_of_the_named_codecs():
    everything = codecs.allowed_decoders(())
    assert everything > {"h264", "hevc", "libdav1d", "vp9", "magicyuv", "ffv1", "prores", "gif", "cinepak"}
    assert not everything & {"h264_cuvid", "h264_qsv", "hevc_v4l2m2m", "wrapped_avframe", "aac", "srt"}
    assert codecs.allowed_decoders(("av1", "libvpx-vp9", "h264")) == {"av1", "libdav1d", "libvpx-vp9", "h264"}
    with pytest.raises(TaskError, match=r"LIMITS__CODECS names h246, which this FFmpeg .* does not decode") as caught:
        codecs.allowed_decoders(("h246", "h264"))
    assert caught.value.code == Code.INTERNAL_ERROR


def captured(data, limits):
    plan = CapturePlan((EntryPlan(Selection(number=1), Rendition()),), limits=limits)
    return list(capture(io.BytesIO(data), plan))


def test_a_codec_that_is_not_allowed_is_refused_by_name():
    data = a_video("avi", "magicyuv")
    assert captured(data, Limits())[-1].codec == "magicyuv"
    with pytest.raises(TaskError, match=r"the codec magicyuv is not among those .* \(LIMITS__CODECS\)") as caught:
        captured(data, Limits(codecs=("h264", "mpeg4")))
    assert caught.value.code == Code.UNSUPPORTED_MEDIA


def test_ffmpeg_itself_decodes_no_codec_that_is_not_listed(monkeypatch):
    monkeypatch.setattr(container, "check_codec", lambda *_: None)
    data = a_video("avi", "magicyuv")
    with Media(io.BytesIO(data), Limits(codecs=("h264",))) as media, pytest.raises(av.error.ArgumentError):
        media.context.decode(media.read())
    with Media(io.BytesIO(data), Limits(codecs=("magicyuv",))) as media:
        assert media.context.decode(media.read())


def test_ffmpeg_itself_probes_no_codec_that_is_not_listed():
    data = a_video("avi", "magicyuv")
    with open_container(io.BytesIO(data), Limits(codecs=("h264",))) as refused:
        assert refused.streams.video[0].codec_context.pix_fmt is None
    with open_container(io.BytesIO(data), Limits()) as probed:
        assert probed.streams.video[0].codec_context.pix_fmt is not None


def test_ffmpeg_itself_keeps_the_limit_on_pixels(monkeypatch):
    monkeypatch.setattr(container, "check_size", lambda *_: None)
    data = a_video("matroska", "ffv1")
    with monkeypatch.context() as decoding:
        decoding.setattr(opening, "padded_pixels", lambda _: "100000000")
        with Media(io.BytesIO(data), Limits()) as media:
            assert media.context.decode(media.read())
        with Media(io.BytesIO(data), Limits(max_pixels=1000, max_side=1)) as media, pytest.raises(av.error.FFmpegError):
            media.context.decode(media.read())
    with open_container(io.BytesIO(data), Limits()) as probed:
        assert probed.streams.video[0].codec_context.pix_fmt is not None
    with open_container(io.BytesIO(data), Limits(max_pixels=1000, max_side=1)) as refused:
        assert refused.streams.video[0].codec_context.pix_fmt is None


def test_ffmpeg_itself_keeps_the_limit_on_streams():
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        streams = [file.add_stream("mpeg4", rate=25) for _ in range(3)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for stream in streams:
            frame = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")
            file.mux([*stream.encode(frame), *stream.encode(None)])
    assert captured(out.getvalue(), Limits(max_streams=3))
    with pytest.raises(TaskError, match="more streams") as caught:
        captured(out.getvalue(), Limits(max_streams=2))
    assert caught.value.code == Code.LIMIT_EXCEEDED


def test_ffmpeg_itself_keeps_the_limit_on_allocations():
    limits = Limits(max_allocation_bytes=2**20)
    try:
        with Media(io.BytesIO(a_video()), limits):
            assert av.VideoFrame(512, 512, "rgb24").width == 512
            with pytest.raises(MemoryError):
                av.VideoFrame(1024, 1024, "rgb24")
    finally:
        limit_allocations(Limits().max_allocation_bytes)
    assert av.VideoFrame(1024, 1024, "rgb24").width == 1024


class Generous(io.BytesIO):
    """Gives one byte more than it is asked for."""

    def read(self, size=-1):
        return super().read(size + 1)


def test_a_read_that_gives_more_than_was_asked_for_is_refused():
    file = Generous(a_video() + bytes(100_000))
    with pytest.raises(ValueError, match=r"a read of \d+ bytes gave \d+"):
        open_container(file, Limits())


def test_the_file_that_ffmpeg_gets_has_no_name():
    file = io.BytesIO(a_video())
    file.name = "x.m3u8"
    assert not hasattr(opening._Guarded(file), "name")
    with open_container(file, Limits()) as opened:
        assert opened.name == "<none>"
