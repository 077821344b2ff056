"""What linters for security find in the manifests and the Dockerfile: nothing that is not meant, with a reason each."""

import json
import os
import subprocess

import pytest

from tests.deploy.manifests import K8S, OVERLAYS, ROOT, kustomize

PROGRAMS = ROOT / ".venv-lint" / "bin"
CONFIG = ROOT / "deploy" / "lint" / "checkov.yaml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
DIGEST = f"sha256:{64 * '0'}"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAMS.exists(), reason="`make lint-deploy` installs checkov and hadolint"),
]


def checkov(*paths):
    """Run checkov; gives for each kind of file what failed, and how many checks passed."""
    files = [option for path in paths for option in ("--file", path)]
    command = [PROGRAMS / "checkov", "--config-file", CONFIG, *files, "--framework", "kubernetes", "dockerfile"]
    environment = os.environ | {"LOG_LEVEL": "ERROR"}
    done = subprocess.run(
        [*command, "-o", "json"], capture_output=True, text=True, timeout=280, check=False, env=environment
    )
    told = json.loads(done.stdout)
    reports = {each["check_type"]: each for each in (told if isinstance(told, list) else [told])}
    assert all(each["summary"]["parsing_errors"] == 0 for each in reports.values())
    failed = [
        f"{each['check_id']} {each['check_name']}: {each['resource']}"
        for report in reports.values()
        for each in report["results"]["failed_checks"]
    ]
    return failed, {kind: each["summary"]["passed"] for kind, each in reports.items()}


def with_digest(overlay, directory):
    """Build an overlay as those who deploy are told to: with the image named by its digest."""
    directory.mkdir()
    here = os.path.relpath(K8S / "overlays" / overlay, directory)
    images = [{"name": "frame-capture", "digest": DIGEST}]
    (directory / "kustomization.yaml").write_text(json.dumps({"resources": [here], "images": images}))
    path = directory / f"{overlay}.yaml"
    path.write_text("\n---\n".join(json.dumps(each) for each in kustomize(directory)))
    return path


def test_checkov_finds_nothing(tmp_path):
    failed, passed = checkov(DOCKERFILE, *(with_digest(overlay, tmp_path / overlay) for overlay in OVERLAYS))
    assert failed == []
    assert passed["kubernetes"] >= 80 * len(OVERLAYS)
    assert passed["dockerfile"] >= 50


def test_checkov_finds_a_worker_that_may_write_to_its_image(tmp_path):
    path = with_digest("production", tmp_path / "production")
    path.write_text(path.read_text().replace('"readOnlyRootFilesystem": true', '"readOnlyRootFilesystem": false'))
    failed, _ = checkov(path)
    assert [each.split()[0] for each in failed] == ["CKV_K8S_22"]


def test_hadolint_finds_nothing_in_the_dockerfile():
    done = subprocess.run([PROGRAMS / "hadolint", DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
