"""Which of FFmpeg's decoders may be used: the whitelist that FFmpeg gets, and what is told of a codec not on it."""

from __future__ import annotations

from functools import cache
from typing import Final

import av
from av.codec import Codec

from worker.errors import Code, TaskError
from worker.media.plan import Limits

_HARDWARE: Final = 1 << 18 | 1 << 19  # AV_CODEC_CAP_HARDWARE and _HYBRID: they would ask for a device
_NO_FILES: Final = frozenset({"wrapped_avframe", "vnull"})  # no formats of files

# No audio is ever decoded for its own sake, but FFmpeg finds out by these what a stream is; without them it reads on.
_AUDIO: Final = (
    "aac,aac_latm,ac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_swf,alac,amrnb,amrwb,ape,cook,dca,eac3,flac,"
    "libopencore_amrnb,libopencore_amrwb,libopus,mlp,mp1float,mp2float,mp3,mp3float,nellymoser,opus,pcm_alaw,pcm_bluray,"
    "pcm_dvd,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,"
    "pcm_s32le,pcm_s8,pcm_u8,real_144,real_288,s302m,sipr,speex,truehd,vorbis,wmalossless,wmapro,wmav1,"
    "wmav2,wmavoice"
)


def whitelist(limits: Limits) -> str:
    """List the decoders that may be used as FFmpeg's option `codec_whitelist` wants it.

    It has to be given to containers, for what is decoded to find out what a stream is, and to each decoder.
    """
    return ",".join([*sorted(allowed_decoders(limits.codecs)), _AUDIO])


def check_codec(name: str, limits: Limits) -> None:
    """Raise `UnsupportedMedia` where the settings do not allow the decoder `name`."""
    if name not in allowed_decoders(limits.codecs):
        message = f"the codec {name} is not among those that the settings allow (LIMITS__CODECS)"
        raise TaskError(Code.UNSUPPORTED_MEDIA, message)


@cache
def allowed_decoders(names: tuple[str, ...]) -> frozenset[str]:
    """List the decoders of the named codecs, or of all where none is named: video, in software.

    A name is that of a codec, which may have several decoders, or of one decoder. Raises `InternalError` for a name
    that FFmpeg does not have, since it would ignore it.
    """
    found = [Codec(name, "r") for name in av.codecs_available if _decodes(name)]
    videos = [codec for codec in found if codec.type == "video" and not codec.capabilities & _HARDWARE]
    known = {codec.name for codec in videos} | {codec.canonical_name for codec in videos}
    if unknown := set(names) - known:
        message = (
            f"LIMITS__CODECS names {', '.join(sorted(unknown))}, which this FFmpeg ({av.ffmpeg_version_info}) does not "
            "decode: a name is like h264, hevc, av1, vp9 or mpeg2video"
        )
        raise TaskError(Code.INTERNAL_ERROR, message)
    chosen = {codec.name for codec in videos if not names or {codec.name, codec.canonical_name} & set(names)}
    return frozenset(chosen - _NO_FILES)


def _decodes(name: str) -> bool:
    try:
        return bool(Codec(name, "r").is_decoder)
    except av.codec.codec.UnknownCodecError:
        return False
