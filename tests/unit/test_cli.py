"""The command line without a broker."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest

from devkit.media import counter_video
from worker import __version__
from worker.cli.app import main
from worker.cli.environment import UnusableSettingsError, load_settings, variables
from worker.cli.told import read_event
from worker.errors import Code, Problem, TaskError
from worker.messages import Identity, invalid_message_event
from worker.messages.examples import example_event
from worker.messages.schema import write_schemas
from worker.settings import Events

COMMAND = [sys.executable, "-m", "worker"]


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line in this process; returns status, standard output, standard error."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["frame-capture", *args])
        with pytest.raises(SystemExit) as leaving:
            main()
        printed = capsys.readouterr()
        return leaving.value.code, printed.out, printed.err

    return run


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("FRAME_CAPTURE_")]:
        monkeypatch.delenv(name)


# --- settings


WRONG = {
    "too small": ("POOL__SLOTS", "0", "POOL__SLOTS: input should be greater than or equal to 1; got '0' (Decoder proc"),
    "not one of the choices": ("STORE__KIND", "ftp", "STORE__KIND: input should be 'local' or 's3'; got 'ftp'"),
    "no JSON": ("RETRY__DELAYS_S", "5,30", "RETRY__DELAYS_S: should be a JSON list such as [5, 30, 120]; got '5,30'"),
    "misspelt in a section": (
        "AMQP__URLL",
        "x",
        "AMQP__URLL: there is no such setting; did you mean FRAME_CAPTURE_AMQP",
    ),
    "misspelt section": (
        "AMPQ__URL",
        "x",
        "AMPQ__URL: there is no such setting; did you mean FRAME_CAPTURE_AMQP__URL?",
    ),
    "misspelt": ("LOGLEVEL", "info", "LOGLEVEL: there is no such setting; did you mean FRAME_CAPTURE_LOG_LEVEL?"),
    "no such section": ("FOO__BAR", "x", "FOO__BAR: there is no such setting; docs/settings.md lists all"),
    "no section": ("NONSENSE", "2", "NONSENSE: there is no such setting; docs/settings.md lists all"),
    "without its unit": (
        "DRAIN_TIMEOUT",
        "5",
        "DRAIN_TIMEOUT: there is no such setting; did you mean FRAME_CAPTURE_DRAIN_TIMEOUT_S?",
    ),
    "one underscore": (
        "HTTP_PORT",
        "80",
        "HTTP_PORT: there is no such setting; did you mean FRAME_CAPTURE_HTTP__PORT?",
    ),
    "no list of buckets": (
        "STORE__SOURCE_BUCKETS",
        "photos",
        """STORE__SOURCE_BUCKETS: should be a JSON list such as ["photos", "videos/incoming"]; got 'photos'""",
    ),
    "another protocol": ("AMQP__URL", "http://me:hunter2@host/", "AMQP__URL: should be like amqp://user:password@"),
    "no port": ("AMQP__URL", "amqp://me:hunter2@host:port/", "AMQP__URL: should be like amqp://user:password@"),
    "half a host": ("AMQP__URL", "amqp://me:hunter2@[::1/", "AMQP__URL: should be like amqp://user:password@"),
    "no scheme": (
        "STORE__ENDPOINT_URL",
        "127.0.0.1:1",
        "STORE__ENDPOINT_URL: should be like https://host:port, or empty for AWS; got '127.0.0.1:1'",
    ),
    "half a key": ("STORE__ACCESS_KEY_ID", "hunter2", "STORE: set both …__ACCESS_KEY_ID and …__SECRET_ACCESS_KEY"),
    "no such directory": ("SECRETS_DIR", "/no/such", 'SECRETS_DIR: directory "/no/such" does not exist'),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_setting_is_named_with_what_would_be_right(call, monkeypatch, wrong):
    name, value, told = WRONG[wrong]
    monkeypatch.setenv(f"FRAME_CAPTURE_{name}", value)
    status, out, err = call("serve")
    assert (status, out) == (2, "")
    assert err.startswith(f"frame-capture: FRAME_CAPTURE_{told}")
    assert err.count("\n") == 1
    assert "hunter2" not in err


def test_all_wrong_settings_are_told_at_once(call, monkeypatch):
    monkeypatch.setenv("FRAME_CAPTURE_POOL__SLOTS", "many")
    monkeypatch.setenv("FRAME_CAPTURE_HTTP__PORT", "70000")
    monkeypatch.setenv("FRAME_CAPTURE_RETRY__DELAYS_S", "5,30")
    monkeypatch.setenv("FRAME_CAPTURE_HTPP__PORT", "80")
    status, _, err = call("submit", "task.json")
    assert status == 2
    assert [line.split(":")[1].strip() for line in err.splitlines()] == [
        "FRAME_CAPTURE_POOL__SLOTS",
        "FRAME_CAPTURE_RETRY__DELAYS_S",
        "FRAME_CAPTURE_HTTP__PORT",
        "FRAME_CAPTURE_HTPP__PORT",
    ]


@pytest.mark.parametrize("value", ['{"url": "amqp://user:hunter2@host/"', '{"url": ["hunter2"]}'])
def test_secrets_are_not_told(monkeypatch, value):
    monkeypatch.setenv("FRAME_CAPTURE_AMQP", value)
    with pytest.raises(UnusableSettingsError) as wrong:
        load_settings()
    assert "FRAME_CAPTURE_AMQP" in str(wrong.value)
    assert "hunter2" not in str(wrong.value)


def test_variables_that_kubernetes_sets_are_let_be(monkeypatch):
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8080_TCP", "PORT_8080_TCP_ADDR"):
        monkeypatch.setenv(f"FRAME_CAPTURE_{name}", "8080" if "SERVICE" in name else "tcp://10.0.0.1:8080")
        monkeypatch.setenv(f"FRAME_CAPTURE_HTTP_{name}", "8080" if "SERVICE" in name else "tcp://10.0.0.1:8080")
    assert load_settings().http.port == 8080


def test_secrets_come_from_files_and_the_environment_wins(monkeypatch, tmp_path):
    (tmp_path / "frame_capture_amqp__url").write_text("amqp://file/\n")
    (tmp_path / "frame_capture_store__access_key_id").write_text("file\n")
    (tmp_path / "frame_capture_store__secret_access_key").write_text("file\n")
    monkeypatch.setenv("FRAME_CAPTURE_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("FRAME_CAPTURE_AMQP__URL", "amqp://environment/")
    settings = load_settings()
    assert settings.amqp.url.get_secret_value() == "amqp://environment/"
    assert settings.store.access_key_id.get_secret_value() == "file"


def test_every_variable_is_one_that_works(monkeypatch):
    for name, field in variables().items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, bool | int | float | str):
            monkeypatch.setenv(name, str(default))
    assert load_settings().model_fields_set >= {"amqp", "store", "pool", "limits", "retry", "events", "http"}


# --- small commands


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


# --- reading events


@pytest.mark.parametrize("envelope", ["cloudevents", "imm"])
def test_events_are_read_in_either_envelope(envelope):
    told = read_event(example_event("b-training", Events(envelope=envelope)).body)
    assert (told.task_id, told.project, told.status) == ("MediaConvert-example-b-training", "demo", "Succeeded")
    assert (told.terminal, told.exit_status, told.headline) == (True, 0, "Succeeded: 6 images")
    assert told.notes() == []


def content(**changes):
    event = json.loads(example_event("a-cover", Events()).body)
    event["data"] |= changes
    return read_event(json.dumps(event).encode())


def test_states_are_told_in_a_few_words():
    assert content().headline == "Succeeded: 1 image"
    assert content(Status="Running", Progress=40).headline == "Running 40 %"
    retrying = content(Status="Retrying", RetryAfter=5, Code="StorageUnavailable", Message="gone")
    assert retrying.headline == "Retrying in about 5 s, StorageUnavailable: gone"
    assert (retrying.terminal, retrying.percent) == (False, 0)
    failed = content(Status="Failed", Code="CorruptMedia", Message="no frame")
    assert (failed.headline, failed.exit_status) == ("Failed: CorruptMedia: no frame (1 image stored)", 1)


def test_problems_failed_entries_and_warnings_are_told_by_their_path():
    problem = {"Path": "$.Sources", "Code": "MissingSources", "Message": "Sources is required"}
    assert content(Problems=[problem]).notes() == [], "the headline tells the only one"
    told = content(Problems=[problem, problem])
    entry = told.content["Targets"][0]["Image"]["Snapshots"][0]
    entry |= {
        "Code": "LimitExceeded",
        "Message": "too big",
        "Warnings": [{"Code": "SourceTruncated", "Message": "cut"}],
    }
    assert told.notes() == [
        "$.Sources: MissingSources: Sources is required",
        "$.Sources: MissingSources: Sources is required",
        "$.Targets[0].Image.Snapshots[0]: LimitExceeded: too big",
        "$.Targets[0].Image.Snapshots[0]: warning SourceTruncated: cut",
    ]


def test_an_unusable_message_has_a_status_of_its_own():
    error = TaskError(Code.INVALID_ARGUMENT, "$: bad", problems=(Problem("$", "InvalidArgument", "bad"),))
    now = content().content["EndTime"]
    event = invalid_message_event(Identity("id", "demo", "t"), error, settings=Events(), now=_instant(now))
    assert read_event(event.body).exit_status == 2


def test_nothing_in_an_event_commands_the_terminal():
    told = content(Status="Failed", Code="InvalidArgument", Message="\x1b[2J\x1b]0;title\x07", TaskId="\x9b2J")
    assert told.headline.isprintable()
    assert told.task_id.isprintable()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"7", b'{"data": {"TaskId": 1}}', b'{"content": 5}', b"\xff"])
def test_what_is_no_event_is_refused(body):
    with pytest.raises(ValueError):
        read_event(body)


def _instant(text):
    from datetime import datetime

    return datetime.fromisoformat(text)


# --- run


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


def test_bars_are_drawn_on_a_terminal(monkeypatch):
    from rich.console import Console

    from worker.cli import bars

    screen = io.StringIO()
    monkeypatch.setattr(
        bars, "Console", lambda **options: Console(file=screen, force_terminal=True, width=100, highlight=False)
    )
    with bars.Bars() as shown:
        shown.add("MediaConvert-example-a-cover", "a [bold] label")
        shown.show(content(Status="Running", Progress=40))
        shown.show(content())
        shown.add("another", "invalid")
        shown.show(content(TaskId="another", Status="Failed", Code="InvalidArgument", Message="", Targets=[]))
    last, invalid = screen.getvalue().rsplit("a [bold] label", 1)[1].split("invalid")
    assert "  0 %" in invalid
    assert "Failed" in invalid
    assert "image" not in invalid
    assert "100 %" in last
    assert "Succeeded (1 image)" in last


# --- cancel


@pytest.mark.parametrize("task_id", ["", "x" * 256])
def test_what_can_be_no_id_is_not_cancelled(call, task_id):
    status, out, err = call("cancel", task_id)
    assert (status, out) == (2, "")
    assert "a TaskId has 1 to 255 characters" in err
