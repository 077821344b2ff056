"""Runs inside the image: tells, as JSON, what a process may do there and what there is."""

import contextlib
import importlib.util
import json
import os
import ssl
import stat
import sys
from importlib.metadata import distributions
from pathlib import Path

import av

PLACES = ("/", "/etc", "/opt/frame-capture", "/usr", "/var", "/run", "/tmp", "/dev/shm")


def writable(place: str) -> bool:
    try:
        (Path(place) / "probe").write_text("")
    except OSError:
        return False
    return True


def files() -> list[tuple[str, os.stat_result]]:
    found = []
    for directory, inner, names in os.walk("/"):
        if directory == "/":
            inner[:] = [each for each in inner if each not in ("proc", "sys", "dev")]
        for path in (Path(directory, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                found.append((str(path), path.lstat()))
    return found


def main() -> None:
    everything = files()
    regular = [(path, status) for path, status in everything if stat.S_ISREG(status.st_mode)]
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    facts = {
        "user": [os.getuid(), os.getgid()],
        "status": {name: status[name] for name in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp")},
        "writable": [place for place in PLACES if writable(place)],
        "programs": sorted(path for path, _ in everything if Path(path).parent.name in ("bin", "sbin")),
        "privileged": [path for path, each in regular if each.st_mode & (stat.S_ISUID | stat.S_ISGID)],
        "installers": [name for name in ("pip", "setuptools", "ensurepip") if importlib.util.find_spec(name)],
        "authorities": len(ssl.create_default_context().get_ca_certs()),
        "python": sys.version.split()[0],
        "ffmpeg": av.ffmpeg_version_info,
        "distributions": {each.metadata["Name"]: each.version for each in distributions()},
        "bundled": sorted(path for path, _ in regular if ".libs/" in path),
        "debian": sorted(path.name for path in Path("/var/lib/dpkg/status.d").iterdir()),
        "native": sorted(path for path, _ in regular if path.startswith("/usr/lib/") and ".so" in path),
        "sbom": json.loads(Path("/usr/share/frame-capture/sbom.cdx.json").read_text()),
    }
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main()
