"""`make demo`: the example tasks through a real RabbitMQ, a real worker and real storage, to images to look at.

Starts all it needs on free loopback ports, and stops all it started, also on Ctrl-C and on errors. What it makes is in
`demo-output/`, nothing else is touched.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from rich import box
from rich.console import Console
from rich.table import Column, Table

from devkit.broker import broker
from devkit.contact_sheet import Section, SheetImage, write_sheet
from devkit.media import counter_video, cover_mp3
from devkit.ports import free_ports
from devkit.s3 import S3Server, seaweed
from worker.messages.examples import EXAMPLE_TASKS

OUTPUT = Path("demo-output")
BUCKETS = OUTPUT / "buckets"  # the local store itself, or a copy of what is in the S3 server
BUCKET = "examplebucket"
COMMAND = [sys.executable, "-m", "worker"]
READY_DEADLINE_S = 60
TASKS_DEADLINE_S = 300
STOP_DEADLINE_S = 40  # above the worker's own drain time

TITLES = {
    "a-cover": ("Cover", "One image at 5 s, under a fixed key."),
    "b-training": ("Training images", "Every 10 s, cropped to 512×512."),
    "c-segment": ("A segment", "Five frames from 11 s on, 4 s apart, as PNG at half the size."),
    "d-events": ("Scene changes", "Samples every second; those that differ from the one before by more than 15 %."),
    "e-representative": ("Representative frames", "The five largest changes of samples every second, in time order."),
    "f-keyframes": ("Keyframes", "All frames that can be decoded on their own."),
    "g-evenly": ("Evenly spread", "Ten frames, whatever the length."),
    "h-audio-cover": ("Audio cover", "The picture in an MP3."),
}


@dataclass(slots=True)
class Demo:
    """What is said and running. `env` is what the worker and its commands find everything by."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    started: float = field(default_factory=time.monotonic)
    env: dict[str, str] = field(default_factory=dict)

    def say(self, text: str) -> None:
        self.console.print(f"{time.monotonic() - self.started:5.1f} s  {text}", markup=False)

    @property
    def environ(self) -> dict[str, str]:
        """The environment without the user's own settings, with ours."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("FRAME_CAPTURE_")}
        return mine | self.env


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m devkit.demo", description=__doc__)
    parser.add_argument("--store", choices=("local", "s3"), default="local")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    demo = Demo()
    try:
        return _run(demo, s3=options.store == "s3", keep=options.keep)
    except KeyboardInterrupt:
        demo.say("interrupted; everything that was started is stopped")
        return 130


def _run(demo: Demo, *, s3: bool, keep: bool) -> int:
    with contextlib.ExitStack() as stack:
        tasks = _make_input(demo)
        demo.say("starting RabbitMQ")
        node = stack.enter_context(broker())
        demo.say(f"RabbitMQ is up (AMQP on port {node.port})")
        demo.env = {"FRAME_CAPTURE_AMQP__URL": node.url}
        server = _open_store(demo, stack, s3=s3)
        worker = stack.enter_context(_worker(demo))
        demo.say(f"submitting {len(tasks)} tasks: frame-capture submit --watch {OUTPUT}/tasks/*.json")
        command = [*COMMAND, "submit", "--watch", "--json", *map(str, tasks)]
        try:
            done = subprocess.run(
                command, env=demo.environ, stdout=subprocess.PIPE, check=False, timeout=TASKS_DEADLINE_S
            )
        except subprocess.TimeoutExpired:
            raise SystemExit(f"the tasks were not over in {TASKS_DEADLINE_S} s: see {OUTPUT}/worker.log") from None
        results = [json.loads(line)["data"] for line in done.stdout.splitlines()]
        if server is not None:
            _download(demo, server, results)
        sheet = _report(demo, list(TITLES), results)
        if keep:
            _wait_for_interrupt(demo)
        status = _drain(demo, worker)
    demo.say("stopped RabbitMQ" + (" and SeaweedFS" if s3 else ""))
    demo.say(f"the images: {BUCKETS.resolve()}")
    demo.say(f"all of them on one page: {sheet.resolve().as_uri()}")
    return done.returncode or status


def _make_input(demo: Demo) -> list[Path]:
    """Write the media and the task messages; returns the messages."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    bucket = BUCKETS / BUCKET
    for directory in (bucket / "videos", bucket / "music", OUTPUT / "tasks"):
        directory.mkdir(parents=True)
    demo.say("making a sample video, one minute of 1280×720 with a scene change every 3 s, and an MP3 with a cover")
    counter_video(bucket / "videos" / "sample.mp4", gop=125)
    cover_mp3(bucket / "music" / "song.mp3")
    paths = []
    for name in TITLES:
        paths.append(OUTPUT / "tasks" / f"{name}.json")
        paths[-1].write_text(json.dumps(EXAMPLE_TASKS[name], indent=2) + "\n", encoding="utf-8")
    return paths


def _open_store(demo: Demo, stack: contextlib.ExitStack, *, s3: bool) -> S3Server | None:
    """Set the store up with the media in it; returns the S3 server if there is to be one."""
    if not s3:
        demo.env |= {"FRAME_CAPTURE_STORE__KIND": "local", "FRAME_CAPTURE_STORE__ROOT": str(BUCKETS.resolve())}
        return None
    demo.say("starting SeaweedFS")
    server = stack.enter_context(seaweed())
    demo.say(f"SeaweedFS is up (S3 on {server.endpoint}); uploading the media")
    server.create_bucket(BUCKET)
    with contextlib.closing(server.client()) as client:
        for path in (BUCKETS / BUCKET).rglob("*.mp[34]"):
            key = path.relative_to(BUCKETS / BUCKET).as_posix()
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    store = {
        "KIND": "s3",
        "ENDPOINT_URL": server.endpoint,
        "REGION": server.region,
        "ADDRESSING": "path",
        "ACCESS_KEY_ID": server.access_key,
        "SECRET_ACCESS_KEY": server.secret_key,
    }
    demo.env |= {f"FRAME_CAPTURE_STORE__{name}": value for name, value in store.items()}
    return server


@contextlib.contextmanager
def _worker(demo: Demo) -> Iterator[subprocess.Popen[bytes]]:
    """Run `frame-capture serve`, from the moment it is ready until the block ends."""
    (port,) = free_ports(1)
    demo.env |= {"FRAME_CAPTURE_HTTP__HOST": "127.0.0.1", "FRAME_CAPTURE_HTTP__PORT": str(port)}
    log = OUTPUT / "worker.log"
    demo.say(f"starting the worker: frame-capture serve (HTTP on port {port}, logs in {log})")
    with log.open("wb") as output:
        # In a session of its own Ctrl-C does not reach it: it is stopped by us, in order.
        process = subprocess.Popen([*COMMAND, "serve"], env=demo.environ, stderr=output, start_new_session=True)
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}/readyz", log)
        demo.say("the worker is ready")
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_DEADLINE_S)
            finally:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + READY_DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), opener.open(url, timeout=5):
            return
        time.sleep(0.05)
    state = "is not ready" if process.poll() is None else f"ended with status {process.returncode}"
    raise SystemExit(f"the worker {state}; its log, {log}, ends:\n{log.read_text(errors='replace')[-3000:]}")


def _drain(demo: Demo, worker: subprocess.Popen[bytes]) -> int:
    """Stop the worker as an orchestrator would; returns 1 unless it left in order."""
    demo.say("stopping the worker with SIGTERM")
    worker.terminate()
    status = worker.wait(STOP_DEADLINE_S)
    demo.say(f"the worker {'drained' if status == 0 else 'did not drain'}: exit status {status}")
    return int(status != 0)


def _wait_for_interrupt(demo: Demo) -> None:
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in demo.env.items() if "HTTP" not in name)
    demo.say(f"everything keeps running until Ctrl-C. In another terminal:\nexport {settings}")
    demo.console.print(".venv/bin/frame-capture submit --watch TASK.json", markup=False)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


# --- the results


def _images(result: dict[str, Any]) -> list[dict[str, Any]]:
    entries = [entry for target in result.get("Targets", []) for entry in target["Image"]["Snapshots"]]
    return [frame for entry in entries for frame in entry.get("Frames", [])]


def _path_of(frame: dict[str, Any]) -> Path:
    return BUCKETS / str(frame["URI"]).partition("://")[2]


def _download(demo: Demo, server: S3Server, results: list[dict[str, Any]]) -> None:
    frames = [frame for result in results for frame in _images(result)]
    demo.say(f"downloading {len(frames)} images")
    with contextlib.closing(server.client()) as client:
        for frame in frames:
            path = _path_of(frame)
            path.parent.mkdir(parents=True, exist_ok=True)
            bucket, _, key = str(frame["URI"]).partition("://")[2].partition("/")
            path.write_bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())


def _report(demo: Demo, names: list[str], results: list[dict[str, Any]]) -> Path:
    """Print a table of what became of the tasks, and write the contact sheet; returns its path."""
    table = Table(
        "task", "status", "images", Column(f"where, in {BUCKETS}/{BUCKET}/", overflow="fold"), box=box.SIMPLE_HEAD
    )
    sections: list[Section] = []
    for name, result in zip(names, results, strict=False):
        frames = _images(result)
        status = result["Status"] if result["Status"] == "Succeeded" else f"{result['Code']}: {result['Message']}"
        where = {str(_path_of(frame).relative_to(BUCKETS / BUCKET)) for frame in frames}
        table.add_row(name, status, str(len(frames)), os.path.commonpath(where) if where else "")
        title, text = TITLES[name]
        images: list[SheetImage] = [(_path_of(frame), _caption(frame)) for frame in frames]
        sections.append((title, f"{text}\nTask {name}: {status}.", images))
    demo.console.print(table)
    sheet = OUTPUT / "index.html"
    lead = (
        "What the example tasks captured. The number at the top of each picture is the frame's, at 25 frames a second."
    )
    write_sheet(sheet, "frame-capture demo", sections, lead=lead)
    return sheet


def _caption(frame: dict[str, Any]) -> str:
    score = f", score {frame['Score']:g} %" if "Score" in frame else ""
    size = f"{frame['Width']}×{frame['Height']}, {frame['Bytes'] / 1000:.1f} kB"
    time_s = f"{frame['Time']:.3f} s" if frame["SourcePts"] >= 0 else "cover"
    return f"{frame['Index']}: {time_s}{score}\n{size}"


if __name__ == "__main__":
    sys.exit(main())
