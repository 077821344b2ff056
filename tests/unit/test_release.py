"""The bundled FFmpeg has to be new enough, and says so where it is not."""

import io

import av
import pytest

from worker.errors import Code, TaskError
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Rendition, Selection
from worker.media.release import _LIBRARIES, check_ffmpeg
from worker.service import serve
from worker.settings import Settings

NEWER = {name: (major + 1, 0, 100) for name, (major, _, _) in _LIBRARIES.items()}


def test_the_pinned_one_is():
    check_ffmpeg()


@pytest.mark.parametrize("version", ["8.1.2", "n8.1.2", "8.1.3-1~deb13u1", "8.1.10", "8.2", "9.0", "n10.0.1"])
def test_newer_ones_are(monkeypatch, version):
    monkeypatch.setattr(av, "ffmpeg_version_info", version)
    check_ffmpeg()


@pytest.mark.parametrize("version", ["8.1.1", "8.1", "8.0.9", "n7.1.5", "5.1.10-0+deb12u1"])
def test_older_ones_are_not(monkeypatch, version):
    monkeypatch.setattr(av, "ffmpeg_version_info", version)
    expected = f"the FFmpeg that PyAV {av.__version__} brings is {version}; hostile files need at least 8.1.2"
    with pytest.raises(TaskError) as caught:
        check_ffmpeg()
    assert expected in caught.value.message
    assert (caught.value.code, caught.value.retryable) == (Code.INTERNAL_ERROR, False)


def test_of_a_build_without_a_number_the_libraries_are_asked(monkeypatch):
    monkeypatch.setattr(av, "ffmpeg_version_info", "N-120000-g0123456789")
    check_ffmpeg()
    monkeypatch.setattr(av, "library_versions", NEWER)
    check_ffmpeg()


@pytest.mark.parametrize("name", _LIBRARIES)
def test_one_older_library_is_enough(monkeypatch, name):
    major, minor, micro = _LIBRARIES[name]
    monkeypatch.setattr(av, "library_versions", _LIBRARIES | {name: (major, minor, micro - 1)})
    with pytest.raises(TaskError, match=rf"\({name} {major}\.{minor}\.{micro - 1}\)"):
        check_ffmpeg()


async def test_a_worker_does_not_start_with_an_older_one(monkeypatch, caplog):
    monkeypatch.setattr(av, "ffmpeg_version_info", "8.0.1")
    assert await serve(Settings()) == 1
    assert "brings is 8.0.1" in why(caplog)


def why(caplog):
    (record,) = [record for record in caplog.records if record.message == "giving up"]
    return record.fields["error"]


def test_a_capture_does_not_begin_with_an_older_one(monkeypatch):
    monkeypatch.setattr(av, "ffmpeg_version_info", "8.0.1")
    plan = CapturePlan((EntryPlan(Selection(number=1), Rendition()),))
    with pytest.raises(TaskError, match=r"brings is 8\.0\.1"):
        list(capture(io.BytesIO(b"never read"), plan))


async def test_a_worker_does_not_start_with_a_codec_that_there_is_not(caplog):
    assert await serve(Settings(limits={"codecs": ["h246"]})) == 1
    assert "LIMITS__CODECS names h246" in why(caplog)
