"""Task messages, valid and not, on which the published schema and the worker must agree.

Each has the code that the worker answers with (empty: a valid task), and the name of the rule of
`worker.messages.schema.UNSAYABLE` where the schema takes what the worker refuses.
"""

import json
from typing import Any, NamedTuple


class Case(NamedTuple):
    name: str
    body: bytes
    code: str = ""
    unsayable: str = ""


def message(**members: Any) -> dict[str, Any]:
    return {
        "ProjectName": "demo",
        "Sources": [{"URI": "oss://in-bucket/videos/sample.mp4"}],
        "Targets": [{"Image": {"Snapshots": [{"Format": "jpg", "URI": "oss://out-bucket/x-{index}.jpg"}]}}],
    } | members


def snapshot(**members: Any) -> dict[str, Any]:
    entry = {"Format": "jpg", "URI": "oss://out-bucket/x-{index}.jpg"} | members
    return message(Targets=[{"Image": {"Snapshots": [entry]}}])


def snapshots(*uris: str) -> dict[str, Any]:
    return message(Targets=[{"Image": {"Snapshots": [{"Format": "jpg", "URI": uri} for uri in uris]}}])


def source(**members: Any) -> dict[str, Any]:
    return message(Sources=[{"URI": "oss://in-bucket/videos/sample.mp4"} | members])


def target(**members: Any) -> dict[str, Any]:
    base = message()
    base["Targets"][0] |= members
    return base


def case(name: str, content: Any, code: str = "", unsayable: str = "") -> Case:
    return Case(name, content if isinstance(content, bytes) else json.dumps(content).encode(), code, unsayable)


def tagged(value: str, uri: str) -> dict[str, Any]:
    return snapshots(uri) | {"Tags": {"x": value}}


BAD = "InvalidArgument"
NO_FORMAT = {"Image": {"Snapshots": [{"URI": "oss://out-bucket/x-{index}.jpg"}]}}
NO_URI = {"Image": {"Snapshots": [{"Format": "jpg"}]}}
MNS = {"MNS": {"TopicName": "t"}}

VALID = [
    case("minimal", message()),
    case("notification", message(Notification={**MNS, "ExtendedMessageURI": "oss://out-bucket/r.json"})),
    case("rocketmq", message(Notification={"RocketMQ": {"InstanceId": "i", "TopicName": "t"}})),
    case("mns with empty rocketmq", message(Notification={**MNS, "RocketMQ": {}})),
    case("empty notification", message(Notification={})),
    case("user data of 2048 bytes", message(UserData="x" * 2048)),
    case("tags", message(Tags={"a": "b", "c": None})),
    case("empties", message(TargetGroups=[], CredentialConfig={}, AlignmentIndex=None, Tags=[], UserData=None)),
    case("alignment index 0", message(AlignmentIndex=0)),
    case("empty sprites", message(Targets=[{"Image": message()["Targets"][0]["Image"] | {"Sprites": []}}])),
    case("empty target fields", target(Video={}, Audio=None, URI=None, Speed=None)),
    case("source trims", source(StartTime=1.5, Duration=10)),
    case("source defaults", source(Subtitles=[], AlignMode="false", Attached=False, DisableAudio=False)),
    case("null interval", snapshot(Interval=None, Number=None, Width=None)),
    case("interval 0.3", snapshot(Interval=0.3, Number=5, StartTime=0.3)),
    case("interval 5e-324", snapshot(Interval=5e-324)),
    case("average", snapshot(Mode="average", Number=10)),
    case("keyframe", snapshot(Mode="keyframe")),
    case("dhash", snapshot(Mode="dhash", Interval=1, Threshold=100)),
    case("one pixel", snapshot(Width=1, Height=1)),
    case("whole ratio", snapshot(Width=1.0, Height=0.001)),
    case("largest size", snapshot(Width=4096, Height=4096, ScaleType="fit")),
    case("pixels with a point", snapshot(Width=512.0)),
    case("tiny ratio", snapshot(Width=1e-9)),
    *(case(f"format {each}", snapshot(Format=each)) for each in ("jpeg", "png", "webp", "avif")),
    case("quality", snapshot(Quality=1)),
    case("s3 and file", snapshots("s3://out-bucket/{index}.jpg", "file://out-bucket/b/{index}")),
    case("templated bucket", snapshots("oss://{bucket}/{dirname}/{barename}-{index:05d}.{autoext}")),
    case("tag in key", message(Tags={"a-b": "v"}) | {"Targets": snapshots("oss://out-bucket/{tags.a-b}")["Targets"]}),
    case("beside the source", snapshots("oss://{bucket}/{key}.mp4")),
    case("brace before a field", snapshots("oss://out-bucket/{{{index}")),
    case("literal braces", snapshots("oss://out-bucket/{{x}}-{index}")),
    case("dots inside names", snapshots("oss://out-bucket/a..b/...c/.d/{index}")),
    case("percent", snapshots("oss://out-bucket/50%/a%20b/{index}")),
    case("not ascii", snapshots("oss://out-bucket/截图-{index}.jpg")),
    case("two entries", snapshots("oss://out-bucket/a-{index}.jpg", "oss://out-bucket/b-{index}.jpg")),
    case("digits that never meet", snapshots("oss://out-bucket/{index}.jpg", "oss://out-bucket/0{index}.jpg")),
]

INVALID = [
    case("empty body", b"", BAD),
    case("not an object", b"[]", BAD),
    case("a string", b'"x"', BAD),
    case("deep nesting", b"[" * 100_000, BAD),
    case("utf-16", json.dumps(message()).encode("utf-16"), BAD),
    case("byte order mark", b"\xef\xbb\xbf{}", BAD),
    case("not utf-8", b'{"ProjectName":"\xff"}', BAD),
    case("trailing text", json.dumps(message()).encode() + b" x", BAD),
    case("NaN", json.dumps(snapshot(Interval=float("nan"))).encode(), BAD),
    case("Infinity", json.dumps(snapshot(Interval=float("inf"))).encode(), BAD),
    case("huge exponent", json.dumps(snapshot(Interval=7)).encode().replace(b"7", b"1e999999999"), BAD),
    case("absurd exponent", json.dumps(snapshot(Interval=7)).encode().replace(b"7", b"1e99999999999999999999"), BAD),
    case("empty object", {}, "MissingProjectName"),
    case("no sources", message(Sources=[]), "MissingSources"),
    case("no targets", message(Targets=None), "MissingTargets"),
    case("source without URI", message(Sources=[{}]), "MissingURI"),
    case("target without image", message(Targets=[{}]), "MissingImage"),
    case("no snapshots", message(Targets=[{"Image": {"Snapshots": []}}]), "MissingSnapshots"),
    case("no format", message(Targets=[NO_FORMAT]), "MissingFormat"),
    case("no output URI", message(Targets=[NO_URI]), "MissingURI"),
    case("null project", message(ProjectName=None), "MissingProjectName"),
    case("project with a dot", message(ProjectName="a.b"), BAD),
    case("project with NUL", message(ProjectName="a\0"), BAD),
    case("project too long", message(ProjectName="a" * 129), BAD),
    case("project a number", message(ProjectName=5), BAD),
    case("unknown member", message(Foo=1), BAD),
    case("unknown member, empty", message(Foo=None), BAD),
    case("Treshold", snapshot(Treshold=5), BAD),
    case("two sources", message(Sources=message()["Sources"] * 2), BAD),
    case("twelve sources", message(Sources=message()["Sources"] * 12), "LimitExceeded"),
    case("source with subtitles", source(Subtitles=[{"URI": "oss://in-bucket/a.srt"}]), BAD),
    case("source attached", source(Attached=True), BAD),
    case("source attached 0", source(Attached=0), BAD),
    case("source start", source(StartTime=-1), BAD),
    case("source start as text", source(StartTime="1"), BAD),
    case("target URI", target(URI="oss://out-bucket/x.mp4"), BAD),
    case("target URI empty text", target(URI=""), BAD),
    case("target video", target(Video={"Codec": "h264"}), BAD),
    case("target speed", target(Speed=1.0), BAD),
    case("sprites", message(Targets=[{"Image": message()["Targets"][0]["Image"] | {"Sprites": [{}]}}]), BAD),
    case("credentials", message(CredentialConfig={"ServiceRole": "r"}), BAD),
    case("alignment index 1", message(AlignmentIndex=1), BAD),
    case("alignment index false", message(AlignmentIndex=False), BAD),
    case("target groups", message(TargetGroups=[{}]), BAD),
    case("topic with a dot", message(Notification={"MNS": {"TopicName": "a.b"}}), BAD),
    case("topic wildcard", message(Notification={"MNS": {"TopicName": "#"}}), BAD),
    case("topic missing", message(Notification={"MNS": {"TopicName": None}}), "MissingTopicName"),
    case("two topics", message(Notification={**MNS, "RocketMQ": {"TopicName": "t"}}), BAD),
    case("bad extended URI", message(Notification={"ExtendedMessageURI": "oss://out-bucket/../r"}), BAD),
    case("tags not strings", message(Tags={"a": 1}), BAD),
    case("user data a number", message(UserData=5), BAD),
    case("user data 2049", message(UserData="x" * 2049), BAD),
    *(case(f"interval {each!r}", snapshot(Interval=each), BAD) for each in (-1, "1", True, 1e308)),
    *(case(f"number {each!r}", snapshot(Number=each), BAD) for each in (-1, "5", True, 1.5)),
    *(case(f"threshold {each!r}", snapshot(Threshold=each), BAD) for each in (-1, 101)),
    *(case(f"quality {each!r}", snapshot(Quality=each), BAD) for each in (0, 101)),
    *(
        case(f"width {each!r}", snapshot(Width=each), BAD)
        for each in (0, -1, 4097, 1.5, 0.0, -0.5, 4097.0, "512", True)
    ),
    case("mode", snapshot(Mode="random"), BAD),
    case("scale type", snapshot(ScaleType="Crop"), BAD),
    case("format", snapshot(Format="gif"), BAD),
    case("format in capitals", snapshot(Format="JPG"), BAD),
    case("average without number", snapshot(Mode="average"), "MissingNumber"),
    case("average of 0", snapshot(Mode="average", Number=0), BAD),
    case("entry null", message(Targets=[{"Image": {"Snapshots": [None]}}]), BAD),
]

BAD_URIS = [
    "https://in-bucket/a",
    "concat:a|b",
    "data:x",
    "/etc/passwd",
    "file:///etc/passwd",
    "oss://in-bucket",
    "oss://in-bucket/",
    "oss://in-bucket//a",
    "oss://in-bucket/a/",
    "oss://in-bucket/a//b",
    "oss://in-bucket/./b",
    "oss://in-bucket/a/../b",
    "oss://in-bucket/..",
    "oss://in-bucket/a/%2e%2E/b",
    "oss://in-bucket/a%2f/b",
    "oss://in-bucket/a%2F",
    "oss://in-bucket/a\\b",
    "oss://in-bucket/a%5cb",
    "oss://in-bucket/a\0",
    "oss://in-bucket/a\n",
    "oss://in-bucket/a%00",
    "oss://in-bucket/a%1F",
    "oss://in-bucket/a\x7f",
    "oss://In-bucket/a",
    "oss://ab/a",
    "oss://" + "a" * 64 + "/a",
    "oss://a..b/a",
    "oss://-ab/a",
    "oss://arn:aws:s3:::x/a",
    "oss://u@host/a",
    "OSS://in-bucket/a",
    "",
]
BAD_TEMPLATES = [
    "{index:>1000000000}",
    "{index:5d}",
    "{index:00d}",
    "{index:010d}",
    "{index!r}",
    "{index[0]}",
    "{0}",
    "{}",
    "{",
    "}",
    "{unknown}",
    "{bucket.__class__}",
    "{tags}",
    "{tags.}",
    "{tags.a.b}",
    "{{index}",
    "{{{index",
    "{ index}",
    "{index }",
]

INVALID += [case(f"source {uri!r}", source(URI=uri), BAD) for uri in BAD_URIS]
INVALID += [case(f"output {uri!r}", snapshots(uri), BAD) for uri in BAD_URIS]
INVALID += [case(f"template {text!r}", snapshots(f"oss://out-bucket/x{text}"), BAD) for text in BAD_TEMPLATES]
INVALID += [case("index in the bucket", snapshots("oss://out-{index}/x"), BAD)]

ROOTED = snapshots("oss://out-bucket/{dirname}/y") | {"Sources": [{"URI": "oss://in-bucket/v.mp4"}]}
RESULT_OVER_IMAGE = message(Notification={"ExtendedMessageURI": "oss://out-bucket/x-9.jpg"})

UNSAYABLE = [
    *(
        case(f"{name} 5.0", snapshot(**{name: 5.0}), BAD, "whole-numbers")
        for name in ("Number", "Threshold", "Quality")
    ),
    case("user data 2049 bytes", message(UserData="é" * 1025), BAD, "bytes"),
    case("long key", snapshots("oss://out-bucket/" + "k" * 1025), BAD, "bytes"),
    case("long key of a source", source(URI="oss://in-bucket/" + "é" * 513), BAD, "bytes"),
    case("long key by expansion", snapshots("oss://out-bucket/" + "k" * 1010 + "{basename}"), BAD, "expanded-keys"),
    case("tag with dots", tagged("../../x", "oss://out-bucket/{tags.x}/y"), BAD, "expanded-keys"),
    case("tag as bucket", tagged("UP", "oss://{tags.x}/y"), BAD, "expanded-keys"),
    case("empty dirname", ROOTED, BAD, "expanded-keys"),
    case("no such tag", snapshots("oss://out-bucket/{tags.x}"), BAD, "tag-exists"),
    case("escape by index", snapshots("oss://out-bucket/a/%{index}e"), BAD, "escapes"),
    case("escape by index, half", snapshots("oss://out-bucket/a/%0{index}"), BAD, "escapes"),
    case("same template twice", snapshots("oss://out-bucket/{index}", "oss://out-bucket/{index}"), BAD, "same-key"),
    case("other scheme", snapshots("s3://out-bucket/{index}", "oss://out-bucket/{index}"), BAD, "same-key"),
    case("fixed meets indexed", snapshots("oss://out-bucket/a7.jpg", "oss://out-bucket/a{index}.jpg"), BAD, "same-key"),
    case("padded meets plain", snapshots("oss://out-bucket/{index:03d}", "oss://out-bucket/{index}"), BAD, "same-key"),
    case("suffix meets", snapshots("oss://out-bucket/a", "oss://out-bucket/a_0_{index}.jpg"), BAD, "same-key"),
    case("overwrites the source", snapshots("s3://{bucket}/{dirname}/{barename}.mp4"), BAD, "same-key"),
    case("result over an image", RESULT_OVER_IMAGE, BAD, "same-key"),
    case("member twice", b'{"ProjectName":"p",' + json.dumps(message()).encode()[1:], BAD, "duplicates"),
    case("too many images", snapshot(Number=10_001), "LimitExceeded", "settings"),
    case("far too many images", snapshot(Number=2**64), "LimitExceeded", "settings"),
    case("17 entries", snapshots(*(f"oss://out-bucket/{i}/{{index}}" for i in range(17))), "LimitExceeded", "settings"),
    case("too large", json.dumps(message()).encode() + b" " * 300_000, BAD, "settings"),
]

CASES = VALID + INVALID + UNSAYABLE
