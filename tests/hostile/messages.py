"""Messages that no worker should take, with the answer to each; more of them, with less told, are in `tests.corpus`."""

import json
from typing import Any

from tests.e2e.media import BUCKET, task
from tests.hostile.rows import Bad

FIRST = "$.Targets[0].Image.Snapshots[0]"
SOURCE = "$.Sources[0].URI"
UNKNOWN = {"project": "unknown"}


def raw(text: str | bytes, says: str, **more: Any) -> Bad:
    """What is not even JSON."""
    return Bad(text if isinstance(text, bytes) else text.encode(), says=says, paths=("$",), **UNKNOWN | more)


def number(text: str, says: str, name: str = "Interval", *, whole: bool = False, unknown: bool = False) -> Bad:
    """A task with a number as no library here writes it; `whole` where it spoils the message, `unknown` all of it."""
    body = json.dumps(task({"Number": 1, name: "@"})).replace('"@"', text).encode()
    return Bad(
        body, says=says, paths=("$",) if whole else (f"{FIRST}.{name}",), project="unknown" if unknown else "demo"
    )


def entry(path: str, says: str, code: str = "InvalidArgument", **members: Any) -> Bad:
    return Bad(task({"Number": 1, **members}), code, says, (f"{FIRST}.{path}",))


def member(path: str, says: str, code: str = "InvalidArgument", **members: Any) -> Bad:
    return Bad(task(**members), code, says, (path,))


def source(uri: str, says: str) -> Bad:
    return Bad(task(Sources=[{"URI": uri}]), says=says, paths=(SOURCE,))


def output(uri: str, says: str, **members: Any) -> Bad:
    return Bad(task({"Number": 1, "URI": uri}, **members), says=says, paths=(f"{FIRST}.URI",))


def keyed(key: str, says: str, **members: Any) -> Bad:
    return output(f"oss://{BUCKET}/{key}", says, **members)


PLAIN = json.dumps(task())

NOT_JSON = {
    "empty body": raw("", "not JSON"),
    "only blanks": raw(" \n\t ", "not JSON"),
    "lists in lists": raw("[" * 100_000, "recursion limit"),
    "objects in objects": raw('{"a":' * 40_000 + "1" + "}" * 40_000, "recursion limit"),
    "UTF-16": raw(PLAIN.encode("utf-16"), "UTF-16 or UTF-32: send UTF-8"),
    "UTF-32": raw(PLAIN.encode("utf-32-be"), "UTF-16 or UTF-32: send UTF-8"),
    "byte order mark": raw(b"\xef\xbb\xbf" + PLAIN.encode(), "byte order mark"),
    "half a UTF-8 sequence": raw(PLAIN.encode().replace(b"demo", b"\xc3"), "not JSON in UTF-8"),
    "overlong UTF-8": raw(PLAIN.encode().replace(b"demo", b"\xc0\xaf"), "not JSON in UTF-8"),
    "lone surrogate": raw(PLAIN.replace("videos", "\\ud800"), "not JSON in UTF-8"),
    "surrogates the wrong way round": raw(PLAIN.replace("videos", "\\udc00\\ud800"), "not JSON in UTF-8"),
    "raw control character": raw(PLAIN.replace("videos", "\x01"), "control character"),
    "text behind it": raw(PLAIN + " x", "trailing characters"),
    "two messages": raw(PLAIN + PLAIN, "trailing characters"),
    "cut off": raw(PLAIN[:-2], "EOF"),
    "a name twice": raw(PLAIN[:-1] + ',"ProjectName":"x"}', "given twice in one object", project="x"),
    "YAML": raw("ProjectName: demo", "not JSON"),
    "pickle": raw(b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x07builtins", "not JSON"),
    "a number": Bad(b"7", says="object", paths=("$",), **UNKNOWN),
    "null": Bad(b"null", says="object", paths=("$",), **UNKNOWN),
    "300,000 bytes": Bad(task(UserData="x" * 300_000), says="the limit LIMITS__BODY_BYTES is 262144", paths=("$",)),
    "300,000 unknown names": raw(
        json.dumps(dict.fromkeys(map(str, range(300_000)), 0)), "the limit LIMITS__BODY_BYTES is 262144"
    ),
}

NUMBERS = {
    "NaN": number("NaN", "not JSON", whole=True),
    "Infinity": number("Infinity", "not JSON", whole=True),
    "minus Infinity": number("-Infinity", "not JSON", whole=True),
    "1e400": number("1e400", "0 to 1000000000"),
    "1e999999999": number("1e999999999", "0 to 1000000000"),
    "an exponent of 20 digits": number("1e99999999999999999999", "out of range", whole=True),
    "200,000 digits": number("9" * 200_000, "number", whole=True, unknown=True),
    "200,000 digits behind the point": number("-0." + "3" * 200_000, "0 to 1000000000"),
    "hexadecimal": number("0x10", "not JSON", whole=True, unknown=True),
    "leading zero": number("007", "not JSON", whole=True, unknown=True),
    "minus one second": number("-1", "0 to 1000000000"),
    "a second as text": number('"1"', "should be a number"),
    "true seconds": number("true", "should be a number"),
    "number of 2^64": Bad(
        json.dumps(task({"Number": 2**64})).encode(), "LimitExceeded", "LIMITS__FRAMES_PER_ENTRY is 10000",
        (f"{FIRST}.Number",),
    ),
    "number 1.5": entry("Number", "integer", Number=1.5),
    "number true": entry("Number", "integer", Number=True),
    "number -1": entry("Number", "greater than or equal to 0", Number=-1),
    "width 0": entry("Width", "1 to 4096", Width=0),
    "width 4097": entry("Width", "1 to 4096", Width=4097),
    "width 1e-400 below zero": number("-1e-400", "1 to 4096", name="Width"),
    "quality 0": entry("Quality", "greater than or equal to 1", Quality=0),
}  # fmt: skip

URIS = {
    "http source": source("http://127.0.0.1/a.mp4", "must start with oss://, s3:// or file://"),
    "https source of the cloud's metadata": source(
        "https://169.254.169.254/latest/meta-data", "must start with oss://"
    ),
    "unix socket": source("http+unix://%2Frun%2Fdocker.sock/x", "must start with oss://"),
    "FFmpeg's concat": source("concat:a.ts|b.ts", "must start with oss://"),
    "FFmpeg's subfile": source("subfile,,start,0,end,9,,:/etc/passwd", "must start with oss://"),
    "data": source("data:video/mp4;base64,AAAA", "must start with oss://"),
    "absolute path": source("/etc/passwd", "must start with oss://"),
    "file without bucket": source("file:///etc/passwd", "has no bucket"),
    "parent directory": source(f"oss://{BUCKET}/../other/a.mp4", "'.' or '..'"),
    "escaped parent directory": source(f"oss://{BUCKET}/a/%2e%2E/b.mp4", "'.' or '..'"),
    "escaped slash": source(f"oss://{BUCKET}/a%2f..%2fb.mp4", "'.' or '..'"),
    "this directory": source(f"oss://{BUCKET}/./a.mp4", "'.' or '..'"),
    "doubled slash": source(f"oss://{BUCKET}//etc/passwd", "empty"),
    "backslash": source(f"oss://{BUCKET}/a\\..\\b.mp4", "backslash"),
    "NUL": source(f"oss://{BUCKET}/a\0.mp4", "control character"),
    "line feed": source(f"oss://{BUCKET}/a\nHost: x", "control character"),
    "escaped NUL": source(f"oss://{BUCKET}/a%00.mp4", "control character"),
    "ARN of an access point": source("s3://arn:aws:s3:us-east-1:123456789012:accesspoint/x/a.mp4", "has the bucket"),
    "bucket with a password": source("s3://user:password@host/a.mp4", "has the bucket"),
    "bucket with a port": source("s3://localhost:9000/a.mp4", "has the bucket"),
    "bucket in capitals": source("s3://Bucket/a.mp4", "has the bucket"),
    "bucket of two dots": source("s3://../a.mp4", "has the bucket"),
    "bucket of 300 characters": source(f"s3://{'b' * 300}/a.mp4", "has the bucket"),
    "query for another endpoint": source("s3://bucket?endpoint=evil.example/a.mp4", "has the bucket"),
    "key of 1,025 bytes": source(f"oss://{BUCKET}/{'k' * 1025}", "the most is 1024"),
    "output to http": output("http://127.0.0.1/{index}.jpg", "must start with oss://"),
    "result to http": member(
        "$.Notification.ExtendedMessageURI", "must start with oss://", Notification={"ExtendedMessageURI": "http://h/r"}
    ),
    "output over the source": Bad(
        task({"Number": 1, "URI": "s3://{bucket}/{dirname}/{barename}.mp4"}),
        says="can both name",
        paths=(f"{FIRST}.URI",),
    ),
}

TEMPLATES = {
    "a gigabyte of padding": keyed("{index:>1000000000}", "{index:>1000000000}"),
    "padding of ten digits": keyed("{index:010d}", "{index:010d}"),
    "attribute": keyed("{bucket.__class__}", "{bucket.__class__}"),
    "attributes of an attribute": keyed("{tags.__init__.__globals__}", "{tags.__init__.__globals__}"),
    "item": keyed("{tags[x]}", "{tags[x]}"),
    "conversion": keyed("{index!r}", "{index!r}"),
    "place": keyed("{0}", "{0}"),
    "nothing in braces": keyed("{}", "{}"),
    "single brace": keyed("a{", "single {"),
    "environment": keyed("${HOME}/{index}", "{HOME}"),
    "nested field": keyed("{index:{index}}", "{"),
    "tag that leads out": keyed("{tags.x}/{index}", "'.' or '..'", Tags={"x": "../../other"}),
    "tag that is escaped": keyed("{tags.x}/{index}", "'.' or '..'", Tags={"x": "%2e%2e"}),
    "tag with a line feed": keyed("{tags.x}/{index}", "control character", Tags={"x": "a\r\nb"}),
    "tag that is a bucket in another place": output("oss://{tags.x}/{index}", "has the bucket", Tags={"x": "a/../b"}),
    "tags that fill up": keyed("{tags.x}" * 200, "too long", Tags={"x": "y" * 2000}),
    "escape that an index completes": keyed("a/%{index}e/b", "% right before"),
    "index in the bucket": output("oss://b-{index}/x", "in its bucket"),
    "a user's home": keyed("~/../{index}", "'.' or '..'"),
}

FIELDS = {
    "credentials": member("$.CredentialConfig", "not served", CredentialConfig={"ServiceRole": "admin"}),
    "endpoint": member("$.Endpoint", "no field 'Endpoint'", Endpoint="http://127.0.0.1"),
    "endpoint of a source": Bad(
        task(Sources=[{"URI": f"oss://{BUCKET}/a.mp4", "Endpoint": "http://h"}]), says="no field 'Endpoint'",
        paths=("$.Sources[0].Endpoint",),
    ),
    "topic of two words": member(
        "$.Notification.MNS.TopicName", "A-Z a-z 0-9 _ -", Notification={"MNS": {"TopicName": "a.b"}}
    ),
    "topic of all": member("$.Notification.MNS.TopicName", "A-Z a-z 0-9 _ -", Notification={"MNS": {"TopicName": "#"}}),
    "project with wildcards": Bad(
        task(ProjectName="*.#"), says="A-Z a-z 0-9 _ -", paths=("$.ProjectName",), project="unknown"
    ),
    "user data of 2,049 bytes": member("$.UserData", "2048 bytes", UserData="é" * 1025),
    "101 tags": member("$.Tags", "at most 100", Tags={str(n): "x" for n in range(101)}),
    "17 entries": Bad(
        task(*({"URI": f"oss://{BUCKET}/{n}/{{index}}"} for n in range(17))), "LimitExceeded", "LIMITS__ENTRIES is 16",
        ("$.Targets",),
    ),
    "12 sources": Bad(task(Sources=task()["Sources"] * 12), "LimitExceeded", "12 sources", ("$.Sources",)),
    "name of 10,000 characters": member(f"$.{'n' * 80}", "no field", **{"n" * 10_000: 1}),
}  # fmt: skip

MESSAGES = {
    f"{kind}: {name}": row
    for kind, rows in (
        ("JSON", NOT_JSON),
        ("number", NUMBERS),
        ("URI", URIS),
        ("template", TEMPLATES),
        ("field", FIELDS),
    )
    for name, row in rows.items()
}

DENIED = {
    "source in a bucket that is not allowed": Bad(
        task(Sources=[{"URI": "oss://other-bucket/videos/sample.mp4"}]), "AccessDenied", "STORE__SOURCE_BUCKETS allows"
    ),
    "source above the allowed prefix": Bad(
        task(Sources=[{"URI": f"oss://{BUCKET}/private/key.mp4"}]), "AccessDenied", "STORE__SOURCE_BUCKETS allows"
    ),
    "source whose prefix only looks alike": Bad(
        task(Sources=[{"URI": f"oss://{BUCKET}/videos-private/a.mp4"}]), "AccessDenied", "STORE__SOURCE_BUCKETS allows"
    ),
    "output in another bucket": Bad(
        task({"URI": "oss://other-bucket/{index}"}), "AccessDenied", "STORE__TARGET_BUCKETS allows"
    ),
    "output beside the allowed prefix": Bad(
        task({"URI": f"oss://{BUCKET}/videos/{{index}}"}), "AccessDenied", "STORE__TARGET_BUCKETS allows"
    ),
    "bucket by a tag": Bad(
        task({"URI": "oss://{tags.b}/out/{index}"}, Tags={"b": "other-bucket"}), "AccessDenied", "STORE__TARGET_BUCKETS"
    ),
    "result elsewhere": Bad(
        task(Notification={"ExtendedMessageURI": "oss://other-bucket/r.json"}), "AccessDenied", "STORE__TARGET_BUCKETS"
    ),
    "symbolic link": Bad(task(source="videos/link.mp4"), "AccessDenied", "Too many levels of symbolic links"),
    "directory that is a symbolic link": Bad(task(source="videos/linked/key.mp4"), "AccessDenied", "symbolic link"),
    "pipe": Bad(task(source="videos/pipe.mp4"), "AccessDenied", "not a file"),
    "directory": Bad(task(source="videos/folder.mp4"), "ResourceNotFound", "directory"),
}
