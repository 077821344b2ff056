"""The settings as the environment gives them, and what to tell somebody whose environment gives wrong ones."""

import os
import re
from difflib import get_close_matches

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from worker.settings import Settings

PREFIX = "FRAME_CAPTURE_"
SECRETS_DIR = f"{PREFIX}SECRETS_DIR"

# What Kubernetes sets for services whose names begin with frame-capture. Its …_PORT is a URL, unlike a forgotten `_`.
_OF_KUBERNETES = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST=|SERVICE_PORT(_\w+)?=\d|PORT=\w+://|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=).*"
)

_LIKE_URL = re.compile("://|@")


class UnusableSettingsError(Exception):
    """The settings cannot be used; `lines` tell of each wrong variable what would be right."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def load_settings() -> Settings:
    """Read the settings from the environment and from the directory of secrets. Raises `UnusableSettingsError`."""
    try:
        settings = Settings(_secrets_dir=os.environ.get(SECRETS_DIR) or None)
    except ValidationError as error:
        found = [_explained(detail) for detail in error.errors(include_url=False)]
        raise UnusableSettingsError(found + _strangers()) from error
    except SettingsError as error:
        raise UnusableSettingsError([_undecodable(error), *_strangers()]) from error
    except UnicodeDecodeError as error:
        raise UnusableSettingsError([f"{SECRETS_DIR}: a file in it is no text in UTF-8"]) from error
    except OSError as error:
        raise UnusableSettingsError([f"{SECRETS_DIR}: {error.filename} cannot be read: {error.strerror}"]) from error
    if strangers := _strangers():
        raise UnusableSettingsError(strangers)
    return settings


def require_root(settings: Settings) -> None:
    """Look for the directory of buckets, if the store is one: a misspelt one must not begin empty.

    Raises `UnusableSettingsError`.
    """
    root = settings.store.root
    try:
        if settings.store.kind == "local":
            os.scandir(root).close()
    except OSError as error:
        what = f"the directory of buckets {root.absolute()} cannot be used: {error.strerror}"
        raise UnusableSettingsError([f"{what}; make it, or name another with {PREFIX}STORE__ROOT"]) from error


def quiet_level(settings: Settings, otherwise: str) -> str:
    """Choose the log level of a command that itself tells a person what happens: as set, `otherwise` if it is not."""
    return settings.log_level if "log_level" in settings.model_fields_set else otherwise


def variables() -> dict[str, FieldInfo]:
    """Give the field behind each variable, by the variable's name."""
    fields: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            fields |= {f"{PREFIX}{name}__{inner}".upper(): each for inner, each in section.model_fields.items()}
        else:
            fields[f"{PREFIX}{name}".upper()] = field
    return fields


def _explained(detail: ErrorDetails) -> str:
    name = PREFIX + "__".join(part for part in detail["loc"] if isinstance(part, str)).upper()
    if detail["type"] == "extra_forbidden":
        return _unknown(name)
    field = variables().get(name)
    given = f"; got {detail['input']!r}" if field and _may_be_shown(field, detail["input"]) else ""
    meaning = f" ({field.description})" if field and field.description else ""
    return f"{name}: {detail['msg'][:1].lower()}{detail['msg'][1:]}{given}{meaning}"


def _may_be_shown(field: FieldInfo, value: object) -> bool:
    """Tell whether a wrong value can hold no secret: what looks like a URL may have a password, of whatever setting."""
    return (
        field.annotation is not SecretStr and isinstance(value, str | int | float) and not _LIKE_URL.search(str(value))
    )


def _undecodable(error: SettingsError) -> str:
    """Tell which section should be JSON and is not."""
    text = getattr(error.__cause__, "doc", None)
    names = [name for name, value in os.environ.items() if name.startswith(PREFIX) and value == text]
    if not names:
        return f"{SECRETS_DIR}: {error}"
    # A whole section, which may hold secrets.
    return f"{names[0]}: should be a JSON object, or leave it out and set {names[0]}__… each by itself"


def _strangers() -> list[str]:
    """Tell of variables that are named like settings and are none; those in a section pydantic-settings finds."""
    sections = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    return [
        _unknown(name)
        for name, value in sorted(os.environ.items())
        if name.startswith(PREFIX)
        and name.split("__")[0] not in sections
        and name != SECRETS_DIR
        and not _OF_KUBERNETES.match(f"{name}={value}")
    ]


def _unknown(name: str) -> str:
    near = _resembling(name)
    return f"{name}: there is no such setting; " + (f"did you mean {near}?" if near else "docs/settings.md lists all")


def _resembling(name: str) -> str:
    short = {each.removeprefix(PREFIX): each for each in variables()}
    near = get_close_matches(name.removeprefix(PREFIX), short, n=1, cutoff=0.8)
    return short[near[0]] if near else ""
