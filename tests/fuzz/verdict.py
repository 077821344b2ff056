"""What must hold of the end of every task, however bad its source is; whatever does not is a finding."""

import hashlib
import io
import math
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from tests.fuzz.world import BUCKET, Told

KNOWN = {
    "InvalidArgument", "LimitExceeded", "ResourceNotFound", "AccessDenied", "UnsupportedMedia", "CorruptMedia",
}  # fmt: skip
"""Codes that say something about the source or the task. All others accuse the worker."""
HANGS = ("POOL__CPU_TIME_LIMIT_S", "POOL__SILENCE_LIMIT_S", "POOL__HARD_TIME_LIMIT_S")


def findings(told: Told, folder: Path, own: str) -> list[str]:
    """List what is wrong with a task's end: `folder` has its images, `own` is the prefix of what it may read.

    Each finding begins with its kind: crash, hang, memory, error, escape, wrong. (`truth` adds unlike.)
    """
    end = told.end
    if [each["Status"] for each in told.events[:-1]] not in ([], ["Running"]) and not _only_running(told):
        return [f"error: events {[each['Status'] for each in told.events]}"]
    if end.get("Status") not in {"Succeeded", "Failed"}:
        return [f"error: it ended with {end}"]
    if told.settled not in (["ack"], ["park", "ack"]):
        return [f"error: it was settled by {told.settled}"]
    outside = sorted(key for key in told.read if not key.startswith(own))
    return [*(f"escape: {key} was asked for" for key in outside), *_code(end), *_images(end, folder)]


def _only_running(told: Told) -> bool:
    return all(each["Status"] == "Running" for each in told.events[:-1])


def _code(end: dict) -> Iterator[str]:
    code, message = end["Code"], end["Message"]
    if (end["Status"] == "Succeeded") != (code == ""):
        yield f"error: {end['Status']} with code {code!r}"
    kind = kind_of(code, message)
    if kind:
        yield f"{kind}: {code}: {message}"
    if code and not message:
        yield f"error: {code} without a message"


def kind_of(code: str, message: str) -> str:
    """Tell which kind of finding an error is; empty for one that is an honest answer."""
    if code == "WorkerCrashed":
        return "crash"
    if code == "Timeout" or any(name in message for name in HANGS):
        return "hang"
    if "POOL__MEMORY_BYTES" in message:
        return "memory"
    return "" if code in KNOWN or not code else "error"


def _images(end: dict, folder: Path) -> Iterator[str]:
    """The images in the store are those of the manifest, in order, and each can be shown."""
    listed = set()
    for target in end["Targets"]:
        for snapshot in target["Image"]["Snapshots"]:
            frames = snapshot.get("Frames", [])
            if end["Status"] == "Succeeded" and (not frames or snapshot.get("Code")):
                yield f"wrong: an empty success: {snapshot}"
            if snapshot.get("Count", 0) != len(frames):
                yield f"wrong: {snapshot['Count']} images are counted, {len(frames)} listed"
            times = [frame["Time"] for frame in frames]
            if times != sorted(times) or not all(math.isfinite(time) and time >= 0 for time in times):
                yield f"wrong: times {times}"
            for frame in frames:
                path = folder / frame["URI"].rpartition("/")[2]
                listed.add(path.name)
                yield from _image(frame, path)
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if there != listed and end["Status"] == "Succeeded":
        yield f"wrong: {sorted(there)} are stored, {sorted(listed)} listed"


def _image(frame: dict, path: Path) -> Iterator[str]:
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            size = image.size
    except OSError as error:
        yield f"wrong: {path.name}: {error}"
        return
    if (frame["Bytes"], frame["Sha256"]) != (len(data), hashlib.sha256(data).hexdigest()):
        yield f"wrong: {path.name} is not what the manifest tells"
    if size != (frame["Width"], frame["Height"]):
        yield f"wrong: {path.name} has {size} pixels, the manifest tells {frame['Width']}×{frame['Height']}"


def answer_of(told: Told) -> str:
    """Give the answer in one word: the code, or that it succeeded."""
    return told.end.get("Code") or told.end.get("Status", "none")


def output_uri(number: object, entry: int) -> str:
    """Where a task's entry is to be stored."""
    return f"oss://{BUCKET}/out/{number}/{entry}-{{index}}.{{autoext}}"
