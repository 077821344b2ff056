"""What to capture from one source: the selections, their renditions, and the limits that hold meanwhile.

Plain frozen values, made from a validated message and sent to a decoder process.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from worker.errors import Code


class Mode(StrEnum):
    """How an entry chooses its frames (specification, section 3)."""

    INTERVAL = "interval"
    AVERAGE = "average"
    KEYFRAME = "keyframe"
    DHASH = "dhash"


class Format(StrEnum):
    """The image formats; the value is the file extension that `{autoext}` gives."""

    JPG = "jpg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"

    @property
    def content_type(self) -> str:
        """The MIME type that images of this format are stored with."""
        return "image/jpeg" if self is Format.JPG else f"image/{self.value}"


class ScaleType(StrEnum):
    """How a frame is fitted to the wanted width and height (specification, section 4)."""

    STRETCH = "stretch"
    CROP = "crop"
    FILL = "fill"
    FIT = "fit"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames: times in exact seconds on the trimmed timeline; `number` 0 means until the end."""

    mode: Mode = Mode.INTERVAL
    start_s: Fraction = Fraction(0)
    interval_s: Fraction = Fraction(0)
    number: int = 0
    threshold: int = 0


@dataclass(frozen=True, slots=True)
class Rendition:
    """What the image looks like. An `int` size is pixels, a `Fraction` a share of the upright picture's."""

    format: Format = Format.JPG
    width: int | Fraction | None = None
    height: int | Fraction | None = None
    scale_type: ScaleType = ScaleType.STRETCH
    quality: int = 90


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """One `Snapshots` entry. `last_only`: all its frames share one key, so only the last is worth encoding."""

    selection: Selection
    rendition: Rendition
    last_only: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one source may cost; reaching one raises `LimitExceeded` with its name and value.

    `codecs` are those that may be decoded, all where it is empty.
    """

    max_frames_per_entry: int = 10_000
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    max_streams: int = 128
    max_decoded_frames: int = 1_000_000
    max_image_bytes: int = 64 * 2**20
    max_opening_bytes: int = 128 * 2**20
    max_allocation_bytes: int = 512 * 2**20
    codecs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What one of several captures that share a plan does: the frames wanted in `[start_s, end_s)`, in seconds from

    the video's first frame; `end_s` None means to the end. `video_end_s` is where the video ends, where that is known
    beforehand. What only all parts together can tell is left to `worker.media.parts`.
    """

    start_s: Fraction = Fraction(0)
    end_s: Fraction | None = None
    video_end_s: Fraction | None = None

    @property
    def is_whole(self) -> bool:
        """Whether this is everything."""
        return not self.start_s and self.end_s is None


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """All entries of one source. The trimmed part `[trim_start_s, trim_start_s + trim_duration_s)` is the timeline

    that the entries' times count on; `trim_duration_s` 0 means to the end. `segmented`: the source's bytes are laid
    out as `worker.media.segments` tells. With `may_split`, much work is cut into parts: the capture then first tells
    the `Cuts`, and goes on with the part before the first.
    """

    entries: tuple[EntryPlan, ...]
    trim_start_s: Fraction = Fraction(0)
    trim_duration_s: Fraction = Fraction(0)
    limits: Limits = field(default_factory=Limits)
    segmented: bool = False
    may_split: bool = False
    part: Part = field(default_factory=Part)


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where one part ends and the next starts, in growing seconds from the video's first frame."""

    times_s: tuple[Fraction, ...]
    video_end_s: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Warn:
    """Something the user should know about a result that is good all the same."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Image:
    """One encoded frame. `index` counts from 1 in time order within its entry; `time_s` is where the frame starts

    on the trimmed timeline, in exact seconds; `source_pts` counts in the stream's time base (-1 for a cover).
    `requested_s` is the grid time that asked for it. `dhash` has 64 bits; `score` is a percentage of them.
    """

    entry: int
    index: int
    time_s: Fraction
    requested_s: Fraction
    source_pts: int
    key_frame: bool
    width: int
    height: int
    data: bytes
    sha256: str
    dhash: int | None = None
    score: Fraction | None = None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is, from 0 to 1."""

    fraction: float


@dataclass(frozen=True, slots=True)
class EntryReport:
    """How one entry ended. `requested`: how many frames it asked for (0: as many as there are).

    `error_code` is a `Code`, or empty when it succeeded; another raises `ValueError`. `last_dhash` is the hash of the
    last sample, which the next part's first is compared with.
    """

    count: int
    requested: int
    warnings: tuple[Warn, ...] = ()
    error_code: str = ""
    error_message: str = ""
    last_dhash: int | None = None

    def __post_init__(self) -> None:
        if self.error_code:
            Code(self.error_code)


@dataclass(frozen=True, slots=True)
class Report:
    """The facts of one capture, for logs and metrics: what was opened and what it cost.

    `stage_s` has wall seconds for `probe`, `decode` (with seeking and demuxing) and `encode` (with conversion).
    `damaged` counts packets and frames that were skipped.
    """

    entries: tuple[EntryReport, ...]
    container: str
    codec: str
    width: int
    height: int
    frames_decoded: int
    packets_read: int
    seeks: int
    stage_s: dict[str, float]
    damaged: int = 0


CaptureEvent = Image | Progress | Report
PartEvent = CaptureEvent | Cuts
