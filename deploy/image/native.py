"""Asks the shared libraries that wheels bring along which version they are.

Owns the names of the C functions and variables that tell it. Of a library that has none, only the file is known: the
number in its name is that of its interface. Runs in the image's build, with the packages that it asks installed.
"""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

# `auditwheel` puts a hash between a library's name and its suffix, sometimes twice.
FILE_NAME = re.compile(r"(?P<name>lib[\w+.-]+?)(?:-[0-9a-f]{8})*-?\.so(?:\.[\d.]+)?$")


def native(path: Path) -> tuple[str, str] | None:
    """Tell the project and the version of the library at `path`; None if it does not tell.

    Raises `SystemExit` where the file is not named as auditwheel names libraries.
    """
    parts = FILE_NAME.match(path.name)
    if parts is None:
        raise SystemExit(f"{path}: expected a library's file name, as libname-01234567.so.1.2.3")
    if parts["name"] not in PROJECTS:
        return None
    project, ask = PROJECTS[parts["name"]]
    return project, ask(ctypes.CDLL(str(path)))


def ffmpeg() -> tuple[str, str]:
    """Tell FFmpeg's version and how it was configured, as PyAV has it."""
    import av  # noqa: PLC0415 - only where it is installed

    (path,) = (Path(av.__file__).parents[1] / "av.libs").glob("libavutil-*")
    library = ctypes.CDLL(str(path))
    return av.ffmpeg_version_info, _text("avutil_configuration")(library)


def _text(function: str, *arguments: object) -> Callable[[ctypes.CDLL], str]:
    def ask(library: ctypes.CDLL) -> str:
        call = library[function]
        call.restype = ctypes.c_char_p
        return _number(call(*arguments).decode())

    return ask


def _variable(name: str) -> Callable[[ctypes.CDLL], str]:
    return lambda library: _number((ctypes.c_char_p.in_dll(library, name).value or b"").decode())


def _packed(function: str) -> Callable[[ctypes.CDLL], str]:
    """Read a version that is a number with a byte for each part, the first one highest."""
    return lambda library: ".".join(str(each) for each in library[function]().to_bytes(3, "big"))


def _nettle(library: ctypes.CDLL) -> str:
    return f"{library.nettle_version_major()}.{library.nettle_version_minor()}"


def _unistring(library: ctypes.CDLL) -> str:
    return ".".join(
        str(each) for each in ctypes.c_int.in_dll(library, "_libunistring_version").value.to_bytes(3, "big")
    )


def _av(function: str) -> Callable[[ctypes.CDLL], str]:
    """Read the version of one of FFmpeg's libraries: 16, 8 and 8 bits."""

    def ask(library: ctypes.CDLL) -> str:
        packed = library[function]()
        return f"{packed >> 16}.{packed >> 8 & 255}.{packed & 255}"

    return ask


def _x264(library: ctypes.CDLL) -> str:
    """Find the number of x264's build, the only version it has, in the name of its main function."""
    found = [build for build in range(100, 1000) if hasattr(library, f"x264_encoder_open_{build}")]
    if len(found) != 1:
        raise SystemExit(f"x264 has the functions x264_encoder_open_{found}: expected one, which tells the build")
    return str(found[0])


def _number(text: str) -> str:
    """Find the version in what a library says of itself, such as `libopus 1.6.1` or `v1.16.0`."""
    found = re.search(r"\d+(\.\d+)+\S*", text)
    return found[0] if found else text


# By the name of the file: whose it is, and who to ask.
PROJECTS: dict[str, tuple[str, Callable[[ctypes.CDLL], str]]] = {
    **{
        f"lib{name}": (f"lib{name}", _av(f"{name}_version"))
        for name in ("avcodec", "avdevice", "avfilter", "avformat", "avutil", "swresample", "swscale")
    },
    "libSvtAv1Enc": ("svt-av1", _text("svt_av1_get_version")),
    "libasound": ("alsa-lib", _text("snd_asoundlib_version")),
    "libdav1d": ("dav1d", _text("dav1d_version")),
    "libgmp": ("gmp", _variable("__gmp_version")),
    "libgnutls": ("gnutls", _text("gnutls_check_version", None)),
    "libmp3lame": ("lame", _text("get_lame_version")),
    "libnettle": ("nettle", _nettle),
    "libopus": ("opus", _text("opus_get_version_string")),
    "libscipy_openblas64_": ("openblas", _text("scipy_openblas_get_config64_")),
    "libsharpyuv": ("libsharpyuv", _packed("SharpYuvGetVersion")),
    "libunistring": ("libunistring", _unistring),
    "libvpx": ("libvpx", _text("vpx_codec_version_str")),
    "libwebp": ("libwebp", _packed("WebPGetDecoderVersion")),
    "libwebpmux": ("libwebp", _packed("WebPGetMuxVersion")),
    "libwebpdemux": ("libwebp", _packed("WebPGetDemuxVersion")),
    "libx264": ("x264", _x264),
    "libx265": ("x265", _variable("x265_version_str")),
}
