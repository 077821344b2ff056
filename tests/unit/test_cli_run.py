"""One task by `frame-capture run`, without a broker, in a process of its own."""

import json
import os
import signal
import subprocess
import sys

import pytest

from devkit.media import counter_video

COMMAND = [sys.executable, "-m", "worker"]

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory of buckets with a short video."""
    directory = tmp_path_factory.mktemp("buckets")
    (directory / "media").mkdir()
    counter_video(directory / "media" / "short.mp4", width=320, height=180, seconds=8)
    return directory


def message(source="media/short.mp4", **snapshot):
    snapshot = {"Format": "jpg", "URI": "oss://media/out/{index}.{autoext}", "Interval": 2} | snapshot
    targets = [{"Image": {"Snapshots": [snapshot]}}]
    return json.dumps({"ProjectName": "demo", "Sources": [{"URI": f"oss://{source}"}], "Targets": targets})


def run(root, text, *more):
    return subprocess.run(
        [*COMMAND, "run", "-", "--root", root, *more],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_task_runs_without_a_broker(root):
    done = run(root, message())
    assert done.returncode == 0, done.stderr
    event = json.loads(done.stdout)  # nothing else is there
    assert done.stdout.count("\n") == 1
    assert event["data"]["Status"] == "Succeeded"
    frames = event["data"]["Targets"][0]["Image"]["Snapshots"][0]["Frames"]
    assert [frame["Time"] for frame in frames] == [0, 2, 4, 6]
    assert [(root / "media" / "out" / f"{k}.jpg").stat().st_size for k in (1, 2, 3, 4)] == [
        frame["Bytes"] for frame in frames
    ]
    assert done.stderr.splitlines()[0] == "stdin: Running 0 %"
    assert done.stderr.splitlines()[-1] == "Succeeded: 4 images"


def test_a_root_that_is_not_there_is_named_and_not_made(root):
    done = run(root / "nope", message())
    assert (done.returncode, done.stdout) == (2, "")
    assert f"the directory of buckets {root}/nope cannot be used: No such file or directory" in done.stderr
    assert not (root / "nope").exists()


def test_a_task_can_come_from_a_file(root, tmp_path):
    (tmp_path / "cover.task.json").write_text(message(Number=1))
    command = [*COMMAND, "run", tmp_path / "cover.task.json", "--root", root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "cover: Running 0 %")


def test_a_task_that_fails_ends_with_1(root):
    done = run(root, message("media/no-such.mp4"))
    assert done.returncode == 1
    assert json.loads(done.stdout)["data"]["Code"] == "ResourceNotFound"
    assert "Failed: ResourceNotFound: " in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unusable_message_ends_with_2_and_all_that_is_wrong(root):
    done = run(root, message(Treshold=3, Width=-1).replace('"demo"', '"de mo"'))
    assert done.returncode == 2
    event = json.loads(done.stdout)
    assert (event["data"]["Status"], len(event["data"]["Problems"])) == ("Failed", 3)
    for path in (
        "$.ProjectName: ",
        "$.Targets[0].Image.Snapshots[0].Treshold: ",
        "$.Targets[0].Image.Snapshots[0].Width: ",
    ):
        assert f"\n  {path}" in done.stderr


def test_what_is_no_json_ends_with_2(root):
    done = run(root, "not JSON")
    assert done.returncode == 2
    assert "the message is not JSON in UTF-8: expected ident" in done.stderr


def test_ctrl_c_ends_a_run_quietly(root):
    command = [*COMMAND, "run", "-", "--root", root]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        process.stdin.write(message(Format="avif", Interval=0, Width=4096, Height=4096).encode())
        process.stdin.close()
        assert process.stderr.readline() == b"stdin: Running 0 %\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stdout.read() == b""
        assert process.stderr.read() == b"interrupted; images that were stored already stay\n"
