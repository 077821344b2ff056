"""Gathers the files that the worker's image consists of, in a directory that becomes the image's root.

Owns which files of the base image and of the installed packages go along: the interpreter, its standard library, the
packages, and the shared libraries that any of them is linked to. No shell, no package manager, no tool. Runs while
the image is built, with the virtual environment's Python; needs Debian's dpkg data and `ldd`, nothing installed.

Every Debian package of which a file was taken is written down in /var/lib/dpkg/status.d, where scanners look for
vulnerable packages in images without dpkg, and its copyright file goes along.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

# What needs a display or a terminal, and what is for developing.
STDLIB_LEFT_OUT = {
    *("test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py", "turtle.cfg", "lib2to3", "ensurepip", "venv"),
    *("curses", "distutils", "site-packages", "dist-packages", "__pycache__", "pydoc_data", "sitecustomize.py"),
}
EXTENSIONS_LEFT_OUT = re.compile(r"(_tkinter|_curses|readline|nis|_dbm|_gdbm|ossaudiodev|_test|_xxtest|_ctypes_test)")
PACKAGES_LEFT_OUT = {"pip", "setuptools", "_distutils_hack", "distutils-precedence.pth", "pkg_resources", "__pycache__"}
DEVELOPMENT_FILES = re.compile(r".*\.(pyi|pyx|pxd|h|hpp|c|cpp|a|lib|f90)$")
# Of the store's services: S3, and what gives a pod credentials for it.
BOTOCORE_SERVICES = {"s3", "sts", "sso", "sso-oidc", "signin"}
TAKEN_AS_THEY_ARE = ("/etc/ssl/certs/ca-certificates.crt", "/etc/nsswitch.conf", "/etc/os-release", "/etc/ld.so.conf")
NOT_LISTED_BY_DPKG = {"/etc/ssl/certs/ca-certificates.crt": "ca-certificates"}  # its post-installation script writes it
DPKG = Path("/var/lib/dpkg")


def main(root: Path) -> None:
    """Fill `root`, which must not exist yet."""
    root.mkdir(parents=True)
    _merge_usr(root)
    for name in ("dev", "proc", "run", "sys", "tmp"):
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    taken = [*_interpreter(root), *_standard_library(root)]
    packages = _packages(root)
    taken += _shared_libraries(root, [*_extensions(packages), *_extensions(root / "usr"), Path(sys.executable)])
    taken += [_take(root, Path(each)) for each in TAKEN_AS_THEY_ARE]
    _users(root)
    subprocess.run(["/sbin/ldconfig", "-r", root], check=True)
    _note_owners(root, taken)


def _merge_usr(root: Path) -> None:
    """Make /lib and the like links into /usr where the base has them so: paths must mean the same file there."""
    for link in (path for path in Path("/").iterdir() if path.is_symlink()):
        target = link.readlink()
        if str(target).lstrip("/").startswith("usr/"):
            (root / str(target).lstrip("/")).mkdir(parents=True)
            (root / link.name).symlink_to(str(target).lstrip("/"))


def _take(root: Path, path: Path) -> Path:
    """Copy a file, with the links that lead to it; return what the last of them names."""
    while path.is_symlink():
        link = _below(root, path)
        if not link.is_symlink():
            link.symlink_to(path.readlink())
        path = path.parent / path.readlink()
    resolved = path.resolve()
    shutil.copy2(resolved, _below(root, resolved))
    return resolved


def _below(root: Path, path: Path) -> Path:
    """Give the place of the base's `path` below `root`, with its directory made."""
    place = root / path.parent.resolve().relative_to("/") / path.name
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _interpreter(root: Path) -> list[Path]:
    """Take the interpreter and the virtual environment's links to it."""
    _take(root, Path(sys.prefix, "pyvenv.cfg"))
    return [_take(root, Path(sys.executable))]


def _standard_library(root: Path) -> list[Path]:
    source = Path(sysconfig.get_path("stdlib"))
    taken: list[Path] = []

    def left_out(directory: str, names: list[str]) -> set[str]:
        return {
            name
            for name in names
            if name in STDLIB_LEFT_OUT
            or name.startswith("config-")
            or (EXTENSIONS_LEFT_OUT.match(name) and Path(directory).name == "lib-dynload")
        }

    def copy(file: str, place: str) -> None:
        taken.append(Path(shutil.copy2(file, place)) and Path(file).resolve())

    _copy_tree(source, _below(root, source), left_out, copy)
    return taken


def _packages(root: Path) -> Path:
    """Take what pip installed, less what only developers and unused services of AWS need; return where it is now."""
    source = Path(sysconfig.get_path("purelib"))

    def left_out(directory: str, names: list[str]) -> set[str]:
        inside = Path(directory).relative_to(source).parts
        if not inside:
            return {name for name in names if name in PACKAGES_LEFT_OUT or re.match(r"(pip|setuptools)-", name)}
        if inside == ("botocore", "data"):
            return {name for name in names if Path(directory, name).is_dir() and name not in BOTOCORE_SERVICES}
        return {name for name in names if name in {"tests", "__pycache__"} or DEVELOPMENT_FILES.match(name)}

    place = _below(root, source)
    _copy_tree(source, place, left_out, shutil.copy2)
    return place


def _copy_tree(
    source: Path,
    place: Path,
    left_out: Callable[[str, list[str]], set[str]],
    copy: Callable[[str, str], object],
) -> None:
    shutil.copytree(source, place, ignore=left_out, copy_function=copy, ignore_dangling_symlinks=True)


def _extensions(directory: Path) -> Iterable[Path]:
    return (path for path in sorted(directory.rglob("*.so*")) if path.is_file())


def _shared_libraries(root: Path, programs: list[Path]) -> list[Path]:
    """Take the base's libraries that `programs` are linked to; fails where one is missing."""
    done = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True)
    if missing := sorted(set(re.findall(r"(\S+) => not found", done.stdout))):
        raise SystemExit(f"the base image lacks libraries that the packages are linked to: {', '.join(missing)}")
    found = {Path(each) for each in re.findall(r"(?:=>|^)\s*(/\S+) \(0x", done.stdout, re.MULTILINE)}
    return [_take(root, each) for each in sorted(found) if not each.is_relative_to(root) and each.exists()]


def _users(root: Path) -> None:
    """Name the one user, whose number Kubernetes and the image give."""
    (root / "etc" / "passwd").write_text(
        "root:x:0:0:root:/:/nonexistent\nnobody:x:65534:65534:nobody:/nonexistent:/nonexistent\n"
    )
    (root / "etc" / "group").write_text("root:x:0:\nnogroup:x:65534:\n")


def _note_owners(root: Path, taken: Iterable[Path]) -> None:
    owners = _owners()
    packages = {owners[str(path)] for path in taken if str(path) in owners}
    paragraphs = (DPKG / "status").read_text().strip().split("\n\n")
    notes = root / "var" / "lib" / "dpkg" / "status.d"
    notes.mkdir(parents=True)
    for paragraph in paragraphs:
        name = paragraph.split("\n", 1)[0].removeprefix("Package: ")
        if name in packages:
            (notes / name).write_text(f"{paragraph}\n")
            _take(root, Path("/usr/share/doc", name, "copyright"))


def _owners() -> dict[str, str]:
    """Give the package of each installed file, by the file's path without links."""
    owners = dict(NOT_LISTED_BY_DPKG)
    for listing in (DPKG / "info").glob("*.list"):
        package = listing.stem.split(":")[0]
        for line in listing.read_text().splitlines():
            owners[str(Path(line).parent.resolve() / Path(line).name)] = package
    return owners


if __name__ == "__main__":
    main(Path(sys.argv[1]))
