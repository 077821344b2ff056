"""What crosses the socket of a decoder process, and what is refused there."""

import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.adapters import wire
from worker.errors import Code, TaskError
from worker.media.plan import (
    CapturePlan,
    EntryPlan,
    EntryReport,
    Format,
    Image,
    Limits,
    Mode,
    Progress,
    Rendition,
    Report,
    ScaleType,
    Selection,
    Warn,
)

integers = st.integers(-(2**64), 2**64)
fractions = st.fractions()
sizes = st.none() | st.integers(1, 4096) | fractions
selections = st.builds(Selection, st.sampled_from(Mode), fractions, fractions, integers, integers)
renditions = st.builds(
    Rendition, st.sampled_from(Format), sizes, sizes, st.sampled_from(ScaleType), st.integers(1, 100)
)
plans = st.builds(
    CapturePlan,
    st.lists(st.builds(EntryPlan, selections, renditions, st.booleans()), max_size=3).map(tuple),
    fractions,
    fractions,
    st.builds(Limits, *[integers] * 7),
)
warns = st.lists(st.builds(Warn, st.text(), st.text()), max_size=2).map(tuple)
codes = st.just("") | st.sampled_from(Code)
reports = st.lists(st.builds(EntryReport, integers, integers, warns, codes, st.text()), max_size=3).map(tuple)
finite = st.floats(allow_nan=False, allow_infinity=False)
from_decoder = st.one_of(
    st.sampled_from([wire.Started(), wire.Alive()]),
    st.builds(wire.Read, integers, integers),
    st.builds(wire.Expect, *[st.lists(integers, max_size=5).map(tuple)] * 2),
    st.builds(wire.Failure, st.sampled_from(Code), st.text(), st.booleans(), st.text()),
    st.builds(Progress, finite),
    st.builds(
        Image,
        *[integers] * 2,
        *[fractions] * 2,
        integers,
        st.booleans(),
        *[integers] * 2,
        st.binary(),
        st.text(),
        st.none() | integers,
        st.none() | fractions,
        st.booleans(),
    ),
    st.builds(Report, reports, st.text(), st.text(), *[integers] * 5, st.dictionaries(st.text(), finite, max_size=3)),
)
to_decoder = st.one_of(st.builds(wire.Block, st.binary()), st.builds(wire.Begin, plans, integers, *[finite] * 3))


def through(message, expected):
    header, payload = wire.pack(message)
    prefix, rest = header[: wire.PREFIX.size], header[wire.PREFIX.size :]
    assert wire.unpack_sizes(prefix, len(payload)) == (len(rest), len(payload))
    return wire.unpack(rest, payload, expected)


@given(from_decoder)
def test_what_a_decoder_says_arrives_as_it_was(message):
    assert through(message, wire.FromDecoder) == message


@given(to_decoder)
def test_what_a_decoder_is_told_arrives_as_it_was(message):
    assert through(message, wire.ToDecoder) == message


@given(st.binary(max_size=200), st.binary(max_size=5))
def test_random_bytes_are_refused_in_one_way(header, payload):
    with pytest.raises(wire.WireError):
        wire.unpack(header, payload, wire.FromDecoder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(from_decoder, st.data())
def test_a_message_with_one_field_changed_is_refused_or_still_well_typed(message, data):
    name, body = json.loads(wire.pack(message)[0][wire.PREFIX.size :])
    if body:
        body[data.draw(st.sampled_from(sorted(body)))] = data.draw(json_values)
    payload = message.data if isinstance(message, Image) else b""
    try:
        changed = wire.unpack(json.dumps([name, body]).encode(), payload, wire.FromDecoder)
    except wire.WireError:
        return
    assert through(changed, wire.FromDecoder) == changed


@pytest.mark.parametrize(
    "header",
    [
        '["Read", {"offset": true, "size": 1}]',
        '["Read", {"offset": 1.0, "size": 1}]',
        '["Read", {"offset": "1", "size": 1}]',
        '["Read", {"offset": 1}]',
        '["Read", {"offset": 1, "size": 1, "more": 1}]',
        '["Read", [1, 1]]',
        '["Progress", {"fraction": NaN}]',
        '["Progress", {"fraction": 1e999}]',
        '["Progress", {"fraction": true}]',
        '["Failure", {"code": "Nonsense", "message": "", "retryable": true, "traceback": ""}]',
        '["Begin", {}]',
        '["CapturePlan", {}]',
        '"Started"',
        '["Started", {}, 1]',
        '[["Started"], {}]',
        "[" * 100_000,
        "1" * 10_000,
        "",
    ],
)
def test_a_field_of_another_type_or_an_unknown_message_is_refused(header):
    with pytest.raises(wire.WireError):
        wire.unpack(header.encode(), b"", wire.FromDecoder)


@pytest.mark.parametrize("pair", ["[1, 0]", "[1, -2]", "[1]", "[1, 2, 3]", "[1.0, 2]", '"1/2"', "null", "1"])
def test_only_a_pair_of_integers_is_a_fraction(pair):
    image = Image(0, 1, Fraction(1, 3), Fraction(0), 0, True, 1, 1, b"", "")
    header = wire.pack(image)[0][wire.PREFIX.size :].decode()
    assert header.count("[1, 3]") == 1
    with pytest.raises(wire.WireError):
        wire.unpack(header.replace("[1, 3]", pair).encode(), b"", wire.FromDecoder)


def test_a_payload_where_none_belongs_is_refused():
    with pytest.raises(wire.WireError, match="Started with 1 bytes"):
        wire.unpack(b'["Started", {}]', b"x", wire.FromDecoder)


@pytest.mark.parametrize("sizes", [(wire.MAX_HEADER_BYTES + 1, 0), (0, 101), (2**32 - 1, 2**32 - 1)])
def test_sizes_beyond_bounds_are_refused_before_anything_is_read(sizes):
    with pytest.raises(wire.WireError, match="at most 1048576 \\+ 100"):
        wire.unpack_sizes(wire.PREFIX.pack(*sizes), 100)


def test_what_could_not_be_read_is_not_sent():
    with pytest.raises(wire.WireError, match="at most"):
        wire.pack(wire.Failure(Code.TIMEOUT, "x" * wire.MAX_HEADER_BYTES, retryable=False))
    with pytest.raises(ValueError, match="not JSON compliant"):
        wire.pack(Progress(math.inf))


def test_an_error_is_cut_so_that_it_fits():
    error = TaskError(Code.CORRUPT_MEDIA, "\N{SNOWMAN}" * 10**6, retryable=True)
    carried = wire.failure(error, "t" * 10**6)
    assert through(carried, wire.FromDecoder) == carried
    assert carried.message == error.message[: wire.MAX_TEXT]


@pytest.mark.parametrize(
    "said",
    [
        {"score": [10**400, 3]},  # finite, and overflows a float
        {"index": 10**400},
        {"sha256": "\ud800"},  # cannot be encoded, and so not be told
        {"sha256": "x" * (wire.MAX_TEXT + 1)},
    ],
)
def test_a_value_that_nothing_can_be_made_of_later_is_refused(said):
    image = Image(0, 1, Fraction(1, 3), Fraction(0), 0, True, 1, 1, b"", "")
    name, body = json.loads(wire.pack(image)[0][wire.PREFIX.size :])
    assert wire.unpack(json.dumps([name, body]).encode(), b"", wire.FromDecoder) == image
    with pytest.raises(wire.WireError):
        wire.unpack(json.dumps([name, body | said]).encode(), b"", wire.FromDecoder)


def test_an_error_code_that_there_is_not_is_refused():
    report = Report((EntryReport(0, 1, (), Code.CORRUPT_MEDIA, "so"),), "mp4", "h264", 1, 1, 1, 1, 0, {})
    said = wire.pack(report)[0][wire.PREFIX.size :]
    assert wire.unpack(said, b"", wire.FromDecoder) == report
    with pytest.raises(wire.WireError, match="Invented"):
        wire.unpack(said.replace(b'"CorruptMedia"', b'"Invented"'), b"", wire.FromDecoder)


def test_a_number_that_overflows_is_refused():
    with pytest.raises(wire.WireError):
        wire.unpack(f'["Progress", {{"fraction": {10**400}}}]'.encode(), b"", wire.FromDecoder)


def test_an_error_with_what_cannot_be_encoded_arrives_all_the_same():
    carried = wire.failure(TaskError(Code.CORRUPT_MEDIA, "a\ud800b"), "c\udfff")
    assert through(carried, wire.FromDecoder) == carried
    assert (carried.message, carried.traceback) == ("a?b", "c?")
