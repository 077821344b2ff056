"""Builds the worker's image and runs it, as root on Debian, with neither a container engine's daemon nor a registry.

Owns how: a base of Debian's packages by mmdebstrap, `buildah` with chroot isolation, `podman` with `runc`, and their
storage, which is in the checkout (`.image`, so that a second build is quick) and apart from the machine's own. Must
not know what the image is tested for.
"""

import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".image"
PROGRAMS = ("mmdebstrap", "buildah", "podman", "runc")
BASE, IMAGE = "localhost/frame-capture-base", "localhost/frame-capture"
SUITE = "bookworm"  # that of the Dockerfile's base
BASE_PACKAGES = "python3-venv,ca-certificates"
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
COMMAND_DEADLINE_S = 900
# What Kubernetes' profile `restricted` and the manifests ask for. The runtime's default seccomp filter is on by itself.
CONFINED = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:size=256m,mode=1777"),
    *("--cap-drop=all", "--security-opt=no-new-privileges"),
    *("--network=host", "--ulimit=nofile=1024:4096", "--ulimit=nproc=1024:4096"),
)


def why_not() -> str:
    """Tell what keeps this machine from building images; empty if nothing does."""
    if os.geteuid() != 0:
        return "building the image without a container engine's daemon needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)} (Debian: apt-get install {' '.join(missing)})" if missing else ""


def build() -> str:
    """Build the image of this checkout with deploy/Dockerfile and return its name. Steps done before are not redone."""
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _run("buildah", "images", "--quiet", "--filter", f"reference={BASE}").strip() == "":
            _build_base()
        with tempfile.TemporaryDirectory() as directory:
            _run("buildah", *_build_arguments(Path(directory) / "pip.conf"))
    return IMAGE


def size_bytes() -> int:
    """Tell how much the files of the image take, unpacked."""
    return int(_run("podman", "image", "inspect", "--format", "{{.Size}}", IMAGE))


def run(*arguments: str, script: Path) -> str:
    """Run a Python script in a container and return what it prints. Raises `RuntimeError` if it fails."""
    mount = f"{script}:/script.py:ro"
    command = ("--entrypoint=/opt/frame-capture/bin/python", "--volume", mount, IMAGE, "/script.py", *arguments)
    return _run("podman", "--runtime=runc", "run", "--rm", *CONFINED, *command)


@contextmanager
def serving(
    environment: Mapping[str, str], *, secrets_from: Path, secrets_at: str, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the image as it is, with its own command. Signals to the process that is yielded reach the container."""
    name = f"frame-capture-{secrets.token_hex(4)}"
    given = [f"--env={key}={value}" for key, value in environment.items()]
    command = _command("podman", "--runtime=runc", "run", "--rm", "--name", name, *CONFINED, *given)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--volume", f"{secrets_from}:{secrets_at}:ro", IMAGE],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        _run("podman", "rm", "--force", "--ignore", "--time", "0", name)
        process.wait()


def _build_base() -> None:
    archive = HOME / "base.tar"
    _done(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={BASE_PACKAGES}", SUITE, str(archive)])
    container = _run("buildah", "from", "scratch").strip()
    _run("buildah", "add", "--quiet", container, str(archive), "/")
    _run("buildah", "commit", "--quiet", "--rm", container, BASE)
    archive.unlink()


def _build_arguments(pip_conf: Path) -> list[str]:
    """Name the base, and let pip in the build use what this machine's pip uses: its certificates and its index."""
    pip_conf.write_text("[global]\ncert = /run/host-certificates.crt\n")
    if index := os.environ.get("PIP_INDEX_URL"):
        pip_conf.write_text(f"{pip_conf.read_text()}index-url = {index}\n")
    return [
        *("bud", "--quiet", "--isolation=chroot", "--layers", "--build-arg", f"PYTHON_IMAGE={BASE}"),
        *("--volume", f"{HOST_CERTIFICATES}:/run/host-certificates.crt:ro", "--secret", f"id=pip,src={pip_conf}"),
        *("--ignorefile", str(ROOT / "deploy" / "Dockerfile.dockerignore")),
        *("--file", str(ROOT / "deploy" / "Dockerfile"), "--tag", IMAGE, str(ROOT)),
    ]


def _command(program: str, *arguments: str) -> list[str]:
    storage = ["--root", str(HOME / "storage"), "--runroot", str(HOME / "run"), "--storage-driver=overlay"]
    if program == "podman":
        storage.append("--cgroup-manager=cgroupfs")
    return [program, *storage, *arguments]


def _run(program: str, *arguments: str) -> str:
    return _done(_command(program, *arguments))


def _done(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_DEADLINE_S, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout[-4000:]}{done.stderr}")
    return done.stdout
