"""The store of `deploy/compose.yaml` starts as it is told there, and its bucket is there also the second time."""

import subprocess
import sys
from pathlib import Path

import pytest

ALONE = ["unshare", "--net", "--map-root-user"]


def test_the_bucket_is_made_once_and_found_again(tmp_path):
    if subprocess.run([*ALONE, "ip", "link"], capture_output=True, check=False).returncode:
        pytest.skip("no network of its own can be made here (unshare --net, and the command ip)")
    done = subprocess.run(
        [*ALONE, sys.executable, "-m", "tests.deploy.store_alone", tmp_path],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "media\n"
