"""The Dockerfile, as far as its text tells; tests/image builds and runs it."""

import json
import shlex

from tests.deploy.manifests import ROOT


def test_the_image_runs_the_worker_itself_as_nobody_and_holds_only_what_is_locked():
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    last = dict(lines)
    assert last["USER"] == "65534:65534"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(last["ENTRYPOINT"])[1:] == ["-m", "worker"]
    assert json.loads(last["CMD"]) == ["serve"]
    installs = [rest for word, rest in lines if word == "RUN" and "pip install" in rest]
    assert len(installs) == 1
    assert {"--require-hashes", "-r", "/build/requirements.txt"} <= set(shlex.split(installs[0]))
    copied = [shlex.split(rest)[-2] for word, rest in lines if word == "COPY"]
    assert all((ROOT / each).exists() for each in copied if not each.startswith("/"))
    allowed = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {each for each in copied if not each.startswith("/")} == {line[1:] for line in allowed if line[:1] == "!"}
