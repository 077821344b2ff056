"""A task that failed, was replayed and waits in its queue can be canceled, by the commands that a person uses."""

import asyncio
import subprocess

from tests.e2e.bus import bus
from tests.e2e.media import BUCKET
from tests.e2e.site import cancel_by_command, endless_task, short_task
from tests.e2e.worker_process import COMMAND, environment


async def test_a_waiting_replay_is_cancelled_by_command(on_disk, broker):
    site = on_disk
    missing = short_task(site) | {"Sources": [{"URI": f"oss://{BUCKET}/videos/nowhere.mp4"}]}
    with site.worker(pool__slots=1):
        async with bus(site.url, site.namespace) as line:
            failed = await line.publish(missing)
            await line.end_of(failed)
            await line.settled(broker, dead_main=(1, 0))
            running = await line.publish(endless_task(site))
            await line.under_way(running)
            command = [str(COMMAND), "dead", "replay", failed]
            names = environment({"amqp__url": site.url, "amqp__namespace": site.namespace})
            await asyncio.to_thread(subprocess.run, command, env=names, check=True, capture_output=True, timeout=60)
            done = await asyncio.to_thread(cancel_by_command, site, failed)
            assert done.returncode == 0, done.stderr
            await line.cancel(running)
            await line.until(lambda: "Canceled" in line.statuses(failed), "the replay's end")
            await line.settled(broker)
    assert [each for each in line.statuses(failed) if each != "Running"] == ["Failed", "Canceled"]
    assert (site.record(failed)["Status"], len(site.record(failed)["Runs"])) == ("Canceled", 2)
