"""Nothing that a worker emits, whatever goes wrong, holds a secret it was given; nor does any of its decoders."""

import base64
import contextlib
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import aio_pika
import pytest

from devkit.s3 import moto_server
from tests.e2e.bus import bus
from tests.e2e.conftest import new_namespace
from tests.e2e.media import BUCKET, long_task, task
from tests.e2e.store import Bucket, store_settings
from tests.e2e.worker_process import COMMAND, environment, serving

MARK = secrets.token_hex(12)
# Characters that are written otherwise in URLs, and that end a password in one.
PASSWORD = f"pass/{MARK}@:word"
KEY_ID, SECRET, TOKEN = (f"{MARK}+{name}/=" for name in ("key", "secret", "token"))
# The mark is in all forms but this one.
FORMS = [MARK, *(base64.b64encode(each.encode()).decode() for each in (PASSWORD, KEY_ID, SECRET, TOKEN))]
ANY_FORM = re.compile("|".join(map(re.escape, FORMS)).encode())


def leaks(text: str | bytes) -> list[str]:
    """The secrets within, however they are written, with what surrounds them, to see whence they come."""
    raw = text if isinstance(text, bytes) else text.encode()
    return [
        raw[max(found.start() - 60, 0) : found.end() + 20].decode(errors="replace") for found in ANY_FORM.finditer(raw)
    ]


def memory(pid: int) -> Iterator[bytes]:
    """All that a process can read, region by region, but for what the kernel gives nobody else."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights.startswith("r") and not line.endswith(("[vvar]", "[vvar_vclock]", "[vsyscall]")):
                start, end = (int(each, 16) for each in span.split("-"))
                file.seek(start)
                with contextlib.suppress(OSError):  # never touched, or behind the end of its file
                    yield file.read(end - start)


def held_by(pids: list[int]) -> str:
    """The environments and command lines of processes, and what their memory holds of secrets."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    told = [Path(f"/proc/{pid}/{name}").read_text() for pid in pids for name in ("environ", "cmdline")]
    found = [leak for pid in pids for region in memory(pid) for leak in leaks(region)]
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    return "\n".join(told + found)


@pytest.fixture
def url(broker):
    """The broker's URL for a user whose password is marked."""
    user = f"user-{secrets.token_hex(4)}"
    broker.rabbitmqctl("add_user", user, PASSWORD)
    broker.rabbitmqctl("set_permissions", user, ".*", ".*", ".*")
    yield f"amqp://{user}:{quote(PASSWORD, safe='')}@127.0.0.1:{broker.port}/"
    broker.rabbitmqctl("delete_user", user)


def of_store(server) -> dict[str, object]:
    keys = {"store__access_key_id": KEY_ID, "store__secret_access_key": SECRET, "store__session_token": TOKEN}
    return store_settings(server) | keys


async def everything(broker_url: str, namespace: str, queue: str) -> str:
    """All messages of a queue, with all that they carry."""
    connection = await aio_pika.connect(broker_url)
    async with connection:
        channel = await connection.channel()
        messages = []
        found = await channel.get_queue(f"{namespace}.{queue}", ensure=False)
        while (message := await found.get(no_ack=True, fail=False)) is not None:
            messages.append(f"{message.routing_key} {message.info()} {message.body.decode()}")
    return "\n".join(messages)


async def test_no_secret_leaves_a_worker_through_tasks_failures_and_outages(broker, url, sources, tmp_path):
    namespace = new_namespace()
    with contextlib.ExitStack() as store:
        server = store.enter_context(moto_server())
        server.create_bucket(BUCKET)
        client = store.enter_context(contextlib.closing(server.client()))
        bucket = Bucket(client)
        bucket.put("videos/sample.mp4", sources.bucket / "videos" / "sample.mp4")
        settings = of_store(server) | {"records__uri": f"s3://{BUCKET}/records", "log_level": "debug"}
        settings |= {"store__max_attempts": 1, "store__timeout_s": 5, "retry__max_attempts": 2}
        with serving(tmp_path, amqp_url=url, namespace=namespace, **settings) as worker:
            async with bus(broker.url, namespace) as line:
                emitted = await emit_all(broker, urlsplit(url).username, worker, line, bucket, store)
        emitted["log"] = worker.log_file.read_text()
    assert {each.status for each in line.told} >= {"Running", "Succeeded", "Failed"}
    assert len(emitted["log"]) > 5000
    assert {name: leaks(text) for name, text in emitted.items() if leaks(text)} == {}


async def emit_all(broker, user, worker, line, bucket, store) -> dict[str, str]:
    """Make the worker do and suffer all sorts of things; gives what it emitted, by where."""
    done = await line.outcome(task())
    await line.outcome(task(source="videos/absent.mp4"))
    await line.outcome(task({"URI": "oss://no-such-bucket/{index}.jpg"}))
    await line.outcome(b'{"Sources": [{"URI": "s3://' + MARK.encode()[:4] + b'"}]}')
    running = await line.publish(long_task("long"))
    await line.under_way(running)
    children = worker.family()
    assert len(children) >= 2  # the process that starts decoders, and one that is at work
    in_children = held_by(children)
    assert leaks(b"".join(memory(worker.process.pid)))  # which has the secrets: the search can find them
    await line.end_of(running)
    stored = [f"{key} {bucket.get(key)}" for key in bucket.keys("")]
    broker.rabbitmqctl("close_all_user_connections", user, "a test wants it")
    worker.until(lambda: worker.metrics()["amqp_reconnects"] > 0, "the worker to come back")
    worker.until_ready()
    store.close()
    await line.publish(task())
    worker.until(lambda: worker.not_ready() != [], "the worker to notice that the store is gone")
    told = {path: worker.get(path)[1] for path in ("/metrics", "/readyz", "/livez")}
    dead = await everything(broker.url, line._namespace, "dead.main")
    assert done.status == "Succeeded"
    assert dead
    return told | {
        "events": "\n".join(f"{each.routing_key} {each.body}" for each in line.told),
        "parked": dead,
        "store": "\n".join(stored),
        "decoders": in_children,
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"records__uri": f"s3://{BUCKET}/records"},
        {"amqp__url": f"amqp://guest:{quote(PASSWORD, safe='')}@127.0.0.1:PORT/"},
        {"amqp__url": f"http://guest:{quote(PASSWORD, safe='')}@127.0.0.1:PORT/"},
        {"amqp__url": f"amqp://guest:{PASSWORD}@127.0.0.1:PORT/"},
        {"store__session_token": TOKEN, "store__secret_access_key": SECRET},
        {"store__access_key_id": KEY_ID, "store__secret_access_key": SECRET, "store__knd": "s3"},
    ],
)
def test_no_secret_is_told_where_settings_or_servers_refuse(broker, seaweed_server, settings):
    given = of_store(seaweed_server) | {"amqp__url": broker.url, "amqp__startup_deadline_s": 2, "log_level": "debug"}
    given |= {"amqp__namespace": new_namespace(), "http__port": 0, "http__host": "127.0.0.1"}
    given |= {name: value.replace("PORT", str(broker.port)) for name, value in settings.items()}
    if set(settings) == {"store__session_token", "store__secret_access_key"}:
        del given["store__access_key_id"]
    done = subprocess.run(
        [str(COMMAND), "serve"], env=environment(given), capture_output=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode not in (0, -9), done
    assert done.stdout + done.stderr
    assert leaks(done.stdout + done.stderr) == []


def test_the_search_finds_secrets_however_they_are_written():
    for each in (PASSWORD, KEY_ID, SECRET, TOKEN):
        for form in (each, quote(each), quote(each, safe=""), base64.b64encode(each.encode()).decode()):
            assert leaks(f"before {form} after")
    assert leaks("nothing") == []
