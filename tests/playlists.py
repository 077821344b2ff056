"""HLS playlists for tests: made ones, whose frames say their number, and a source as the decoder has it."""

import asyncio
import io
import secrets
from fractions import Fraction

from PIL import Image as Picture

from devkit.counter import read_number
from devkit.media import counter_video
from worker.adapters.files import LocalStore
from worker.adapters.hls import open_source
from worker.media.capture import capture
from worker.media.plan import CapturePlan, EntryPlan, Format, Image, Mode, Rendition, Report, Selection
from worker.settings import MIB
from worker.task import Location

FPS = 25
SIZE = {"width": 320, "height": 180}
PART = 24 * FPS  # the frames of each playlist that `make` writes
PARTS = 4  # of the playlist `joined`


class Recorder(LocalStore):
    """A local store that notes which objects were asked for."""

    def __init__(self, root):
        super().__init__(root)
        self.keys = set()

    async def stat(self, location, head_bytes=0):
        self.keys.add(location.key)
        return await super().stat(location, head_bytes)

    async def read(self, location, offset, size, etag):
        self.keys.add(location.key)
        return await super().read(location, offset, size, etag)


class Reading(io.RawIOBase):
    """A source as the decoder has it, but in this process. A context manager."""

    def __init__(self, root, key):
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self.store = Recorder(root)
        self._opening = self._open(Location("file", "hls", key))
        self._position = 0

    async def _open(self, location):
        info = await self.store.stat(location)
        async with open_source(self.store, location, info, cache_bytes=64 * MIB, max_bytes=1024 * MIB) as opened:
            yield opened

    def __enter__(self):
        try:
            opened = self._loop.run_until_complete(anext(self._opening))
        except BaseException:
            self._loop.close()
            raise
        self.content, self.segmented = opened.content, opened.segmented
        return self

    def __exit__(self, *error):
        self._loop.run_until_complete(self._opening.aclose())
        self._loop.close()

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._position

    def seek(self, offset, whence=io.SEEK_SET):
        self._position = offset + (0, self._position, self.content.size)[whence]
        return self._position

    def readinto(self, buffer):
        size = max(min(len(buffer), self.content.size - self._position), 0)
        data = self._loop.run_until_complete(self.content.read(self._position, size)) if size else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    @property
    def segments(self):
        """The names of the media files that were asked for."""
        return sorted(key for key in self.store.keys if not key.endswith((".m3u8", ".key", ".mp4")))


def plan(*selections, segmented=True, **more):
    picture = Rendition(Format.PNG)
    return CapturePlan(tuple(EntryPlan(each, picture) for each in selections), segmented=segmented, **more)


def at(seconds):
    return Selection(Mode.INTERVAL, start_s=Fraction(seconds), number=1)


def grid(seconds, number=0, start=0):
    return Selection(Mode.INTERVAL, start_s=Fraction(start), interval_s=Fraction(seconds), number=number)


def number_of(image):
    return read_number(Picture.open(io.BytesIO(image.data)), size=(320, 180))


def captured(file, *selections, **more):
    """The frame numbers of all entries, and the report."""
    events = list(capture(file, plan(*selections, segmented=file.segmented, **more)))
    images = [event for event in events if isinstance(event, Image)]
    numbers = [[number_of(image) for image in images if image.entry == entry] for entry in range(len(selections))]
    assert isinstance(events[-1], Report)
    return numbers, events[-1]


def key_info(folder, iv=""):
    (folder / "k.key").write_bytes(secrets.token_bytes(16))
    (folder / "info").write_text(f"k.key\n{folder / 'k.key'}\n{iv}")
    return str(folder / "info")


KINDS = {
    "ts": lambda _: {},
    "fmp4": lambda _: {"hls_segment_type": "fmp4"},
    "one-file-ts": lambda _: {"hls_flags": "single_file"},
    "one-file-fmp4": lambda _: {"hls_flags": "single_file", "hls_segment_type": "fmp4"},
    "aes": lambda folder: {"hls_key_info_file": key_info(folder)},
    "aes-iv": lambda folder: {"hls_key_info_file": key_info(folder, "0123456789abcdef0123456789abcdef")},
}


OPEN_GOPS = "keyint=50:min-keyint=50:scenecut=0:bframes=3:b-adapt=0:b-pyramid=normal:ref=4:threads=1:open-gop=1"


def make(root, name, *, kind="ts", seconds=24, hls_time=2, bframes=2, gop=50, fps=FPS, codec="libx264", **more):
    """Write a playlist `hls/<name>/x.m3u8` of two-second segments."""
    folder = root / "hls" / name
    folder.mkdir(parents=True)
    options = {"hls_time": str(hls_time), "hls_list_size": "0", "hls_playlist_type": "vod"} | KINDS[kind](folder)
    return counter_video(
        folder / "x.m3u8", **SIZE, fps=fps, seconds=seconds, gop=gop, bframes=bframes, codec=codec,
        container_options=options, **more,
    )  # fmt: skip


def join(root, name, *parts):
    """Write `hls/<name>.m3u8`, the segments of several playlists with discontinuities between."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:2"]
    for number, part in enumerate(parts):
        lines += ["#EXT-X-DISCONTINUITY"] if number else []
        for line in (root / "hls" / part / "x.m3u8").read_text().splitlines():
            if line.startswith(("#EXTINF", "#EXT-X-MAP")) or not line.startswith("#"):
                lines.append(line.replace('URI="', f'URI="{part}/') if line.startswith("#") else f"{part}/{line}")
    (root / "hls" / f"{name}.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST"]))
