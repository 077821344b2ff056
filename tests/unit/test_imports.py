"""Each outside technology is known to the modules that own it and to no other.

import-linter's contracts (`.importlinter`) keep the layers; this keeps the libraries in their places.
"""

from fnmatch import fnmatchcase

import grimp
import pytest

OWNERS = {
    "aio_pika": ["worker.adapters.amqp*", "worker.adapters.topology"],
    "aiormq": ["worker.adapters.amqp*", "worker.adapters.topology"],
    "pamqp": ["worker.adapters.amqp*", "worker.adapters.topology"],
    "aiobotocore": ["worker.adapters.s3*"],
    "botocore": ["worker.adapters.s3*"],
    "av": [
        f"worker.media.{name}"
        for name in (
            "container",
            "opening",
            "codecs",
            "release",
            "allocation",
            "presentation",
            "timeline",
            "decode",
            "decoder",
            "finder",
            "keyframes",
            "entry",
            "extent",
            "index",
            "reads",
            "scaler",
            "filtering",
            "deinterlace",
            "upright",
            "raster",
            "cover",
            "ycc",
        )
    ],
    "m3u8": ["worker.adapters.hls_playlist"],
    "cryptography": ["worker.adapters.hls"],
    "PIL": ["worker.media.encode"],
    "simplejpeg": ["worker.media.encode"],
}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("worker", include_external_packages=True, cache_dir=None)


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_only(graph, library):
    if library not in graph.modules:
        pytest.skip(f"nothing imports {library} yet")

    importers = graph.find_modules_that_directly_import(library)
    strangers = {name for name in importers if not any(fnmatchcase(name, owner) for owner in OWNERS[library])}

    assert not strangers, f"only {', '.join(OWNERS[library])} may import {library}"
