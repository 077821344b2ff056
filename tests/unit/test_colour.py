"""The meaning of a frame's tags."""

import pytest

from worker.errors import Code, TaskError
from worker.media.colour import Matrix, Primaries, Tags, Transfer, meaning


@pytest.mark.parametrize(
    ("tags", "size", "matrix"),
    [
        (Tags(), (1280, 720), Matrix.BT709),
        (Tags(), (1280, 534), Matrix.BT709),
        (Tags(), (720, 1280), Matrix.BT709),
        (Tags(), (534, 1280), Matrix.BT709),
        (Tags(), (960, 720), Matrix.BT709),
        (Tags(), (1279, 719), Matrix.BT601),
        (Tags(), (719, 1279), Matrix.BT601),
        (Tags(), (480, 854), Matrix.BT601),
        (Tags(), (720, 576), Matrix.BT601),
        (Tags(matrix=1), (320, 180), Matrix.BT709),
        (Tags(matrix=5), (1920, 1080), Matrix.BT601),
        (Tags(matrix=6), (1920, 1080), Matrix.BT601),
        (Tags(matrix=7), (1920, 1080), Matrix.SMPTE240M),
        (Tags(matrix=9), (320, 180), Matrix.BT2020),
        (Tags(matrix=0), (1920, 1080), Matrix.BT709),
        (Tags(matrix=3), (320, 180), Matrix.BT601),
        (Tags(matrix=12, primaries=9), (320, 180), Matrix.BT2020),
        (Tags(matrix=12, primaries=1), (320, 180), Matrix.BT709),
        (Tags(transfer=16), (320, 180), Matrix.BT2020),
        (Tags(primaries=9), (320, 180), Matrix.BT2020),
    ],
)
def test_matrix_by_tag_else_by_size(tags, size, matrix):
    assert meaning(tags, "yuv420p", rgb=False, width=size[0], height=size[1]).matrix is matrix


@pytest.mark.parametrize(
    ("tagged", "name", "rgb", "full"),
    [
        (0, "yuv420p", False, False),
        (1, "yuv420p", False, False),
        (2, "yuv420p10le", False, True),
        (0, "yuvj422p", False, True),
        (0, "gray", False, True),
        (1, "gray", False, False),
        (0, "gbrp", True, True),
        (1, "pal8", True, True),
    ],
)
def test_range_by_tag_else_by_format(tagged, name, rgb, full):
    assert meaning(Tags(range=tagged), name, rgb=rgb, width=64, height=64).full_range is full


def test_only_pq_and_hlg_are_hdr():
    found = {t: meaning(Tags(transfer=t), "yuv420p10le", rgb=False, width=64, height=64).hdr for t in range(19)}
    assert {t: hdr for t, hdr in found.items() if hdr} == {16: Transfer.PQ, 18: Transfer.HLG}


@pytest.mark.parametrize(
    ("tags", "primaries"),
    [
        (Tags(), Primaries.BT709),
        (Tags(primaries=5), Primaries.BT709),
        (Tags(primaries=9), Primaries.BT2020),
        (Tags(primaries=12), Primaries.P3),
        (Tags(matrix=9), Primaries.BT709),  # only what is said is converted …
        (Tags(transfer=16), Primaries.BT2020),  # … but HDR without a word is BT.2100's
        (Tags(transfer=18, primaries=1), Primaries.BT709),
        (Tags(transfer=16, primaries=12), Primaries.P3),
    ],
)
def test_primaries_by_tag_and_for_hdr_by_its_standard(tags, primaries):
    found = meaning(tags, "yuv420p10le", rgb=False, width=64, height=64)
    assert found.primaries is primaries
    assert found.is_plain is (primaries is Primaries.BT709 and found.hdr is None)


@pytest.mark.parametrize(
    ("matrix", "name"), [(8, "YCgCo"), (10, "constant luminance"), (14, "ICtCp"), (16, "YCgCo-Re")]
)
def test_matrices_that_would_be_misread_are_refused_by_name(matrix, name):
    with pytest.raises(TaskError, match=rf"{name}.* \(matrix {matrix} of ITU-T H.273\)") as caught:
        meaning(Tags(matrix=matrix), "yuv444p", rgb=False, width=64, height=64)
    assert caught.value.code == Code.UNSUPPORTED_MEDIA
    assert meaning(Tags(matrix=matrix), "gbrp", rgb=True, width=64, height=64).full_range
