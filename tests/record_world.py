"""A handler's world in memory that keeps records, and what else tests of records need."""

import asyncio
import hashlib
import json

from tests.corpus.messages import snapshot
from tests.fakes import MemoryStore
from tests.handler_world import World, image
from worker.messages.record import read_record
from worker.records import StoredRecords
from worker.task import Location

PLACE = Location("oss", "own-bucket", "records")
OTHER_BODY = json.dumps(snapshot(Number=1)).encode()


class Keeping(World):
    """A world that keeps records, in a store of their own: `kept`. Another worker of it shares them."""

    def __init__(self, *args, kept=None, hold_s=0, **more):
        self.kept = kept or MemoryStore()
        super().__init__(*args, records=StoredRecords(self.kept, PLACE, hold_s, more.get("outages")), **more)
        self.kept.journal = self.journal

    @property
    def objects(self):
        return [each.data for _, each in sorted(self.kept.objects.items())]

    @property
    def record(self):
        (data,) = self.objects
        return read_record(data, "task-1")

    @property
    def steps(self):
        """The journal, with records by what is done with them."""
        return [
            f"{step.split()[0]} record" if ".json" in step and "records/" in step else step for step in self.journal
        ]


def runs(run):
    return {"x-run": run}


def record_key(task_id):
    name = hashlib.sha256(task_id.encode()).hexdigest()
    return f"records/{name[:2]}/{name}.json"


def raising(error):
    async def before(*_):
        raise error

    return before


async def endless(plan, source):
    yield image(1)
    await asyncio.Event().wait()
