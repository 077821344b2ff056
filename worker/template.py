"""Object URIs and output templates: reads them, refuses what could escape a bucket or a prefix, and expands them.

Owns the grammar of the specification's section 2, as code and as the patterns that the JSON Schema publishes.
Knows nothing of messages or stores. Text is never given to `str.format`: it is untrusted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from urllib.parse import unquote

from worker.errors import Code, TaskError
from worker.media.plan import Format
from worker.task import Location, Template

MAX_KEY_BYTES = 1024
_MAX_FILLED = 8 * MAX_KEY_BYTES  # characters, with `{index}`, 7 for one digit at least, as it is written
DEFAULT_SUFFIX = "_{streamindex}_{index}.{autoext}"
FIELDS = (
    *("bucket", "key", "dirname", "barename", "basename", "ext", "index", "autoext", "streamindex"),
    *("t_year", "t_mon", "t_day", "t_hour", "t_min", "t_sec", "tags.<name>"),
)

_BUCKET = r"(?![^/]*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_TAG = r"tags\.[A-Za-z0-9_-]{1,128}"
_FIELD = rf"(?:{'|'.join(FIELDS[:-1])}|index:0[1-9]d|{_TAG})"
_BUCKET_FIELD = rf"\{{(?:bucket|{_TAG})\}}"
_SEPARATOR = r"(?:/|%2[Ff])"
_DOTS = r"(?:\.|%2[Ee]){1,2}"
_FAULT = (
    rf"{_SEPARATOR}(?:{_SEPARATOR}|{_DOTS}(?:{_SEPARATOR}|$)|$)"
    r"|[\x00-\x1f\x7f\\]|%(?:[01][0-9A-Fa-f]|7[Ff]|5[Cc])"
)
LOCATION_PATTERN = rf"^(?:oss|s3|file)://{_BUCKET}(?=/)(?![\s\S]*(?:{_FAULT}))/[\s\S]+$"
TEMPLATE_PATTERN = (
    rf"^(?:oss|s3|file)://(?:{_BUCKET}|(?:[a-z0-9.-]|{_BUCKET_FIELD})*{_BUCKET_FIELD}(?:[a-z0-9.-]|{_BUCKET_FIELD})*)"
    rf"(?=/)(?![\s\S]*(?:{_FAULT}))/(?:[^{{}}]|\{{\{{|\}}\}}|\{{{_FIELD}\}})+$"
)

_URI = re.compile(r"(oss|s3|file)://([^/]*)(?:/(.*))?", re.DOTALL)
_TOKEN = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OPEN_ESCAPE = re.compile(r"%[0-9A-Fa-f]?$")


def parse_location(uri: str) -> Location:
    """Read the URI of one object. Raises `InvalidArgument`."""
    scheme, bucket, key = _split(uri)
    _check_bucket(bucket, uri)
    _check_key(key, uri)
    return Location(scheme, bucket, key)


def parse_template(
    text: str, *, source: Location, tags: Mapping[str, str], created_at: datetime, image: Format, max_index: int
) -> Template:
    """Read an output template and fill in everything but the index. Raises `InvalidArgument`.

    `max_index` is the highest index it may be expanded with: the key is checked at both ends, and so at all between.
    """
    scheme, bucket_text, key_text = _split(text)
    bucket_tokens, key_tokens = list(_tokens(bucket_text, text)), list(_tokens(key_text, text))
    _check_bucket_fields(bucket_tokens, text)
    _check_segments(key_text, text)
    if not _names_files(key_tokens):
        key_tokens += _tokens(DEFAULT_SUFFIX, text)
    values = _values(source, tags, created_at, image)
    bucket = "".join(_filled(bucket_tokens, values, text))
    _check_bucket(bucket, text)
    template = Template(scheme, bucket, *_pieces(key_tokens, values, text))
    for index in (1, max_index):
        _check_key(expand(template, index).key, text)
    return template


def expand(template: Template, index: int) -> Location:
    """Name the object of the image with this index (from 1)."""
    numbers = [format(index, spec) for spec in template.specs]
    key = "".join(part for pair in zip(template.pieces, [*numbers, ""], strict=True) for part in pair)
    return Location(template.scheme, template.bucket, key)


def clashes(outputs: Sequence[tuple[Template, int]]) -> list[tuple[int, int, str]]:
    """Find outputs that can produce the same object, given the highest index of each.

    Gives the places of two and the URI's `bucket/key`, at most once for each later one. Exact: what differs in its
    constant beginning or end cannot clash, and for the rest all keys are compared. Schemes are not compared, since
    all three may name the same store.
    """
    pairs = combinations(range(len(outputs)), 2)
    suspects = {place for pair in pairs if _could_meet(*(outputs[each][0] for each in pair)) for place in pair}
    owners: dict[str, int] = {}
    found = []
    for place in sorted(suspects):
        names = _names(*outputs[place])
        shared = next((name for name in names if name in owners), "")
        if shared:
            found.append((owners[shared], place, shared))
        owners |= dict.fromkeys(names, place)
    return found


def _could_meet(one: Template, other: Template) -> bool:
    shorter, longer = sorted((one.pieces[0], other.pieces[0]), key=len)
    short_tail, long_tail = sorted((one.pieces[-1], other.pieces[-1]), key=len)
    return one.bucket == other.bucket and longer.startswith(shorter) and long_tail.endswith(short_tail)


def _names(template: Template, max_index: int) -> list[str]:
    """List every `bucket/key` of a template, as `expand` names them, but fast enough for 100,000 of them."""
    pieces = [piece.replace("%", "%%") for piece in template.pieces]
    text = (
        f"{template.bucket}/" + "".join(f"{a}%{b}" for a, b in zip(pieces, template.specs, strict=False)) + pieces[-1]
    )
    repeat = len(template.specs)
    return [text % ((index,) * repeat) for index in range(1, (max_index if repeat else 1) + 1)]


def _split(uri: str) -> tuple[str, str, str]:
    match = _URI.fullmatch(uri)
    if match is None:
        raise _invalid(uri, "must start with oss://, s3:// or file://")
    scheme, bucket, key = match.groups()
    if not bucket:
        raise _invalid(uri, f"has no bucket: write {scheme}://bucket/key")
    if not key:
        raise _invalid(uri, f"has no key: write {scheme}://{bucket}/key")
    return scheme, bucket, key


def _tokens(text: str, uri: str) -> Iterator[str]:
    """Split into literal text and `{fields}`, each checked."""
    for part in _TOKEN.findall(text):
        if part in ("{", "}"):
            raise _invalid(uri, f"has a single {part}: write {part}{part} for a literal brace")
        if _is_field(part) and not re.fullmatch(_FIELD, part[1:-1]):
            fields = ", ".join(FIELDS)
            raise _invalid(uri, f"has the unknown field {part[:80]}; known are {fields} and {{index:05d}}")
        yield part


def _is_field(part: str) -> bool:
    return part[0] == "{" and part != "{{"


def _names_files(tokens: list[str]) -> bool:
    """Tell whether the template has `{index}` or an extension of its own, outside its fields' values."""
    if any(part.startswith("{index") for part in tokens):
        return True
    skeleton = "".join("x" if _is_field(part) else part for part in tokens)
    stem, dot, extension = skeleton.rpartition("/")[2].rpartition(".")
    return bool(stem and dot and extension)


def _values(source: Location, tags: Mapping[str, str], created_at: datetime, image: Format) -> dict[str, str]:
    dirname, _, basename = source.key.rpartition("/")
    stem, dot, extension = basename.rpartition(".")
    clock = created_at.astimezone(UTC)
    return {
        "bucket": source.bucket,
        "key": source.key,
        "dirname": dirname,
        "basename": basename,
        "barename": stem or basename,
        "ext": extension if stem and dot else "",
        "autoext": image.value,
        "streamindex": "0",
        "t_year": str(clock.year),
        "t_mon": f"{clock.month:02}",
        "t_day": f"{clock.day:02}",
        "t_hour": f"{clock.hour:02}",
        "t_min": f"{clock.minute:02}",
        "t_sec": f"{clock.second:02}",
        **{f"tags.{name}": value for name, value in tags.items()},
    }


def _fill(part: str, values: Mapping[str, str], uri: str) -> str:
    if not _is_field(part):
        return part.replace("{{", "{").replace("}}", "}")
    name = part[1:-1]
    if name not in values:
        raise _invalid(uri, f"uses {{{name}}}, but Tags has no {name.removeprefix('tags.')!r}")
    return values[name]


def _filled(tokens: list[str], values: Mapping[str, str], uri: str) -> Iterator[str]:
    """Fill in everything but the index. Stops where it is too long for any key: a few fields can name gigabytes."""
    size = 0
    for part in tokens:
        text = part if part.startswith("{index") else _fill(part, values, uri)
        size += len(text)
        if size > _MAX_FILLED:
            raise _invalid(uri, f"is too long with its fields filled in: the most is {MAX_KEY_BYTES} bytes")
        yield text


def _pieces(tokens: list[str], values: Mapping[str, str], uri: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    pieces, specs = [""], []
    for part, text in zip(tokens, _filled(tokens, values, uri), strict=True):
        if not part.startswith("{index"):
            pieces[-1] += text
            continue
        if _OPEN_ESCAPE.search(pieces[-1]):
            raise _invalid(uri, "has a % right before {index}, which some index would turn into an escape such as %2e")
        specs.append(part[1:-1].partition(":")[2] or "d")
        pieces.append("")
    return tuple(pieces), tuple(specs)


def _check_bucket_fields(tokens: list[str], uri: str) -> None:
    for part in tokens:
        if _is_field(part) and not re.fullmatch(_BUCKET_FIELD, part):
            raise _invalid(uri, f"has {part} in its bucket, where only {{bucket}} and {{tags.<name>}} can stand")


def _check_bucket(bucket: str, uri: str) -> None:
    if not re.fullmatch(_BUCKET, bucket):
        raise _invalid(uri, f"has the bucket {bucket[:80]!r}: right are 3 to 63 of a-z, 0-9, '.' and '-', no '..'")


def _check_key(key: str, uri: str) -> None:
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        raise _invalid(uri, f"gives a key of {size} bytes: the most is {MAX_KEY_BYTES}")
    _check_segments(key, uri)


def _check_segments(key: str, uri: str) -> None:
    """Refuse a key that a store, a proxy or a file system could read as another one."""
    plain = unquote(key)
    if _CONTROL.search(plain) or "\\" in plain:
        raise _invalid(uri, f"gives the key {key[:200]!r}, which has a control character or a backslash")
    if not {"", ".", ".."}.isdisjoint(plain.split("/")):
        hint = " ({dirname} is empty for a source in no directory)" if "{dirname}" in uri else ""
        raise _invalid(uri, f"gives the key {key[:200]!r}, in which a segment is empty, '.' or '..'{hint}")


def _invalid(uri: str, what: str) -> TaskError:
    return TaskError(Code.INVALID_ARGUMENT, f"the URI {uri[:200]!r} {what}")
