"""`frame-capture run` on local storage does to the last byte what a worker does behind a broker, on S3."""

import hashlib
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.examples import SCHEMAS
from tests.e2e.media import BUCKET, copy_sources
from tests.e2e.worker_process import COMMAND, environment
from worker.messages.examples import EXAMPLE_TASKS


@pytest.fixture(scope="module")
def ran(sources, tmp_path_factory):
    """A directory of buckets in which `run` did all examples, two at a time, and what each printed."""
    root = copy_sources(sources, tmp_path_factory.mktemp("run") / "buckets")

    def run(name: str) -> dict:
        file = SCHEMAS / "examples" / f"{name}.task.json"
        done = subprocess.run(
            [COMMAND, "run", file, "--root", root], env=environment({}), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    with ThreadPoolExecutor(2) as pool:
        return root, dict(zip(EXAMPLE_TASKS, pool.map(run, EXAMPLE_TASKS), strict=True))


def test_the_images_are_the_same_to_the_last_byte(ran, published):
    root, _ = ran
    made = {str(path.relative_to(root / BUCKET)): path for path in (root / BUCKET / "snapshots").rglob("*.*")}
    assert sorted(made) == sorted(published.objects)
    for key, path in made.items():
        assert path.read_bytes() == published.objects[key]["Body"], key


@pytest.mark.parametrize("name", EXAMPLE_TASKS)
def test_the_terminal_event_tells_the_same_of_them(ran, published, name):
    root, printed = ran
    (snapshot,) = printed[name]["data"]["Targets"][0]["Image"]["Snapshots"]
    assert printed[name]["data"]["Status"] == "Succeeded"
    assert [without_tag(frame) for frame in snapshot["Frames"]] == list(map(without_tag, published.frames(name)))
    for frame in snapshot["Frames"]:
        stored = (root / frame["URI"].removeprefix("oss://")).read_bytes()
        assert hashlib.sha256(stored).hexdigest() == frame["Sha256"]


def without_tag(frame: dict) -> dict:
    """A frame of a manifest without what each store names in its own way."""
    return {name: value for name, value in frame.items() if name != "ETag"}
