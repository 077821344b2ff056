"""How a stream's pictures are meant to be shown, by what its container says beside the codec's own headers.

Knows FFmpeg's streams; knows nothing of packets, times and pixels.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, cast

import av.logging
from av.codec.context import CodecContext
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from worker.errors import Code, TaskError
from worker.media.geometry import Margins

# FFmpeg's own decoders of these do not read the second picture that holds the transparency in WebM and Matroska.
_WITH_ALPHA: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_DOLBY: Final = re.compile(
    r"^ +DOVI configuration record: .*\bprofile: (\d+), .*\bcompatibility id: (\d+)", re.MULTILINE
)
_CROPPING: Final = re.compile(r"^ +Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Presentation:
    """The margins that are not to be shown, and the width of a pixel by its height.

    `aspect` is the container's word, else the codec's; `coded_aspect` the codec's at the stream's start, 0 for none.
    """

    margins: Margins
    aspect: Fraction
    coded_aspect: Fraction

    def aspect_of(self, coded: Fraction) -> Fraction:
        """Give the aspect of a frame of which the codec says `coded`, 0 for nothing.

        A change on the way, such as from 4:3 to 16:9 in a broadcast, counts for more than what the container says.
        """
        changed = self.coded_aspect > 0 and coded > 0 and coded != self.coded_aspect
        return coded if changed else self.aspect


def presentation(container: InputContainer, stream: VideoStream) -> Presentation:
    """Read how a stream's pictures are to be shown. Raises `UnsupportedMedia` for Dolby Vision without a base layer."""
    told = _side_data(container, stream)
    dolby = _DOLBY.search(told)
    if dolby and (dolby[1] == "5" or (dolby[1], dolby[2]) in {("10", "0"), ("20", "0")}):
        raise TaskError(
            Code.UNSUPPORTED_MEDIA,
            f"the video is Dolby Vision of profile {dolby[1]} with no base layer that others can show: its colours "
            "(IPT, reshaped frame by frame) are not supported; profiles 7, 8 and 9, HDR10 and HLG are",
        )
    margins = _CROPPING.search(told)
    return Presentation(
        Margins(*map(int, margins.groups())) if margins else Margins(),
        Fraction(stream.sample_aspect_ratio or 1),
        coded_aspect(stream.codec_context),
    )


def coded_aspect(context: VideoCodecContext) -> Fraction:
    """The pixel aspect of the codec's headers that were decoded last, 0 where they tell none."""
    return Fraction(context.sample_aspect_ratio or 0)


def decoder_for(stream: VideoStream) -> VideoCodecContext:
    """Give the decoder for a stream: its own, but for pictures with transparency one that can read it."""
    own = stream.codec_context
    name = _WITH_ALPHA.get(own.name) if stream.metadata.get("alpha_mode") == "1" else None
    return cast("VideoCodecContext", CodecContext.create(name, "r")) if name else own


def _side_data(container: InputContainer, stream: VideoStream) -> str:
    """Tell in FFmpeg's words what is known of a stream: PyAV does not give the side data of streams."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)  # PyAV takes the words from the log
    try:
        words = container.dumps_format()  # type: ignore[attr-defined]  # the stubs do not tell of it
    finally:
        av.logging.set_level(level)
    mine = re.split(r"^ +Stream #0:(\d+)", words, flags=re.MULTILINE)
    return next((text for index, text in zip(mine[1::2], mine[2::2], strict=True) if int(index) == stream.index), "")
