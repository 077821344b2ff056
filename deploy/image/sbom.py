"""Writes what the image is made of, as a CycloneDX document: Debian's packages, Python's, and what their wheels hide.

Owns the document's form. Python packages carry the hash of the wheel that pip compared with the lock; libraries inside
of wheels, FFmpeg among them, the version that they tell themselves (`native`) and the hash of the file; what wheels
say of the code that they are linked with (PEP 770) goes along. The same image gives the same document, byte by byte.
"""

import argparse
import hashlib
import json
import platform
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from native import ffmpeg, native

Component = dict[str, Any]


def main() -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="what rootfs.py made")
    parser.add_argument("--worker", type=Path, required=True, help="the worker's package")
    parser.add_argument("--installed", type=Path, required=True, help="what `pip install --report` wrote")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    installed = json.loads(given.installed.read_text())["install"]
    components = [*_debian(given.root), _interpreter(), *_python(installed)]
    components += [*_ffmpeg(), *_libraries(given.root), *_told_by_wheels(given.root)]
    given.output.parent.mkdir(parents=True)
    given.output.write_text(json.dumps(_document(_version(given.worker), components), indent=1, sort_keys=True) + "\n")


def _document(version: str, components: list[Component]) -> Component:
    unique = {each["bom-ref"]: each for each in components}
    worker = f"pkg:generic/frame-capture@{version}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": worker,
                "name": "frame-capture",
                "version": version,
                "licenses": [{"license": {"id": "MIT"}}],
            }
        },
        "components": [unique[each] for each in sorted(unique)],
        "dependencies": [{"ref": worker, "dependsOn": sorted(unique)}],
    }


def _version(worker: Path) -> str:
    found = re.search(r'^__version__ = "(.+)"$', (worker / "__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{worker}/__init__.py has no __version__")
    return found[1]


def _debian(root: Path) -> Iterator[Component]:
    """List Debian's packages of which files are in the image."""
    release = dict(re.findall(r'^(\w+)="?(.*?)"?$', (root / "etc" / "os-release").read_text(), re.MULTILINE))
    distribution = f"{release['ID']}-{release['VERSION_ID']}"
    for path in sorted((root / "var" / "lib" / "dpkg" / "status.d").iterdir()):
        field = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", path.read_text(), re.MULTILINE))
        version = field["Version"].replace("+", "%2B").replace(":", "%3A")
        name = field["Package"].replace("+", "%2B")
        purl = f"pkg:deb/{release['ID']}/{name}@{version}?arch={field['Architecture']}&distro={distribution}"
        yield _component(purl, field["Package"], field["Version"])


def _interpreter() -> Component:
    """Name Python itself; the official images' is no package of Debian's."""
    version = platform.python_version()
    cpe = f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*"
    return _component(f"pkg:generic/python@{version}", "python", version, cpe=cpe)


def _python(installed: list[dict[str, Any]]) -> Iterator[Component]:
    for each in installed:
        name = re.sub(r"[-_.]+", "-", each["metadata"]["name"]).lower()
        if name in {"pip", "setuptools"}:
            continue
        version = each["metadata"]["version"]
        sha256 = each["download_info"]["archive_info"]["hashes"]["sha256"]
        component = _component(f"pkg:pypi/{name}@{version}", name, version, sha256=sha256)
        if licence := each["metadata"].get("license_expression"):
            component["licenses"] = [{"expression": licence}]
        yield component


def _ffmpeg() -> Iterator[Component]:
    version, configuration = ffmpeg()
    cpe = f"cpe:2.3:a:ffmpeg:ffmpeg:{version}:*:*:*:*:*:*:*"
    told = {"configuration": configuration, "bundled in": "av"}
    yield _component(f"pkg:generic/ffmpeg@{version}", "ffmpeg", version, cpe=cpe, told=told)


def _libraries(root: Path) -> Iterator[Component]:
    """List the libraries that `auditwheel` put into wheels; as mere files where they do not tell their version."""
    site = Path(sysconfig.get_path("purelib"))
    here = root.joinpath(*site.parts[1:])
    for path in sorted(here.glob("*.libs/*.so*")):
        told = {"bundled in": path.parent.stem, "file": path.name}
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if one := native(site / path.relative_to(here)):
            project, version = one
            purl = f"pkg:generic/{project}@{version.replace('+', '%2B')}?file_name={path.name}"
            yield _component(purl, project, version, sha256=sha256, told=told)
        else:
            file = _component(f"file:{path.parent.name}/{path.name}", path.name, "", sha256=sha256, told=told)
            yield {key: value for key, value in file.items() if key not in ("purl", "version")} | {"type": "file"}


def _told_by_wheels(root: Path) -> Iterator[Component]:
    """Pass on what wheels say of the code that they are linked with."""
    site = root.joinpath(*Path(sysconfig.get_path("purelib")).parts[1:])
    for path in sorted(site.glob("*.dist-info/sboms/*.json")):
        wheel = path.parts[-3].split("-")[0]
        for each in json.loads(path.read_text()).get("components", []):
            purl = each.get("purl", "")
            if purl.startswith(f"pkg:pypi/{wheel}@") or "version" not in each:
                continue  # the package itself, which pip told of
            reference = purl or f"{wheel}#{each['name']}@{each['version']}"
            component = _component(reference, each["name"], each["version"], told={"bundled in": wheel})
            if not purl:
                del component["purl"]
            yield component


def _component(
    purl: str, name: str, version: str, *, sha256: str = "", cpe: str = "", told: dict[str, str] | None = None
) -> Component:
    component: Component = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if sha256:
        component["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if cpe:
        component["cpe"] = cpe
    if told:
        component["properties"] = [
            {"name": f"frame-capture:{key}", "value": value} for key, value in sorted(told.items())
        ]
    return component


if __name__ == "__main__":
    main()
