"""The same work as a frameworks' user would write it: a Celery task that runs one `ffmpeg` process.

Imported by Celery's own worker (`celery -A bench.celery_peer worker`), and run as the client that sends tasks and waits
for their results: `python -m bench.celery_peer VIDEO FOLDER COUNT`. Needs Celery and nothing of this project.
"""

import os
import subprocess
import sys
import time

from celery import Celery

BROKER = "FRAME_CAPTURE_BENCH_BROKER"

app = Celery("bench", broker=os.environ[BROKER], backend="rpc://")
# As safe as we are: a message is acknowledged when its work is done, and a result is persistent.
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, result_persistent=True)


@app.task(name="capture")
def capture(video: str, image: str) -> str:
    """Write the first frame of a video as an image."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-i", video, "-frames:v", "1", "-q:v", "2", image]
    subprocess.run([*command, "-y"], check=True)
    return image


def main() -> None:
    """Send tasks, wait for all results, and print how long that took."""
    video, folder, count = sys.argv[1:]
    started = time.perf_counter()
    results = [capture.delay(video, f"{folder}/{number}.jpg") for number in range(int(count))]
    for result in results:
        result.get(timeout=600)
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main()
