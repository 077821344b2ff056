"""Settings that are wrong are told by the command line, all at once, with what would be right."""

import errno
import json
from pathlib import Path

import pytest

from worker.cli.environment import UnusableSettingsError, load_settings, variables

# What they say is not looked at before it is used; the keys and the URL are never told.
TAKE_ANY_TEXT = {"STORE__ROOT", "STORE__REGION", "STORE__SESSION_TOKEN", "EVENTS__SOURCE", "HTTP__HOST"}

pytestmark = pytest.mark.usefixtures("clean_environment")


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
    "an endpoint with a password": (
        "STORE__ENDPOINT_URL",
        "https://me:hunter2@host:9000",
        "STORE__ENDPOINT_URL: should have no user, password, query or fragment: STORE__ACCESS_KEY_ID",
    ),
    "an endpoint with a token": (
        "STORE__ENDPOINT_URL",
        "https://host:9000/?token=hunter2",
        "STORE__ENDPOINT_URL: should have no user, password, query or fragment: ",
    ),
    "no delay": ("RETRY__DELAYS_S", "[0, 5]", "RETRY__DELAYS_S: input should be greater than or equal to 1; got 0"),
    "delays that fall": ("RETRY__DELAYS_S", "[30, 5]", "RETRY__DELAYS_S: should rise from delay to delay, such as [5"),
    "a delay twice": ("RETRY__DELAYS_S", "[5, 5]", "RETRY__DELAYS_S: should rise from delay to delay, such as [5"),
    "a delay beyond the broker": (
        "RETRY__DELAYS_S",
        "[5, 4294968]",
        "RETRY__DELAYS_S: input should be less than or equal to 4294967; got 4294968",
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


URLS = ["amqp://me:hunter2@host:99999/", "me:hunter2@host", '["s3://me:hunter2@host/x"]']


@pytest.mark.parametrize("value", URLS)
@pytest.mark.parametrize("name", variables())
def test_no_setting_tells_a_password_that_it_was_given(monkeypatch, name, value):
    """Also where a URL was meant for another variable."""
    monkeypatch.setenv(name, value)
    try:
        load_settings()
    except UnusableSettingsError as wrong:
        assert name in str(wrong) or "STORE: set both" in str(wrong)
        assert "hunter2" not in str(wrong)
    else:
        assert name.removeprefix("FRAME_CAPTURE_") in TAKE_ANY_TEXT


@pytest.mark.parametrize("section", ["AMQP", "STORE", "RECORDS"])
def test_no_setting_of_a_section_in_json_tells_a_password(monkeypatch, section):
    names = [name.rpartition("__")[2].lower() for name in variables() if f"_{section}__" in name]
    for wrong in ("amqp://me:hunter2@host:99999/", ["hunter2"], {"hunter2": "hunter2"}):
        monkeypatch.setenv(f"FRAME_CAPTURE_{section}", json.dumps(dict.fromkeys(names, wrong)))
        with pytest.raises(UnusableSettingsError) as told:
            load_settings()
        assert len(told.value.lines) >= 1
        assert "hunter2" not in str(told.value)


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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"url": "amqp://me:hunter2@host/"', 'error parsing value for field "amqp"'),
        (b"amqp://me:hunter2\xff@host/", "a file in it is no text in UTF-8"),
    ],
)
def test_a_file_of_secrets_that_cannot_be_used_is_not_told(call, monkeypatch, tmp_path, content, told):
    (tmp_path / "frame_capture_amqp").write_bytes(content)
    monkeypatch.setenv("FRAME_CAPTURE_SECRETS_DIR", str(tmp_path))
    status, out, err = call("serve")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"frame-capture: FRAME_CAPTURE_SECRETS_DIR: {told}")
    assert "hunter2" not in err


def test_a_file_of_secrets_that_may_not_be_read_is_named(call, monkeypatch, tmp_path):
    (tmp_path / "frame_capture_amqp__url").write_text("amqp://host/")
    monkeypatch.setenv("FRAME_CAPTURE_SECRETS_DIR", str(tmp_path))

    def denied(path, *args, **kwargs):  # root, whom tests may run as, may read everything
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", denied)
    status, _, err = call("serve")
    assert status == 2
    told = f"FRAME_CAPTURE_SECRETS_DIR: {tmp_path}/frame_capture_amqp__url cannot be read: Permission denied"
    assert err == f"frame-capture: {told}\n"


def test_every_variable_is_one_that_works(monkeypatch):
    for name, field in variables().items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, bool | int | float | str):
            monkeypatch.setenv(name, str(default))
    assert load_settings().model_fields_set >= {"amqp", "store", "pool", "limits", "retry", "events", "http"}
