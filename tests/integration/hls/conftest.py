"""Made playlists, whose frames say their number."""

import pytest

from tests.playlists import KINDS, OPEN_GOPS, join, make


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """The folder of a local store with all of them. What a test adds has a name of its own."""
    folder = tmp_path_factory.mktemp("root")
    for kind in KINDS:
        make(folder, kind, kind=kind)
    make(folder, "hevc", kind="fmp4", codec="libx265")
    make(folder, "short", seconds=4)
    make(folder, "long-gops", gop=150, seconds=30)
    for name, kind in (("open-gops", "ts"), ("open-gops-fmp4", "fmp4")):
        make(folder, name, kind=kind, options={"preset": "veryfast", "x264-params": OPEN_GOPS})
    join(folder, "joined", "ts", "ts", "fmp4", "hevc")
    return folder
