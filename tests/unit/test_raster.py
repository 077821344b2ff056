"""Pictures from frames made in numpy, against independent colour mathematics, and from real files."""

import struct
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph
from PIL import Image

from worker.media.fingerprint import dhash
from worker.media.plan import Format, Rendition, ScaleType
from worker.media.raster import Renderer
from worker.media.scaler import luma

MEDIA = Path(__file__).parents[2].parent / "shared" / "media"
real_files = pytest.mark.skipif(not MEDIA.is_dir(), reason=f"the shared media are not at {MEDIA}")
SQUARE = Fraction(1)
WEIGHTS = {5: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}


def frame_of(name, *planes, **tags):
    """A frame with these planes; a plane is an array of samples, interleaved ones with a last axis."""
    height, width = planes[0].shape[:2]
    frame = av.VideoFrame(width, height, name)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        data = np.ascontiguousarray(samples).reshape(samples.shape[0], -1)
        data = data.view(np.uint8)
        rows[:, : data.shape[1]] = data
        plane.update(rows.tobytes())
    for tag, value in tags.items():
        setattr(frame, tag, value)
    return frame


def render(frame, aspect=SQUARE, **rendition):
    pixels = Renderer(Rendition(**rendition)).render(frame, aspect)
    assert pixels.flags.c_contiguous
    assert pixels.dtype == np.uint8
    return pixels


def chart(subsampling, depth, *, full, seed=1):
    """Random flat patches of 16x16: the frame's planes, and each patch's (y, u, v)."""
    across, down = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}[subsampling]
    low, high = (0, (1 << depth) - 1) if full else (16 << (depth - 8), 235 << (depth - 8))
    patches = np.random.default_rng(seed).integers(low, high + 1, (3, 4, 12))
    dtype = np.uint8 if depth == 8 else np.uint16
    luma_plane = np.kron(patches[0], np.ones((16, 16), int)).astype(dtype)
    chroma = [np.kron(p, np.ones((16 // down, 16 // across), int)).astype(dtype) for p in patches[1:]]
    return [luma_plane, *chroma], patches


def rgb_of(patches, depth, matrix, *, full):
    """ITU-R BT.601, 709 and 2020 in double precision."""
    red, blue = WEIGHTS[matrix]
    scale = 1 << (depth - 8)
    luma_range, chroma_range = ((1 << depth) - 1,) * 2 if full else (219 * scale, 224 * scale)
    y = (patches[0] - (0 if full else 16 * scale)) / luma_range
    u, v = ((patches[i] - 128 * scale) / chroma_range for i in (1, 2))
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], -1), 0, 1) * 255


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("subsampling", ["420", "422", "444"])
def test_colours_are_within_two_levels_of_the_standards(subsampling, depth, full, matrix):
    planes, patches = chart(subsampling, depth, full=full)
    name = f"yuv{subsampling}p" + ("10le" if depth == 10 else "")
    frame = frame_of(name, *planes, colorspace=matrix, color_range=2 if full else 1)
    centres = render(frame, format=Format.PNG)[8::16, 8::16]
    assert np.abs(centres - rgb_of(patches, depth, matrix, full=full)).max() < 2


def test_untagged_frames_are_601_when_small_and_709_when_large():
    def patch(width, height):
        chroma = (height // 2, width // 2)
        return frame_of(
            "yuv420p",
            np.full((height, width), 63, np.uint8),
            np.full(chroma, 102, np.uint8),
            np.full(chroma, 240, np.uint8),
        )

    samples = np.array([63, 102, 240]).reshape(3, 1)
    for size, matrix in (((640, 480), 5), ((1280, 720), 1)):
        wanted = rgb_of(samples, 8, matrix, full=False)[0]
        assert np.abs(render(patch(*size))[5, 5] - wanted).max() < 2
    assert np.abs(render(patch(1280, 720))[5, 5].astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("tagged", [0, 2])
def test_gray_is_itself(tagged):
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(16, axis=0)
    pixels = render(frame_of("gray", ramp, color_range=tagged))
    assert (pixels == ramp[..., None]).all()


def test_limited_gray_is_expanded():
    ramp = np.arange(16, 236, dtype=np.uint8)[None].repeat(16, axis=0)
    pixels = render(frame_of("gray", ramp, color_range=1)).astype(int)
    assert np.abs(pixels - ((ramp.astype(int) - 16) * 255 / 219)[..., None]).max() < 2


@pytest.mark.parametrize("name", ["rgb24", "bgr24", "gbrp"])
def test_rgb_passes_unchanged(name):
    wanted = np.random.default_rng(2).integers(0, 256, (33, 17, 3), dtype=np.uint8)
    r, g, b = (wanted[..., i] for i in range(3))
    planes = {"rgb24": [wanted], "bgr24": [wanted[..., ::-1]], "gbrp": [g, b, r]}[name]
    assert (render(frame_of(name, *planes)) == wanted).all()


def gray_frame(samples, **tags):
    height, width = samples.shape
    chroma = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    return frame_of("yuv420p", samples.astype(np.uint8), chroma, chroma, color_range=2, **tags)


@pytest.mark.parametrize("target", [(160, 90), (100, 100), (213, 77), (7, 5)])
def test_a_checkerboard_of_single_pixels_becomes_flat_gray(target):
    y, x = np.mgrid[0:360, 0:640]
    pixels = render(gray_frame((x + y) % 2 * 255), width=target[0], height=target[1])
    assert pixels.shape == (target[1], target[0], 3)
    inner = pixels[1:-1, 1:-1].astype(int)
    assert np.abs(inner - 127.5).max() < 12


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1), (321, 241), (17, 4)])
def test_odd_sizes_work(size):
    frame = gray_frame(np.full(size[::-1], 77))
    assert render(frame).shape == (size[1], size[0], 3)
    assert (render(frame) == 77).all()
    assert (render(frame, width=5, height=3, scale_type=ScaleType.CROP) == 77).all()


@pytest.mark.parametrize("target", [(1, 1), (9, 8), (4096, 1)])
def test_extreme_reductions_of_large_frames_work(target):
    pixels = render(gray_frame(np.full((2160, 3840), 99)), width=target[0], height=target[1])
    assert pixels.shape == (target[1], target[0], 3)
    assert np.abs(pixels.astype(int) - 99).max() <= 1


def test_scale_types_place_the_picture():
    """A picture of three upright stripes, black-white-black, twice as wide as high."""
    stripes = np.zeros((64, 128), np.uint8)
    stripes[:, 32:96] = 255
    frame = gray_frame(stripes)

    def middle(scale):
        pixels = render(frame, width=64, height=64, scale_type=scale)
        return pixels[..., 0]

    assert (middle(ScaleType.CROP) > 200).all()
    fill = middle(ScaleType.FILL)
    assert fill.shape == (64, 64)
    assert not fill[:16].any()
    assert not fill[48:].any()
    assert (fill[16:48, 20:44] > 250).all()
    assert (middle(ScaleType.FIT) == fill[16:48]).all()
    assert (middle(ScaleType.STRETCH)[:, 20:44] > 250).all()


def test_non_square_pixels_become_square():
    pixels = render(gray_frame(np.full((576, 720), 50)), Fraction(64, 45))
    assert pixels.shape == (576, 1024, 3)


def test_a_distorting_size_is_reported():
    renderer = Renderer(Rendition(width=32))
    renderer.render(gray_frame(np.zeros((64, 64))), SQUARE)
    assert renderer.aspect_changed


def test_one_renderer_follows_changes_of_size_and_format():
    renderer = Renderer(Rendition(width=8, height=8))
    for size, level in (((64, 48), 30), ((33, 65), 200), ((64, 48), 90)):
        assert (renderer.render(gray_frame(np.full(size, level)), SQUARE) == level).all()
    assert (renderer.render(frame_of("rgb24", np.full((5, 5, 3), 7, np.uint8)), SQUARE) == 7).all()


# Orientation


def as_rotated_file(tmp_path, pixels, numbers):
    """Decode a lossless MOV with this display matrix written into its track header."""
    path = tmp_path / "turned.mov"
    with av.open(path, "w") as output:
        stream = output.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], "rgb24"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        output.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    data[at : at + 36] = struct.pack(">9i", *numbers)
    with av.open(BytesIO(bytes(data))) as container:
        return next(container.decode(video=0))


TURNS = {
    "upright": ((1, 0, 0, 1), lambda p: p),
    "quarter clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "half": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "quarter counter-clockwise": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "mirrored quarter": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_display_matrices_turn_and_mirror(tmp_path, turn):
    (a, b, c, d), turned = TURNS[turn]
    pixels = np.random.default_rng(4).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    one = 65536
    frame = as_rotated_file(tmp_path, pixels, (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 2**30))
    assert (render(frame) == turned(pixels)).all()


@pytest.mark.parametrize("turn", TURNS)
def test_scaling_before_turning_gives_the_picture_of_turning_before_scaling(tmp_path, turn):
    (a, b, c, d), turned = TURNS[turn]
    y, x = np.mgrid[0:96, 0:160]
    waves = 127 + 120 * np.sin(x / 3 + y / 7)
    pixels = np.stack([waves, waves[::-1], waves[:, ::-1]], -1).astype(np.uint8)
    one = 65536
    frame = as_rotated_file(tmp_path, pixels, (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 2**30))
    for width, height in ((50, 50), (300, 70)):
        reference = render(frame_of("rgb24", turned(pixels)), width=width, height=height)
        difference = render(frame, width=width, height=height).astype(int) - reference
        assert np.abs(difference).max() <= 2


# Interlacing


def interlaced(frame):
    graph = Graph()
    source = graph.add(
        "buffer", f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1:pixel_aspect=1/1"
    )
    graph.link_nodes(source, graph.add("setfield", "tff"), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.vpull()


def test_a_flagged_comb_becomes_one_field():
    comb = np.full((64, 64), 30)
    comb[1::2] = 220
    frame = interlaced(gray_frame(comb))
    assert frame.interlaced_frame
    assert (render(frame) == 30).all()
    assert (render(frame, width=16, height=16) == 30).all()


def test_an_unflagged_comb_stays():
    comb = np.full((64, 64), 30)
    comb[1::2] = 220
    assert (render(gray_frame(comb))[..., 0] == comb).all()


# Transparency


def test_alpha_is_kept_for_formats_that_can_and_black_for_jpg():
    pixels = np.full((8, 8, 4), (200, 100, 50, 128), np.uint8)
    frame = frame_of("rgba", pixels)
    assert (render(frame, format=Format.PNG) == pixels).all()
    for image_format in (Format.PNG, Format.WEBP, Format.AVIF):
        shown = render(frame, format=image_format, width=4, height=4).astype(int)
        assert np.abs(shown - (200, 100, 50, 128)).max() <= 1
    for size in ({}, {"width": 4, "height": 4}):
        assert np.abs(render(frame, format=Format.JPG, **size).astype(int) - (100, 50, 25)).max() <= 1


def test_invisible_colours_do_not_bleed():
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:] = (0, 255, 0, 0)
    pixels[:, 8:] = (255, 0, 0, 255)
    shown = render(frame_of("rgba", pixels), format=Format.PNG, width=5, height=5)
    assert shown[..., 1][shown[..., 3] > 0].max() == 0


def test_other_formats_with_alpha():
    half = np.full((16, 16), 128, np.uint8)
    quarter = np.full((8, 8), 128, np.uint8)
    frame = frame_of("yuva420p", half, quarter, quarter, np.full((16, 16), 77, np.uint8), color_range=2)
    assert np.abs(render(frame, format=Format.PNG).astype(int) - (128, 128, 128, 77)).max() <= 1
    assert render(frame).shape == (16, 16, 3)
    gray = frame_of("ya8", np.dstack([half, half // 2]), color_range=2)
    assert np.abs(render(gray, format=Format.WEBP).astype(int) - (128, 128, 128, 64)).max() <= 1


def test_borders_of_a_transparent_picture_are_opaque_black():
    frame = frame_of("rgba", np.full((8, 16, 4), 200, np.uint8))
    shown = render(frame, format=Format.PNG, width=16, height=16, scale_type=ScaleType.FILL)
    assert (shown[0, 0] == (0, 0, 0, 255)).all()


# High dynamic range


def test_pq_white_and_black_and_colour():
    """203 nit white is PQ code 573 of 10 bit limited; red of the same light must stay red."""
    y = np.full((32, 48), 64, np.uint16)
    y[:, 16:] = 573
    u = np.full((16, 24), 512, np.uint16)
    frame = frame_of("yuv420p10le", y, u, u, colorspace=9, color_range=1, color_trc=16, color_primaries=9)
    pixels = render(frame)
    assert not pixels[8, 4].any()
    assert ((pixels[8, 40] >= 0.75 * 255) & (pixels[8, 40] <= 0.92 * 255)).all()
    small = render(frame, width=12, height=8)
    assert np.abs(small[4, 10].astype(int) - pixels[8, 40]).max() <= 1


# Luma for the fingerprint


@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize("tagged", [0, 1, 2])
def test_luma_is_the_plane_as_decoded(matrix, tagged):
    planes, _ = chart("420", 8, full=True)
    view, depth = luma(frame_of("yuv420p", *planes, colorspace=matrix, color_range=tagged))
    assert depth == 8
    assert (view == planes[0]).all()


@pytest.mark.parametrize("tagged", [0, 1, 2])
@pytest.mark.parametrize(
    "name", ["yuv420p10le", "yuv420p10be", "p010le", "gray10le", "yuv444p16le", "gray16be", "y210le"]
)
def test_deep_luma_keeps_its_values(name, tagged):
    depth = 16 if "16" in name else 10
    samples = np.random.default_rng(6).integers(0, 1 << depth, (32, 48))
    stored = (samples << 6 if name in {"p010le", "y210le"} else samples).astype(">u2" if name.endswith("be") else "<u2")
    middle = np.full((32, 48), (512 << 6 if name in {"p010le", "y210le"} else 1 << (depth - 1)), stored.dtype)
    planes = {
        "p010le": [stored, middle[:16]],
        "y210le": [np.dstack([stored, middle])],
        "yuv444p16le": [stored, middle, middle],
    }.get(name, [stored] if name.startswith("gray") else [stored, middle[:16, :24], middle[:16, :24]])
    view, found = luma(frame_of(name, *planes, color_range=tagged))
    assert found == depth
    assert (view == samples).all()


@pytest.mark.parametrize("tagged", [0, 1, 2])
@pytest.mark.parametrize("name", ["nv12", "gray", "yuyv422", "uyvy422", "ya8"])
def test_other_layouts_keep_their_luma(name, tagged):
    samples = np.random.default_rng(7).integers(0, 256, (32, 48), dtype=np.uint8)
    middle = np.full_like(samples, 128)
    planes = {
        "nv12": [samples, middle[:16]],
        "gray": [samples],
        "yuyv422": [np.dstack([samples, middle])],
        "uyvy422": [np.dstack([middle, samples])],
        "ya8": [np.dstack([samples, middle])],
    }[name]
    view, depth = luma(frame_of(name, *planes, color_range=tagged))
    assert depth == 8
    assert (view == samples).all()


@pytest.mark.parametrize("name", ["rgb24", "bgra", "gbrp"])
def test_rgb_gets_601_luma(name):
    pixels = np.random.default_rng(8).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    r, g, b = (pixels[..., i] for i in range(3))
    planes = {"rgb24": [pixels], "bgra": [np.dstack([b, g, r, r])], "gbrp": [g, b, r]}[name]
    view, depth = luma(frame_of(name, *planes))
    assert depth == 8
    assert np.abs(view - (pixels @ [0.299, 0.587, 0.114])).max() < 1


def test_luma_outlives_its_frame():
    planes, _ = chart("420", 8, full=True)
    views = [luma(frame_of("yuv420p", *planes))[0] for _ in range(50)]
    assert all((view == planes[0]).all() for view in views)


def test_interlacing_does_not_touch_the_fingerprint():
    comb = np.zeros((64, 64))
    comb[1::2] = np.arange(64) * 4
    frame = gray_frame(comb)
    assert dhash(*luma(interlaced(frame))) == dhash(*luma(frame)) == 2**64 - 1


# Real files


def first_frame(name):
    with av.open(MEDIA / name) as container:
        return next(container.decode(video=0))


@real_files
@pytest.mark.parametrize("name", [f"rot_{angle}_h264.mp4" for angle in (0, 90, 180, 270)] + ["rot_90_vp9.mp4"])
def test_rotated_phone_videos_come_upright(name):
    """Khronos: the top is red, the left blue, the right yellow and the bottom green."""
    pixels = render(first_frame(f"geometry/{name}")).astype(int)
    assert pixels.shape == (96, 128, 3)
    colours = {(4, 64): (255, 0, 0), (48, 4): (0, 0, 255), (48, 123): (255, 255, 0), (91, 64): (0, 255, 0)}
    for (y, x), colour in colours.items():
        assert ((pixels[y, x] > (pixels[y, x].max() + pixels[y, x].min()) / 2) * 255 == colour).all(), (
            y,
            x,
            pixels[y, x],
        )


@real_files
def test_four_colours_are_those_of_the_reference_picture():
    wanted = np.asarray(Image.open(MEDIA / "ground_truth" / "wpt" / "four-colors.png").convert("RGB")).astype(int)
    pixels = render(first_frame("geometry/four_colors.mp4"), width=wanted.shape[1], height=wanted.shape[0])
    corners = (slice(20, None, wanted.shape[0] - 40), slice(20, None, wanted.shape[1] - 40))
    assert np.abs(pixels[corners] - wanted[corners]).max() <= 3


@real_files
@pytest.mark.parametrize("name", ["hevc_hlg_color_test.mp4", "hevc_pq_nasa.mp4"])
def test_real_hdr_uses_the_range_and_is_not_washed_out(name):
    pixels = render(first_frame(f"codecs/{name}"), width=320, height=180, scale_type=ScaleType.FIT)
    levels = pixels.astype(int).max(-1)
    assert np.percentile(levels, 1) < 60
    assert (levels == 255).mean() < 0.05
