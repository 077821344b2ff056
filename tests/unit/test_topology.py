"""Every declaration must be allowed by every RabbitMQ from 3.10 to 4.x, and lose no task."""

import pytest

from worker.adapters.topology import topology
from worker.settings import Amqp, Retry

SETTINGS = Amqp(namespace="ns", lane="fast", delivery_limit=20)
WANTED = topology(SETTINGS, Retry(delays_s=(5, 30)))
QUEUES = {queue.name: queue for queue in WANTED.queues}
EXCHANGES = {exchange.name: exchange for exchange in WANTED.exchanges}

# Refused or ignored by 4.x, or by quorum queues of 3.10.
FORBIDDEN = {
    "x-queue-mode",
    "x-queue-version",
    "x-max-priority",
    "x-queue-master-locator",
    "x-expires",
    "x-ha-policy",
}
# What quorum queues of 3.10.8 declare, and every later release keeps.
ALLOWED = {
    "x-queue-type",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-max-length",
    "x-max-length-bytes",
    "x-message-ttl",
    "x-overflow",
    "x-single-active-consumer",
}


def test_the_names_are_those_that_operators_are_told():
    assert set(EXCHANGES) == {
        "ns.tasks",
        "ns.unrouted",
        "ns.retry",
        "ns.dead",
        "ns.control",
        "ns.events",
        "ns.events.unrouted",
    }
    assert set(QUEUES) == {
        "ns.tasks.fast",
        "ns.unrouted",
        "ns.retry.fast.5s",
        "ns.retry.fast.30s",
        "ns.dead.fast",
        "ns.dropped.fast",
        "ns.events.unrouted",
    }


@pytest.mark.parametrize("queue", WANTED.queues, ids=lambda queue: queue.name)
def test_every_queue_is_allowed_on_every_version(queue):
    assert queue.arguments["x-queue-type"] == "quorum"
    assert not FORBIDDEN & set(queue.arguments)
    assert set(queue.arguments) <= ALLOWED
    assert queue.arguments.get("x-overflow") in {None, "reject-publish", "drop-head"}


@pytest.mark.parametrize("queue", WANTED.queues, ids=lambda queue: queue.name)
def test_every_queue_is_bound_to_an_exchange_declared(queue):
    assert queue.exchange in EXCHANGES
    assert (queue.key == "") == (EXCHANGES[queue.exchange].kind == "fanout")


@pytest.mark.parametrize("queue", WANTED.queues, ids=lambda queue: queue.name)
def test_dead_lettering_is_at_least_once_and_leads_somewhere(queue):
    arguments = queue.arguments
    if "x-dead-letter-exchange" not in arguments:
        return
    assert (arguments["x-dead-letter-strategy"], arguments["x-overflow"]) == ("at-least-once", "reject-publish")
    target = (arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"])
    assert target in {(other.exchange, other.key) for other in WANTED.queues} | {("", name) for name in QUEUES}


def test_the_task_queue_has_a_limit_and_a_place_for_what_exceeds_it():
    arguments = QUEUES["ns.tasks.fast"].arguments
    assert arguments["x-delivery-limit"] == 20
    assert (arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"]) == ("ns.dead", "fast.dropped")


def test_what_the_broker_drops_waits_for_one_worker_to_announce_it_and_else_is_parked():
    dropped = QUEUES["ns.dropped.fast"]
    assert (dropped.exchange, dropped.key) == ("ns.dead", "fast.dropped")
    assert dropped.arguments["x-single-active-consumer"] is True
    assert (dropped.arguments["x-dead-letter-exchange"], dropped.arguments["x-dead-letter-routing-key"]) == (
        "ns.dead",
        QUEUES["ns.dead.fast"].key,
    )


@pytest.mark.parametrize("name", ["ns.tasks.fast", "ns.dropped.fast", "ns.dead.fast"])
def test_every_queue_that_is_read_has_a_delivery_limit_of_ours(name):
    assert QUEUES[name].arguments["x-delivery-limit"] >= 20


def test_a_rung_holds_for_its_delay_and_leads_back_to_the_task_queue():
    arguments = QUEUES["ns.retry.fast.30s"].arguments
    assert arguments["x-message-ttl"] == 30_000
    assert (arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"]) == ("", "ns.tasks.fast")
    assert QUEUES["ns.retry.fast.30s"].key == WANTED.retry_key(30)


@pytest.mark.parametrize("name", ["ns.tasks", "ns.events"])
def test_what_no_queue_takes_goes_to_a_bounded_one(name):
    alternate = EXCHANGES[name].arguments["alternate-exchange"]
    (queue,) = [queue for queue in WANTED.queues if queue.exchange == alternate]
    assert {"x-max-length", "x-max-length-bytes", "x-message-ttl"} <= set(queue.arguments)
