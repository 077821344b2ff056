"""The files that mutations start from: made ones of all containers and most codecs, and the small shared ones."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from devkit.media import cover_mp3, cover_picture
from tests.streams import FAST, Stream, make

MEDIA = Path(__file__).parents[2].parent / "shared" / "media"
LARGEST_BYTES = 130_000
X264 = "keyint=8:bframes=2:threads=1:lookahead-threads=1:ref=2"
X265 = "keyint=8:bframes=2:pools=none:frame-threads=1:log-level=none"
CODED = {
    "libx264": ("mp4", "fmp4", "mkv", "ts", "flv", "mov", "avi", "h264"), "libx265": ("mp4", "ts", "mkv"),
    "mpeg4": ("mp4", "avi"), "mpeg2video": ("ts", "mpg"), "libvpx": ("webm",), "libvpx-vp9": ("webm", "mp4"),
    "libsvtav1": ("mp4", "mkv"), "mjpeg": ("avi", "mov"), "ffv1": ("mkv",), "prores_ks": ("mov",), "wmv2": ("asf",),
    "gif": ("gif",), "flv": ("flv",), "rv20": ("rm",), "h263": ("3gp",), "huffyuv": ("avi",),
}  # fmt: skip
PARAMETERS = {"libx264": {"x264-params": X264}, "libx265": {"x265-params": X265}}
NO_MEDIA = {".md", ".tsv", ".txt", ".json", ".vtt", ".mpd", ".key", ".aac"}


@dataclass(frozen=True)
class Seed:
    """A file that a task can name, with what lies beside it; only a playlist needs others. `files` are by name."""

    name: str
    entry: str
    files: dict[str, bytes]

    @property
    def is_playlist(self) -> bool:
        return self.entry.endswith(".m3u8")


def made(folder: Path, codecs: tuple[str, ...] = tuple(CODED)) -> list[Seed]:
    """Encode the made seeds into a folder."""
    return [*(_video(folder, codec, container) for codec in codecs for container in CODED[codec]), *_covers(folder)]


def _video(folder: Path, codec: str, container: str) -> Seed:
    options = FAST.get(codec, {}) | PARAMETERS.get(codec, {})
    reorders = 2 if codec in PARAMETERS and container != "avi" else 0
    if container == "avi" and codec == "libx264":
        options = options | {"x264-params": X264.replace("bframes=2", "bframes=0")}
    size = (176, 144) if codec == "h263" else (96, 64)
    recipe = Stream(
        codec, container, 8, reorders, tuple(options.items()), Fraction(1, 25), Fraction(25), (1,) * 24, 0, 0, size,
        interlaced=False,
    )  # fmt: skip
    place = folder / f"{codec}-{container}"
    place.mkdir(parents=True)
    path = make(recipe, place)
    return Seed(f"made/{codec}-{container}{path.suffix}", path.name, {path.name: path.read_bytes()})


def _covers(folder: Path) -> list[Seed]:
    seeds = []
    for kind in ("JPEG", "PNG"):
        path = folder / f"{kind}.mp3"
        cover_mp3(path, pictures=[cover_picture(size=48, file_format=kind)], seconds=1)
        seeds.append(Seed(f"made/cover-{kind.lower()}.mp3", path.name, {path.name: path.read_bytes()}))
    return seeds


def played(seeds: list[Seed]) -> list[Seed]:
    """Make playlists of made seeds: of whole files, of byte ranges of one, and a master of the first."""
    stream = next(each for each in seeds if each.name == "made/libx264-ts.ts")
    fragments = next(each for each in seeds if each.name == "made/libx264-fmp4.mp4")
    data, moving = stream.files[stream.entry], fragments.files[fragments.entry]
    half = len(data) // 188 // 2 * 188
    ends = "#EXT-X-ENDLIST\n"
    head = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
    media = f"{head}#EXTINF:0.96,\na.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:0.96,\nb.ts\n{ends}".encode()
    piece = "\n#EXTINF:0.48,\na.ts\n"
    ranges = f"{head}#EXT-X-BYTERANGE:{half}@0{piece}#EXT-X-BYTERANGE:{len(data) - half}{piece}{ends}"
    begin = moving.index(b"moof") - 4
    rest = f"#EXTINF:0.96,\n#EXT-X-BYTERANGE:{len(moving) - begin}@{begin}\na.mp4\n{ends}"
    mapped = f'{head}#EXT-X-MAP:URI="a.mp4",BYTERANGE="{begin}@0"\n{rest}'
    master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9000,RESOLUTION=96x64\nlow.m3u8\n"
    return [
        Seed("made/segments.m3u8", "x.m3u8", {"x.m3u8": media, "a.ts": data, "b.ts": data}),
        Seed("made/ranges.m3u8", "x.m3u8", {"x.m3u8": ranges.encode(), "a.ts": data}),
        Seed("made/mapped.m3u8", "x.m3u8", {"x.m3u8": mapped.encode(), "a.mp4": moving}),
        Seed("made/master.m3u8", "x.m3u8", {"x.m3u8": master.encode(), "low.m3u8": media, "a.ts": data, "b.ts": data}),
    ]


def shared() -> list[Seed]:
    """Find the small shared files; none where they are absent."""
    if not MEDIA.is_dir():
        return []
    files = sorted(path for path in MEDIA.rglob("*.*") if path.is_file() and 0 < path.stat().st_size <= LARGEST_BYTES)
    kept = [path for path in files if path.suffix not in NO_MEDIA and path.parts[-2] != "ground_truth"]
    alone = [path for path in kept if not {"hls", "ground_truth"} & set(path.relative_to(MEDIA).parts)]
    return [Seed(str(path.relative_to(MEDIA)), path.name, {path.name: path.read_bytes()}) for path in alone]


def all_seeds(folder: Path) -> list[Seed]:
    """Give all of them, always in the same order."""
    ours = made(folder)
    return [*ours, *played(ours), *shared()]
