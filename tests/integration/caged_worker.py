"""A worker's pool that runs one command in one decoder, by itself, so that a test can start it as another user."""

import asyncio
import json
import logging
import os
import sys

from tests.integration.pool_runs import MemorySource, make_plan
from worker.adapters.pool import DecoderPool
from worker.errors import TaskError
from worker.media.plan import Image
from worker.settings import Pool


async def main(sandbox, command) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    said = {}
    try:
        async with DecoderPool(Pool(slots=1, sandbox=sandbox), "tests.integration.escapes:perform") as pool:
            async for event in pool.capture(make_plan(), MemorySource(command.encode())):
                said |= json.loads(event.data) if isinstance(event, Image) else {}
            said["memory_opened"] = openable(f"/proc/{pool.pids()[0]}/mem")
    except TaskError as error:
        sys.exit(f"{error.code} {error.message}")
    print(json.dumps(said))  # noqa: T201  the test reads it


def openable(path):
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return False
    return True


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
