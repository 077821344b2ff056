"""Queues for a test, made as patiently as workers make theirs.

A RabbitMQ node with too little time may answer a declaration with INTERNAL_ERROR and close the connection, which says
nothing about what is tested.
"""

from collections.abc import Awaitable, Callable

from devkit.broker import Node
from worker.adapters.amqp import Broker
from worker.adapters.amqp_publish import broker_call, persist
from worker.adapters.topology import Topology
from worker.ports import BrokerLostError
from worker.settings import Amqp, Retry

PATIENCE_S = 60
ATTEMPT_S = 30


async def patiently(attempt: Callable[[], Awaitable[object]], node: Node | None = None) -> None:
    """Call `attempt` until no connection is lost in it. When patience is over, tell what the node wrote in its log."""

    async def bounded(_left_s: float) -> None:
        async with broker_call(ATTEMPT_S):
            await attempt()

    try:
        await persist(bounded, PATIENCE_S)
    except BrokerLostError as error:
        if node is not None:
            error.add_note(node.log_tail())
        raise


async def declare_for(amqp: Amqp, retry: Retry) -> Topology:
    """Declare what a worker with these settings declares."""
    async with Broker(amqp, retry) as broker:
        await patiently(broker.prepare)
        return broker.topology
