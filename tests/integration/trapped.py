"""Opens each lure in a process that ends at the first system call which is not just memory, clocks and its own pipe.

Run as `python -m tests.integration.trapped SECRET PORT UDP_PORT WAY;WAY… [free]`; prints how each ended in each way of
opening, as JSON. `free` leaves the trap out.
"""

import io
import json
import os
import signal
import sys
from pathlib import Path

import av

from tests.integration.lures import a_video, lures
from worker.adapters import seccomp
from worker.adapters.kernel import prctl
from worker.errors import TaskError
from worker.media import opening
from worker.media.opening import FORMATS, open_container
from worker.media.plan import Limits

PATIENCE_S = 20  # for a lure that makes FFmpeg wait


class Named(io.BytesIO):
    """A file with the name that makes FFmpeg believe most of it."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def worker(data, _name):
    open_container(io.BytesIO(data), Limits()).close()


def protocols_refused(data, name):
    """Open as the worker does, but with every format allowed."""
    opening.FORMATS = ",".join(sorted(av.formats_available))
    worker(data, name)


def plain(data, name, **options):
    drefs = {"enable_drefs": "1", "use_absolute_path": "1"} if name == "x.mov" else {}
    av.open(Named(data, name), options=drefs | options).close()


def formats_only(data, name):
    plain(data, name, format_whitelist=FORMATS)


def protocols_only(data, name):
    plain(data, name, protocol_whitelist="")


WAYS = {
    "worker": worker,
    "worker, all formats": protocols_refused,
    "plain": plain,
    "formats only": formats_only,
    "protocols only": protocols_only,
}


def name_of(lure):
    """The name that its author would give it."""
    suffixes = {"HLS": "m3u8", "con": "ffconcat", "SDP": "sdp", "vob": "idx", "MOV": "mov"}
    return f"x.{suffixes.get(lure[:3], 'bin')}"


def opened(way, data, name, *, free):
    """Open in a process of its own; tells how that ended: "opened", the error, or the signal that ended the process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE_S)
        prctl(38, 1)
        if not free:
            seccomp.restrict(os.getpid(), otherwise=seccomp.KILL)
        try:
            way(data, name)
            said = "opened"
        except (TaskError, av.FFmpegError) as error:
            said = f"{type(error).__name__}: {error}"
        except BaseException as error:  # noqa: BLE001  told to the parent
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 10_000).decode()
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said if code == 0 else signal.Signals(-code).name


def main(secret, port, udp_port, ways, free=""):
    cases = lures(Path(secret), int(port), int(udp_port)) | {"a good video": a_video()}
    worker(cases["a good video"], "")  # what is imported, read or allocated once, is so now
    os.chdir(Path(secret).parent)
    found = {
        lure: {way: opened(WAYS[way], data, name_of(lure), free=bool(free)) for way in ways.split(";")}
        for lure, data in cases.items()
    }
    print(json.dumps(found))  # noqa: T201  the test reads it


if __name__ == "__main__":
    main(*sys.argv[1:])
