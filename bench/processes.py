"""What processes cost: CPU seconds and memory, as the kernel tells them. Knows nothing of media and of the worker."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that succeeded. `cpu_s` is user and system time of the process and of all it waited for; `peak_bytes`

    the largest resident size of any one of them.
    """

    cpu_s: float
    wall_s: float
    peak_bytes: int
    output: str
    errors: str


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end. Raises `RuntimeError` with what it printed when it fails."""
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
        tempfile.NamedTemporaryFile() as facts,
    ):
        launched = [sys.executable, "-I", "-S", str(LAUNCHER), facts.name, *command]
        status = subprocess.run(
            launched, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=env, check=False
        ).returncode
        output.seek(0)
        errors.seek(0)
        printed, told = (file.read().decode(errors="replace") for file in (output, errors))
        if status:
            raise RuntimeError(f"{' '.join(command)}: exit status {status}\n{printed[-2000:]}{told[-2000:]}")
        return Finished(**json.load(facts), output=printed, errors=told)


def pss_bytes(pid: int) -> int:
    """Tell the proportional set size of a process: its own pages, and its share of those that others map too."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    (size,) = (line for line in lines if line.startswith("Pss:"))
    return int(size.split()[1]) * 1024


def main_thread_cpu_s(pid: int) -> float:
    """Tell the CPU seconds of a running process's first thread so far, to a tick of 10 ms."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / _TICKS_PER_S


def peak_bytes(pid: int) -> int:
    """Tell the largest resident size that a process has had so far."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    sizes = [line for line in lines if line.startswith("VmHWM:")]
    return int(sizes[0].split()[1]) * 1024 if sizes else 0  # none of a process that has just ended


@dataclass(frozen=True, slots=True)
class Stat:
    """A running process: CPU seconds of its own so far, and of its children that have ended, to a tick of 10 ms."""

    pid: int
    parent: int
    cpu_s: float
    ended_cpu_s: float


def tree(pid: int) -> list[Stat]:
    """Look at a process and all its descendants, parents first."""
    stats = {stat.pid: stat for stat in _running()}
    found = [stats[pid]]
    for one in found:
        found += [stat for stat in stats.values() if stat.parent == one.pid]
    return found


def _running() -> Iterator[Stat]:
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            yield parse_stat((directory / "stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile


def parse_stat(line: str) -> Stat:
    """Read `/proc/<pid>/stat`, where the program's name, in parentheses, may hold anything."""
    fields = line[line.rindex(")") + 2 :].split()
    user_s, system_s, ended_user_s, ended_system_s = (int(ticks) / _TICKS_PER_S for ticks in fields[11:15])
    return Stat(int(line.split(" ", 1)[0]), int(fields[1]), user_s + system_s, ended_user_s + ended_system_s)
