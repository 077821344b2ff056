"""The command line with a real broker, in processes of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from devkit.media import counter_video
from devkit.ports import free_ports

COMMAND = [sys.executable, "-m", "worker"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory of buckets with a short video."""
    directory = tmp_path_factory.mktemp("buckets")
    (directory / "media").mkdir()
    counter_video(directory / "media" / "short.mp4", width=320, height=180, seconds=8)
    return directory


@pytest.fixture
def environ(amqp, root):
    """The environment of commands that use the test's own exchanges and queues."""
    settings = {
        "AMQP__URL": amqp.url.get_secret_value(),
        "AMQP__NAMESPACE": amqp.namespace,
        "STORE__ROOT": str(root),
        "HTTP__HOST": "127.0.0.1",
        "HTTP__PORT": "0",
        "POOL__SLOTS": "1",
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("FRAME_CAPTURE_")}
    return others | {f"FRAME_CAPTURE_{name}": value for name, value in settings.items()}


@contextmanager
def started(environ, *args):
    """Run a command in the background; killed at the end if it is still there."""
    command = [*COMMAND, *args]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def call(environ, *args):
    return subprocess.run([*COMMAND, *args], env=environ, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def serving(environ):
    """Run a worker that is ready."""
    with started(environ, "serve") as process:
        line = process.stderr.readline()
        while line and json.loads(line)["event"] != "serving":
            line = process.stderr.readline()
        assert line, "the worker ended before it served"
        yield process


@pytest.fixture
def write_task(tmp_path):
    def write(name, source="media/short.mp4", **snapshot):
        snapshot = {"Format": "jpg", "URI": f"oss://media/{name}/{{index}}.{{autoext}}", "Interval": 2} | snapshot
        targets = [{"Image": {"Snapshots": [snapshot]}}]
        message = {"ProjectName": "demo", "Sources": [{"URI": f"oss://{source}"}], "Targets": targets}
        path = tmp_path / f"{name}.task.json"
        path.write_text(json.dumps(message))
        return str(path)

    return write


def test_tasks_are_followed_to_their_ends(environ, root, write_task):
    good, gone = write_task("good"), write_task("gone", "media/no-such.mp4")
    with serving(environ) as worker:
        done = call(environ, "submit", "--watch", good, gone)
        assert done.returncode == 1
        ids, ends = done.stdout.splitlines()[:2], done.stdout.splitlines()[2:]
        assert [line.split("  ")[1] for line in ids] == ["good", "gone"]
        assert all(line.startswith("MediaConvert-") for line in ids)
        assert ends[0] == "good: Succeeded: 4 images"
        assert ends[1].startswith("gone: Failed: ResourceNotFound: ")
        assert "good: Running 0 %" in done.stderr.splitlines()
        assert len(list((root / "media" / "good").iterdir())) == 4

        assert call(environ, "submit", "--watch", good).returncode == 0
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0


def test_an_unusable_message_is_told_by_whoever_watches(environ, write_task):
    with serving(environ):
        done = call(environ, "submit", "--watch", write_task("bad", Treshold=1, Width=-1), write_task("good"))
    assert done.returncode == 2
    assert "\n  $.Targets[0].Image.Snapshots[0].Treshold: InvalidArgument: there is no field" in done.stdout
    assert "\n  $.Targets[0].Image.Snapshots[0].Width: InvalidArgument: " in done.stdout


def test_terminal_events_can_be_had_as_json_in_the_order_of_the_tasks(environ, write_task):
    with serving(environ):
        done = call(environ, "submit", "--watch", "--json", write_task("long", Interval=0), write_task("one", Number=1))
    assert done.returncode == 0
    events = [json.loads(line)["data"] for line in done.stdout.splitlines()]
    assert [event["Targets"][0]["Image"]["Snapshots"][0]["Count"] for event in events] == [200, 1]


def test_a_task_that_nobody_serves_yet_is_kept(environ, write_task):
    done = call(environ, "submit", write_task("early"), "--task-id", "early-1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "early-1  early\n", "")
    with started(environ, "watch", "--json") as watcher:
        assert "Ctrl-C ends it" in watcher.stderr.readline()
        with serving(environ):
            event = json.loads(watcher.stdout.readline())
    assert (event["subject"], event["data"]["Status"]) == ("early-1", "Running")


def test_following_tells_that_nobody_works_and_ends_at_its_limit(environ, write_task):
    done = call(environ, "submit", "--watch", "--limit", "5", write_task("waits"))
    assert done.returncode == 1
    assert f"queued; nobody consumes {environ['FRAME_CAPTURE_AMQP__NAMESPACE']}.tasks.main now" in done.stderr
    assert done.stderr.splitlines()[-1] == "0 of 1 tasks were over in 5 s; no longer following"


def test_events_are_shown_until_ctrl_c(environ, write_task):
    with started(environ, "watch", "--project", "demo") as watcher, serving(environ):
        assert "for *.demo.*; Ctrl-C ends it" in watcher.stderr.readline()
        call(environ, "submit", write_task("seen"), "--task-id", "seen-1")
        lines = [watcher.stdout.readline()]
        while "Succeeded" not in lines[-1]:
            lines.append(watcher.stdout.readline())
        assert lines[0].rstrip().endswith("  demo  seen-1  Running 0 %")
        assert lines[-1].rstrip().endswith("  demo  seen-1  Succeeded: 4 images")
        os.killpg(watcher.pid, signal.SIGINT)
        assert watcher.wait(30) == 0
        assert watcher.stderr.read().strip() == ""


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["serve"], 0),
        (["watch"], 0),
        (["submit", "TASK"], 130),
        (["cancel", "any"], 130),
        (["topology"], 130),
        (["dead", "list"], 130),
    ],
)
def test_ctrl_c_ends_each_command_with_its_status(environ, write_task, command, status):
    command = [write_task("any") if word == "TASK" else word for word in command]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}/"
        with started(environ | {"FRAME_CAPTURE_AMQP__URL": url}, *command) as process:
            connection, _ = silent.accept()  # so it is under way
            with connection:
                os.killpg(process.pid, signal.SIGINT)
                assert process.wait(30) == status
                assert "Traceback" not in process.stderr.read()


def test_ctrl_c_lets_a_worker_finish(environ):
    with serving(environ) as worker:
        os.killpg(worker.pid, signal.SIGINT)
        assert worker.wait(30) == 0


def test_ctrl_c_ends_following_quietly(environ, write_task):
    with started(environ, "submit", "--watch", write_task("unserved"), "--task-id", "unserved-1") as submitter:
        assert submitter.stdout.readline() == "unserved-1  unserved\n"
        os.killpg(submitter.pid, signal.SIGINT)
        assert submitter.wait(30) == 130
        assert submitter.stderr.read() == "no longer following; what was submitted is done all the same\n"


def test_the_topology_is_made_and_checked(environ, amqp):
    missing = call(environ, "topology", "--check")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert f"queue {amqp.namespace}.tasks.main is not usable" in missing.stderr
    made = call(environ, "topology")
    assert (made.returncode, made.stderr) == (0, "")
    assert f"queue {amqp.namespace}.tasks.main" in made.stdout.splitlines()
    assert call(environ, "topology", "--check").stdout == made.stdout


def test_a_queue_with_other_arguments_is_told(environ, write_task):
    assert call(environ, "topology").returncode == 0
    other = environ | {"FRAME_CAPTURE_AMQP__DELIVERY_LIMIT": "7"}
    for args in (("topology",), ("topology", "--check"), ("submit", write_task("any"))):
        done = call(other, *args)
        assert done.returncode == 1
        assert "x-delivery-limit" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["topology"], ["watch"], ["submit", "TASK"]])
def test_a_broker_that_is_not_there_is_told_soon(environ, write_task, command):
    (port,) = free_ports(1)
    command = [write_task("any") if word == "TASK" else word for word in command]
    before = time.monotonic()
    done = call(environ | {"FRAME_CAPTURE_AMQP__URL": f"amqp://127.0.0.1:{port}/"}, *command, "--timeout", "1")
    assert time.monotonic() - before < 15
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "frame-capture: RabbitMQ was not reachable for 1 s; is FRAME_CAPTURE_AMQP__URL right?"
    )
    assert done.stderr.count("\n") == 1


def test_a_worker_without_store_says_so(environ, tmp_path):
    (tmp_path / "file").touch()
    settings = {"FRAME_CAPTURE_STORE__ROOT": str(tmp_path / "file"), "FRAME_CAPTURE_AMQP__STARTUP_DEADLINE_S": "0.1"}
    done = call(environ | settings, "serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"frame-capture: the directory of buckets {tmp_path}/file cannot be used: Not a directory; make it, "
        "or name another with FRAME_CAPTURE_STORE__ROOT\n"
    )
