"""HLS playlists (RFC 8216) as text: what they name, and whether a task may read it. Does no I/O.

A playlist is hostile: its URIs are resolved here, never by a library, and must stay at or below the directory of the
playlist that the task names; its numbers must make sense. Knows no caches and no decoders.
"""

import math
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from posixpath import dirname
from typing import Any
from urllib.parse import unquote

from worker.errors import Code, TaskError
from worker.stores import MAX_KEY_BYTES
from worker.task import Location

MARK = b"#EXTM3U"
MAX_BYTES = 4 * 2**20
MAX_LINE_BYTES = 2**14  # of those that matter; the library takes 140 times as much memory for one
MAX_SEGMENTS = 50_000  # and of any other tag, and of addresses
MAX_SEGMENT_S = 86_400
IV_BYTES = 16
MAX_TAG_BYTES = 32

# All that matters here. Of the others the library would refuse some that are merely odd, dates for instance.
_TAGS = frozenset({
    "#EXTINF", "#EXT-X-BYTERANGE", "#EXT-X-DISCONTINUITY", "#EXT-X-ENDLIST", "#EXT-X-GAP", "#EXT-X-I-FRAMES-ONLY",
    "#EXT-X-KEY", "#EXT-X-MAP", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-STREAM-INF",
})  # fmt: skip
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|/")


@dataclass(frozen=True, slots=True)
class Key:
    """Where an AES-128 key lies, and the initialisation vector to use it with."""

    location: Location
    iv: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an object, encrypted with `key` or not; `size` None means to the object's end."""

    location: Location
    offset: int
    size: int | None
    key: Key | None


@dataclass(frozen=True, slots=True)
class PlayedPiece:
    """A media segment: its bytes, those that come before it (`EXT-X-MAP`), and where it plays by `EXTINF`.

    Segments of one `run` have continuous timestamps.
    """

    media: Piece
    init: Piece | None
    run: int
    start_s: float
    duration_s: float


def read_playlist(data: bytes, playlist: Location, root: str) -> Location | tuple[PlayedPiece, ...]:
    """Read a playlist: of a master the best variant's location, of any other its segments.

    `root` is the directory that everything must lie in. Raises `AccessDenied`, `CorruptMedia`, `InvalidArgument`
    (a live stream), `LimitExceeded`, `UnsupportedMedia`.
    """
    import m3u8  # noqa: PLC0415 - takes long to import, and most sources are no playlists

    try:
        content = m3u8.parse("\n".join(_lines(data, playlist)), custom_tags_parser=_watch_tags)
        if content["playlists"]:
            return _resolved(_best_variant(content), playlist, root)
        return _Reading(content, playlist, root).segments()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, m3u8.ParseError) as error:
        message = f"{playlist}: the playlist is damaged ({type(error).__name__}: {error!s:.200})"
        raise TaskError(Code.CORRUPT_MEDIA, message) from error


def _lines(data: bytes, playlist: Location) -> Iterator[str]:
    """Yield the lines that matter, as far as a bounded cost goes: the library takes its time for empty ones too."""
    counts: Counter[str] = Counter()
    for raw in BytesIO(data.removeprefix(BOM_UTF8).replace(b"\r", b"\n")):
        text = raw.lstrip()
        tag = text[:MAX_TAG_BYTES].split(b":", 1)[0].rstrip().decode(errors="replace") if text[:1] == b"#" else ""
        if not text or (tag and tag not in _TAGS):
            continue
        if len(text) > MAX_LINE_BYTES:
            message = f"{playlist}: the playlist has a line of {len(text)} bytes; at most {MAX_LINE_BYTES} are allowed"
            raise TaskError(Code.LIMIT_EXCEEDED, message)
        counts[tag] += 1
        if counts[tag] > MAX_SEGMENTS:
            what = "segments" if tag == "#EXTINF" else tag or "addresses"
            raise TaskError(Code.LIMIT_EXCEEDED, f"{playlist}: the playlist has more than {MAX_SEGMENTS} {what}")
        line = text.decode().strip()
        yield from line.splitlines()[:1]  # the library ends lines at characters too that a title may have


def _watch_tags(line: str, _number: int, data: dict[str, Any], state: dict[str, Any]) -> bool:
    """Note the key that holds for each `EXT-X-MAP`, which the library forgets; tells it to go on with the line."""
    tag = line.split(":", 1)[0]
    if tag == "#EXT-X-KEY":
        data["keys"].clear()  # the library searches them at each key, which a long list makes take minutes
    elif tag == "#EXT-X-MAP":
        data.setdefault("map_keys", []).append(state["current_key"])
    return False


def _best_variant(content: dict[str, Any]) -> str:
    """Choose the variant of the highest bandwidth, among those with the same the first."""
    best = max(content["playlists"], key=lambda variant: variant["stream_info"].get("bandwidth", 0))
    return str(best["uri"])


def _resolved(uri: str, playlist: Location, root: str) -> Location:
    """Find the object that a playlist means by `uri`. Raises `AccessDenied` unless it lies in `root`."""
    where = f"{playlist}: the playlist names {uri[:300]!r}"
    if _ABSOLUTE.match(uri):
        message = f"{where}, an absolute address; segments and keys are relative to the playlist"
        raise TaskError(Code.ACCESS_DENIED, message)
    path = [part for part in dirname(playlist.key).split("/") if part]
    for part in unquote(re.split("[?#]", uri, maxsplit=1)[0], errors="strict").split("/"):
        if part == ".." and path:
            path.pop()
        elif part == "..":
            raise TaskError(Code.ACCESS_DENIED, f"{where}, outside of {playlist.bucket}/{root}")
        elif part != ".":
            path.append(part)
    key = "/".join(path)
    if root and not key.startswith(f"{root}/"):
        raise TaskError(Code.ACCESS_DENIED, f"{where}, outside of {playlist.bucket}/{root}")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise TaskError(Code.INVALID_ARGUMENT, f"{where} …, a key of more than {MAX_KEY_BYTES} bytes")
    return Location(playlist.scheme, playlist.bucket, key)


class _Reading:
    """One media playlist on its way from the library's dictionaries to segments."""

    def __init__(self, content: dict[str, Any], playlist: Location, root: str) -> None:
        self._content = content
        self._playlist = playlist
        self._root = root
        self._map_keys = {
            id(section): key for section, key in zip(content["segment_map"], content.get("map_keys", ()), strict=True)
        }
        self._pieces: dict[int, Piece] = {}

    def segments(self) -> tuple[PlayedPiece, ...]:
        """Make all segments, in order."""
        self._check_kind()
        found = tuple(self._played())
        if not found:
            raise TaskError(Code.CORRUPT_MEDIA, f"{self._playlist}: the playlist has no segments")
        return found

    def _check_kind(self) -> None:
        if not any("uri" in segment for segment in self._content["segments"]):
            return
        if not self._content["is_endlist"]:
            message = "the playlist is live: it has no #EXT-X-ENDLIST; only finished streams are captured"
            raise TaskError(Code.INVALID_ARGUMENT, f"{self._playlist}: {message}")
        if self._content["is_i_frames_only"]:
            message = "the playlist is for fast winding (#EXT-X-I-FRAMES-ONLY); name the ordinary one"
            raise TaskError(Code.UNSUPPORTED_MEDIA, f"{self._playlist}: {message}")

    def _played(self) -> Iterator[PlayedPiece]:
        run, start_s = 0, 0.0
        before: Piece | None = None
        last: PlayedPiece | None = None
        named = [segment for segment in self._content["segments"] if "uri" in segment]
        for number, segment in enumerate(named, start=self._content["media_sequence"]):
            duration_s = self._duration_s(segment)
            init = self._init(segment)
            if last is not None and (segment["discontinuity"] or init != last.init):
                run += 1
            piece = self._piece(segment["uri"], segment.get("byterange"), before, self._key(segment.get("key"), number))
            before = piece
            if not segment.get("gap_tag"):
                last = PlayedPiece(piece, init, run, start_s, duration_s)
                yield last
            start_s += duration_s

    def _duration_s(self, segment: dict[str, Any]) -> float:
        duration_s = segment["duration"]
        if not 0 <= duration_s <= MAX_SEGMENT_S or not math.isfinite(duration_s):
            raise ValueError(f"a segment of {duration_s} s; it has 0 to {MAX_SEGMENT_S}")
        return float(duration_s)

    def _init(self, segment: dict[str, Any]) -> Piece | None:
        section = segment.get("init_section")
        if not section:
            return None
        if id(section) not in self._pieces:
            key = self._key(self._map_keys[id(section)], None)
            span = section.get("byterange")
            self._pieces[id(section)] = self._piece(section["uri"], span, None, key)
        return self._pieces[id(section)]

    def _piece(self, uri: str, span: str | None, before: Piece | None, key: Key | None) -> Piece:
        """Make a piece from `EXT-X-BYTERANGE`'s `size[@offset]`; without an offset it follows the piece before it."""
        location = _resolved(uri, self._playlist, self._root)
        if span is None:
            return Piece(location, 0, None, key)
        size, _, offset = span.partition("@")
        start = int(offset) if offset else self._end(before, location)
        if not 0 < int(size) < 2**40 or not 0 <= start < 2**40:
            raise ValueError(f"the byte range {span!r:.80}")
        return Piece(location, start, int(size), key)

    def _end(self, before: Piece | None, location: Location) -> int:
        if before is None:
            return 0
        if before.location != location or before.size is None:
            raise ValueError(f"a byte range of {location} without an offset that follows none of the same object")
        return before.offset + before.size

    def _key(self, tag: dict[str, str] | None, number: int | None) -> Key | None:
        """Make the key that a tag tells; without a vector of its own the segment's `number` is taken."""
        method = tag["method"] if tag else "NONE"
        if not tag or method == "NONE":
            return None
        form = tag.get("keyformat", "identity")
        if method != "AES-128" or form != "identity":
            message = f"encryption by {method!r:.80} ({form:.80}) is not supported, only AES-128 with a plain key"
            raise TaskError(Code.UNSUPPORTED_MEDIA, f"{self._playlist}: {message}")
        if "iv" not in tag and number is None:
            raise ValueError("an encrypted #EXT-X-MAP whose key has no IV")
        vector = int(tag["iv"], 16) if "iv" in tag else number
        return Key(_resolved(tag["uri"], self._playlist, self._root), int(vector or 0).to_bytes(IV_BYTES))
