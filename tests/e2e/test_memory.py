"""The worker's memory does not grow with the length of videos, nor with the number of tasks that it has done."""

import sys

import pytest

from bench import memory
from devkit.broker import broker as run_broker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def node():
    """A broker of its own, since the benchmark's worker uses the usual names."""
    with run_broker() as node:
        yield node


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("memory")


def check(what, growth):
    small, large = growth.small, growth.large
    sys.stdout.write(
        f"{what}: the parent {small.parent_bytes:,} -> {large.parent_bytes:,} bytes at most, "
        f"a decoder {small.decoder_bytes:,} -> {large.decoder_bytes:,}\n"
    )
    assert growth.worst_bytes <= memory.MAX_GROWTH_BYTES


@pytest.mark.parametrize("request_name", memory.REQUESTS)
@pytest.mark.parametrize("size", memory.SIZES)
def test_an_hour_takes_no_more_than_a_minute(node, home, size, request_name):
    growth = memory.lengths(node.url, home, memory.SIZES[size], memory.REQUESTS[request_name])
    check(f"{size}, {request_name}: a minute and an hour", growth)


def test_a_thousand_tasks_take_no_more_than_a_hundred(node, home):
    check("100 and 1,000 tasks", memory.tasks(node.url, home))
