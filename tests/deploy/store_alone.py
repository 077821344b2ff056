"""Starts the store of `deploy/compose.yaml` and makes its bucket, twice, as two `docker compose up` would.

Run in a network of its own, since the ports are those of the file: `unshare --net --map-root-user python -m …`, with a
directory for the data. Prints the buckets that there are in the end.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from socket import create_connection

import yaml

from devkit.s3 import S3Server

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
DEADLINE_S = 60


def main(home: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    store, bucket = services["s3"], services["bucket"]
    here = {"/data": str(home / "data"), "/etc/seaweedfs": str(ROOT / "deploy" / "k8s" / "overlays" / "dev")}
    (home / "data").mkdir()
    command = [*store["entrypoint"], *store["command"]]
    for inside, outside in here.items():
        command = [each.replace(f"={inside}", f"={outside}") for each in command]
    env = os.environ | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "TMPDIR": str(home)}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_port(8333, process)
        for _ in range(2):
            subprocess.run(
                bucket["entrypoint"], env=env, cwd=home, stdout=subprocess.DEVNULL, timeout=DEADLINE_S, check=True
            )
        with closing(S3Server("http://127.0.0.1:8333", "dev-only", "dev-only-secret").client()) as client:
            sys.stdout.write(" ".join(each["Name"] for each in client.list_buckets()["Buckets"]) + "\n")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """As the file's health check does."""
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
