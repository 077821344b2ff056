import re
from datetime import UTC, datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import TaskError
from worker.media.plan import Format
from worker.task import Location, Template
from worker.template import LOCATION_PATTERN, TEMPLATE_PATTERN, clashes, expand, parse_location, parse_template

SOURCE = Location("oss", "in-bucket", "a/b/movie.part.mp4")
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def read(text: str, *, source: Location = SOURCE, max_index: int = 10_000, **tags: str) -> Template:
    return parse_template(
        f"oss://out-bucket/{text}", source=source, tags=tags, created_at=MADE, image=Format.WEBP, max_index=max_index
    )


def key(text: str, index: int = 7, **tags: str) -> str:
    return expand(read(text, **tags), index).key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{bucket}|{key}|{index}", "in-bucket|a/b/movie.part.mp4|7"),
        ("{dirname}/{basename}-{index}", "a/b/movie.part.mp4-7"),
        ("{barename}.{ext}.{index}", "movie.part.mp4.7"),
        ("{index:05d}-{index}.{autoext}", "00007-7.webp"),
        ("{t_year}-{t_mon}-{t_day}T{t_hour}:{t_min}:{t_sec}/{streamindex}.{autoext}", "2026-01-02T03:04:05/0.webp"),
        ("{{index}}-{index}", "{index}-7"),
        ("{tags.who}/{index}", "me/7"),
        ("fixed.png", "fixed.png"),
        ("plain", "plain_0_7.webp"),
        ("v1.2/plain", "v1.2/plain_0_7.webp"),
        (".hidden", ".hidden_0_7.webp"),
        ("{tags.who}", "me_0_7.webp"),
        ("{basename}", "movie.part.mp4_0_7.webp"),
        ("x.{autoext}", "x.webp"),
        ("x.{ext}", "x.mp4"),
        ("100%/{index}", "100%/7"),
    ],
)
def test_fields(text, expected):
    assert key(text, who="me") == expected


@pytest.mark.parametrize(
    ("name", "barename", "ext"), [("noext", "noext", ""), (".hidden", ".hidden", ""), ("a.b.c", "a.b", "c")]
)
def test_names_of_sources(name, barename, ext):
    template = read("{barename}|{ext}|{index}", source=Location("oss", "in-bucket", name))
    assert expand(template, 1).key == f"{barename}|{ext}|1"


def test_values_are_never_read_as_templates():
    assert key("{tags.x}/{index}", x="{index}{{%d%s") == "{index}{{%d%s/7"


def test_creation_time_is_in_utc():
    made = datetime.fromisoformat("2026-01-01T23:30:00-05:00")
    template = parse_template(
        "oss://out-bucket/{t_day}{t_hour}_{index}",
        source=SOURCE,
        tags={},
        created_at=made,
        image=Format.JPG,
        max_index=1,
    )
    assert expand(template, 1).key == "0204_1"


@pytest.mark.parametrize(("text", "indexed"), [("x.jpg", False), ("x", True), ("{index}.jpg", True)])
def test_indexed_tells_whether_images_share_a_key(text, indexed):
    assert read(text).indexed is indexed


def test_the_bucket_may_be_the_sources():
    template = parse_template(
        "s3://{bucket}/{index}", source=SOURCE, tags={}, created_at=MADE, image=Format.JPG, max_index=1
    )
    assert expand(template, 1) == Location("s3", "in-bucket", "1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{foo}", "known are bucket"),
        ("{tags.gone}", "Tags has no 'gone'"),
        ("{", "single {"),
        ("a}", "single }"),
        ("k" * 1025, "1024"),
        ("{key}" * 1000, "too long with its fields filled in"),
        ("a/../b", "segment"),
        ("%{index}e", "escape"),
    ],
)
def test_errors_say_what_is_wrong(text, says):
    with pytest.raises(TaskError, match="InvalidArgument") as caught:
        read(text)
    assert says in caught.value.message


def test_the_longest_key_counts():
    text = "k" * 1020 + "{index}"
    assert len(expand(read(text, max_index=9999), 9999).key) == 1024
    with pytest.raises(TaskError, match="1025 bytes"):
        read(text, max_index=10_000)


@given(st.text(min_size=1, max_size=12, alphabet="ab./%2eE5cF{}\\\0"))
def test_an_expanded_key_stays_in_its_bucket(text):
    try:
        template = read(text + "{index}x", max_index=120)
    except TaskError:
        return
    for index in range(1, 121):
        assert parse_location(str(expand(template, index))).key


SHAPES = [
    "a{index}",
    "a{index}{index}",
    "a1{index}",
    "a{index}1",
    "a{index:02d}",
    "a11",
    "a1.1",
    "a{index}0{index}",
    "b",
]


@pytest.mark.parametrize(("one", "other"), list(product(SHAPES, SHAPES)))
def test_clashes_are_exact(one, other):
    first, second = read(one + "/x.jpg"), read(other + "/x.jpg")
    keys = [{expand(each, index).key for index in range(1, 31)} for each in (first, second)]
    found = clashes([(first, 30), (second, 30)])
    assert bool(found) == bool(keys[0] & keys[1])
    assert all(name.removeprefix("out-bucket/") in keys[0] & keys[1] for _, _, name in found)


def test_a_percent_sign_in_a_key_is_no_format_when_clashes_are_sought():
    assert clashes([(read("50%d-{index}"), 3), (read("50%d-2"), 3), (read("50%d-2.jpg"), 1)]) == []
    assert clashes([(read("50%d-{index}.jpg"), 3), (read("50%d-2.jpg"), 1)]) == [(0, 1, "out-bucket/50%d-2.jpg")]


URI_TEXT = st.text(max_size=10, alphabet="ab./%2eE5cCfF017{}\\\0\n\x7f-é")


@given(URI_TEXT)
def test_the_published_pattern_of_a_location_says_what_the_code_does(text):
    uri = f"oss://in-bucket/{text}"
    assert bool(re.search(LOCATION_PATTERN, uri)) == bool(reads(parse_location, uri))


PARTS = ["a", "/", ".", "{", "}", "{{", "}}", "{index}", "{index:05d}", "{tags.x}", "{tags.}", "{foo}", "%2", "e", "5c"]


@given(st.lists(st.sampled_from(PARTS), max_size=8).map("".join))
def test_the_published_pattern_of_a_template_says_what_the_code_does(text):
    says = bool(re.search(TEMPLATE_PATTERN, f"oss://out-bucket/{text}"))
    does = bool(reads(lambda each: read(each, x="x"), text))
    if says != does:
        assert says, "the code takes what the pattern refuses"
        assert re.search(r"%(2|)?\{index", text), "only an escape completed by the index is beyond the pattern"


def reads(function, text):
    try:
        return function(text)
    except TaskError:
        return None


def test_an_empty_dirname_is_named():
    with pytest.raises(TaskError, match=r"\{dirname\} is empty for a source in no directory"):
        read("{dirname}/{index}", source=Location("oss", "in-bucket", "movie.mp4"))
