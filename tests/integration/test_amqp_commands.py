"""Requests to all workers, by way of a real RabbitMQ node."""

import asyncio
from contextlib import suppress

from tests.declared import patiently
from tests.integration.connected import RETRY, eventually
from worker import service
from worker.adapters.amqp import Broker
from worker.messages.control import cancel_message
from worker.ports import BrokerLostError


async def test_who_cannot_listen_when_it_starts_hears_requests_as_soon_as_it_can(amqp):
    """One answer that the broker owes a worker at its start must not leave it deaf for life."""
    heard = asyncio.Queue()

    class Handling:
        async def cancel(self, task_id):
            heard.put_nowait(task_id)

    async with Broker(amqp, RETRY) as broker, service._obeying(broker, Handling()):
        await patiently(broker.prepare)  # until here there is no exchange to listen to

        async def obeyed() -> bool:
            with suppress(BrokerLostError):  # nobody listens yet
                await broker.command(cancel_message("task-1"))
            return not heard.empty()

        await eventually(obeyed)
        assert await heard.get() == "task-1"
