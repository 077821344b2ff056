"""What is in the image, seen from inside: the worker, no tools, no rights; and a bill of materials that names all."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from devkit import image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
VALIDATOR = ROOT / ".venv-lint" / "bin" / "python"
BUNDLED = {
    *("libavcodec", "libavdevice", "libavfilter", "libavformat", "libavutil", "libswresample", "libswscale"),
    *("dav1d", "gnutls", "libvpx", "openblas", "opus", "svt-av1", "x264", "x265"),
}


@pytest.fixture(scope="module")
def facts(built_image):
    return json.loads(image.run(script=Path(__file__).with_name("probe.py")))


def components(facts):
    return facts["sbom"]["components"]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_process_is_nobody_without_rights_and_writes_to_temporary_places_only(facts):
    assert facts["user"] == [65534, 65534]
    none = "0000000000000000"
    assert facts["status"] == {"CapEff": none, "CapPrm": none, "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2"}
    assert facts["writable"] == ["/tmp", "/dev/shm"]  # of which the second is every runtime's own, in memory


def test_there_is_no_program_but_python(facts):
    assert {Path(path).name for path in facts["programs"]} <= {"python", "python3", "python3.11"}
    assert facts["privileged"] == []
    assert facts["installers"] == []


def test_certificates_of_authorities_are_there_for_tls(facts):
    assert facts["authorities"] > 100


def test_packages_are_the_locked_ones_each_with_a_hash_of_the_lock(facts):
    lock = (ROOT / "requirements.txt").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    installed = {canonical(name): version for name, version in facts["distributions"].items()}
    assert installed.items() <= {canonical(name): version for name, version in locked.items()}.items()
    assert len(installed) >= 30
    told = {each["name"]: each for each in components(facts) if each.get("purl", "").startswith("pkg:pypi/")}
    assert {name: told[name]["version"] for name in installed} == installed
    hashes = set(re.findall(r"--hash=sha256:(\w{64})", lock))
    assert {told[name]["hashes"][0]["content"] for name in installed} <= hashes


def test_the_bill_names_ffmpeg_and_all_libraries_that_wheels_bring(facts):
    (ffmpeg,) = (each for each in components(facts) if each["name"] == "ffmpeg")
    assert ffmpeg["version"] == facts["ffmpeg"]
    assert ffmpeg["cpe"] == f"cpe:2.3:a:ffmpeg:ffmpeg:{facts['ffmpeg']}:*:*:*:*:*:*:*"
    properties = [{p["name"]: p["value"] for p in each.get("properties", [])} for each in components(facts)]
    files = {each["frame-capture:file"] for each in properties if "frame-capture:file" in each}
    assert files == {Path(path).name for path in facts["bundled"]}
    assert {each["name"] for each in components(facts) if "version" in each} >= BUNDLED
    bundled = {each["version"] for each in components(facts) if each.get("purl", "").startswith("pkg:generic/")}
    assert all(re.match(r"\d", version) for version in bundled), bundled


def test_the_bill_names_debians_packages_and_python(facts):
    told = {each["name"] for each in components(facts) if each.get("purl", "").startswith("pkg:deb/")}
    assert told == set(facts["debian"]) >= {"libc6", "libssl3", "ca-certificates"}
    assert ("python", facts["python"]) in {(each["name"], each.get("version")) for each in components(facts)}


def test_the_bill_is_cyclonedx(facts):
    if not VALIDATOR.exists():
        pytest.skip("`make image-test` installs the schemas of CycloneDX")
    assert validated(facts["sbom"]) == "None"
    assert validated(facts["sbom"] | {"components": [{"type": "library"}]}) != "None"


def validated(document):
    """Tell what the official schema says against a document, `None` if nothing."""
    code = (
        "import sys; from cyclonedx.schema import OutputFormat, SchemaVersion;"
        "from cyclonedx.validation import make_schemabased_validator;"
        "validator = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6);"
        "print(validator.validate_str(sys.stdin.read()))"
    )
    done = subprocess.run(
        [VALIDATOR, "-c", code], input=json.dumps(document), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_guide_tells_the_images_size(built_image):
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    told = re.search(r"(\d+) MB unpacked", guide)
    assert told, "docs/kubernetes.md does not tell the image's size as `N MB unpacked`"
    assert abs(image.size_bytes() / 1e6 - int(told[1])) < 0.1 * int(told[1])
