"""The command line without a broker: what it prints, what it refuses, what it imports."""

import os
import subprocess
import sys

import pytest

from worker import __version__
from worker.messages.schema import write_schemas

COMMAND = [sys.executable, "-m", "worker"]

pytestmark = pytest.mark.usefixtures("clean_environment")


def test_the_version_is_printed(call):
    assert call("--version") == (0, f"frame-capture {__version__}\n", "")


@pytest.mark.parametrize("command", ["serve", "run", "submit", "watch", "cancel", "topology", "schemas"])
def test_each_command_tells_what_it_does(call, command):
    status, out, err = call(command, "--help")
    assert (status, err) == (0, "")
    assert "settings.md" in out or command != "serve"
    assert "Exit status:" in out


def test_schemas_are_written_where_asked(call, tmp_path):
    status, out, _ = call("schemas", str(tmp_path / "ours"))
    assert status == 0
    theirs = write_schemas(tmp_path / "theirs")
    assert [line.removeprefix(str(tmp_path / "ours")) for line in out.splitlines()] == [
        str(path).removeprefix(str(tmp_path / "theirs")) for path in theirs
    ]


def test_a_directory_that_cannot_be_written_is_named(call, tmp_path):
    (tmp_path / "file").write_text("")
    status, out, err = call("schemas", str(tmp_path / "file" / "x"))
    assert (status, out) == (2, "")
    assert err == f"frame-capture: cannot write the schemas to {tmp_path}/file/x: Not a directory\n"


def test_the_version_does_not_wait_for_the_worker_to_be_imported():
    code = "import sys, worker.cli.app; print([name for name in ('av', 'aio_pika', 'botocore') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


def test_a_local_store_does_not_wait_for_s3_to_be_imported():
    code = "import sys, worker.service; print('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_one_task_on_a_local_store_does_not_wait_for_what_only_a_service_needs():
    libraries = (
        "aio_pika",
        "aiormq",
        "rich",
        "structlog",
        "aiohttp",
        "botocore",
        "m3u8",
        "cryptography",
        "alibabacloud_imm20200930",
    )
    code = f"import sys, worker.cli.app, worker.lone; print([name for name in {libraries} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


def test_the_command_line_searches_no_installed_packages_for_plugins():
    """That takes longer than most imports, the longer the more is installed."""
    code = (
        "import gc, importlib.metadata as packages, sys\n"
        "packages.distributions = lambda: sys.exit('searched')\n"
        "sys.argv[1:] = ['--version']\n"
        "from worker.__main__ import main\n"
        "try: main()\n"
        "finally: print(gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout.splitlines()[-1]) == (0, "", "True")


def test_ctrl_c_while_importing_ends_quietly(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*COMMAND, "--version"], env=environ, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("command", ["run", "submit"])
def test_a_file_that_is_not_there_is_named(call, command):
    status, out, err = call(command, "no-such-task.json")
    assert (status, out) == (2, "")
    assert err == "frame-capture: cannot read the task message no-such-task.json: No such file or directory\n"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("a.json", "b.json", "--task-id", "mine"), "one id is for one task; got 2 tasks"),
        (("a.json", "--task-id", ""), "an id is not empty"),
        (("a.json", "--json"), "--json: it needs --watch"),
        (("a.json", "--limit", "3"), "--limit: it needs --watch"),
        (("-", "-"), "give - once"),
    ],
)
def test_options_that_do_not_go_together_are_refused(call, args, told):
    status, _, err = call("submit", *args)
    assert status == 2
    assert told in err


@pytest.mark.parametrize("task_id", ["", "x" * 256])
def test_what_can_be_no_id_is_not_cancelled(call, task_id):
    status, out, err = call("cancel", task_id)
    assert (status, out) == (2, "")
    assert "a TaskId has 1 to 255 characters" in err
