"""What the log shows, to people and to machines, and what it must never show."""

import asyncio
import io
import json
import logging
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from devkit.ports import free_ports
from tests.corpus.messages import message
from tests.fakes import MemoryBroker, MemoryStore, ScriptedPool, StoredObject
from worker.adapters.amqp import Broker
from worker.adapters.hls import open_source
from worker.adapters.s3 import S3Store
from worker.errors import Code, TaskError
from worker.handler import Handler
from worker.log_lines import MAX_VALUE
from worker.logs import Log, bound, configure
from worker.metrics import Metrics
from worker.ports import BrokerLostError
from worker.settings import MIB, Amqp, Retry, Settings, Store
from worker.task import Location

SECRET = "s3cr3t-hunter2"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def logged():
    """Configure logging into a stream, and undo it afterwards: `logged(form, level, stream)` gives the stream."""
    root = logging.getLogger()
    names = ("aiormq", "aio_pika", "asyncio", "botocore", "aiobotocore", "urllib3")
    before = (list(root.handlers), root.level, {name: logging.getLogger(name).level for name in names})

    def start(form="json", level="debug", stream=None):
        stream = stream or io.StringIO()
        configure(form, level, stream)
        return stream

    yield start
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_a_json_object_unless_on_a_terminal(logged):
    stream = logged("auto")
    Log("worker.x").info("it happened", count=3)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "it happened", "count": 3, "level": "info", "logger": "worker.x"}
    terminal = logged("auto", stream=Terminal())
    Log("worker.y").info("it happened")
    assert "it happened" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_libraries_log_alike(logged):
    stream = logged()
    with bound(task_id="t1"):
        logging.getLogger("worker.adapters.amqp").warning("task %s: lost", "x")
    (line,) = lines(stream)
    assert (line["event"], line["task_id"], line["level"]) == ("task x: lost", "t1", "warning")


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_holds_for_all(logged, level, count):
    stream = logged(level=level)
    log = Log("worker.z")
    for say in (log.debug, log.info, log.warning, log.error):
        say("x")
    assert len(lines(stream)) == count


def test_libraries_that_log_what_they_send_are_not_heard_below_warnings(logged):
    stream = logged(level="debug")
    for name in ("aiormq.connection", "aio_pika.robust_connection", "botocore.auth", "aiobotocore", "urllib3"):
        logging.getLogger(name).debug("Authorization: %s", SECRET)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["json", "console"])
def test_texts_of_strangers_cannot_forge_lines_nor_steer_the_terminal(logged, form):
    stream = logged(form)
    hostile = "a\nforged line\r\x1b[2J\x07\u202egpj.exe\u2028" + "x" * 2000
    log = Log("worker.w")
    log.info("refused", error=hostile)
    logging.getLogger("worker.v").warning("refused: %s", hostile)
    log.error("unexpected", exc_info=ValueError(hostile))
    text = stream.getvalue()
    assert not {"\r", "\x1b", "\x07", "\u202e", "\u2028"} & set(text.replace("\\u202e", "").replace("\x1b[0m", ""))
    assert not [line for line in text.splitlines() if line.startswith("forged")] or form == "console"
    if form == "json":
        assert len(text.splitlines()) == 3
        assert len(lines(stream)[0]["error"]) == MAX_VALUE + 1


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_code_and_no_values(logged, form):
    stream = logged(form)

    def sign(request, password=SECRET):
        signed = {"Authorization": password, "request": request}
        raise RuntimeError(f"{len(signed)} things went wrong")

    try:
        sign("x")
    except RuntimeError:
        Log("worker.u").exception("unexpected")
        logging.getLogger("worker.t").exception("unexpected")
    text = stream.getvalue()
    assert text.count("2 things went wrong") == 2
    assert text.count("sign") >= 2
    assert SECRET not in text


# --- the worker's own lines


BODY = json.dumps(message(UserData=SECRET, Tags={"key": SECRET})).encode()
TRACE = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}


async def handle(script, body=BODY, **lost):
    broker = MemoryBroker(**lost)
    store = MemoryStore({("in-bucket", "videos/sample.mp4"): StoredObject(b"video", "", "tag")})
    handler = Handler(
        store=store,
        open_source=partial(open_source, store, cache_bytes=4 * MIB, max_bytes=MIB),
        decoders=ScriptedPool(script),
        announcer=broker,
        settings=Settings(),
        metrics=Metrics(CollectorRegistry()),
    )
    await handler.handle(broker.deliver(body, headers=TRACE))


async def a_bug(plan, source):
    raise ZeroDivisionError("oops")
    yield


async def a_decoders_bug(plan, source):
    raise TaskError(Code.INTERNAL_ERROR, "unexpected", retryable=True) from RuntimeError("traceback of the child")
    yield


@pytest.mark.parametrize("script", [a_bug, a_decoders_bug])
@pytest.mark.parametrize("lost", [set(), {"announce"}, {"announce Retrying"}])
async def test_each_line_about_a_task_names_it_and_its_trace(logged, script, lost):
    stream = logged()
    await handle(script, lost=lost)
    assert len(lines(stream)) >= 1
    for line in lines(stream):
        assert (line["task_id"], line["trace_id"]) == ("task-1", TRACE_ID)
    assert SECRET not in stream.getvalue(), "a message's contents are nobody's business"


async def test_a_message_that_is_no_task_is_named_too(logged):
    stream = logged()
    await handle(a_bug, b'{"ProjectName": "x"}')
    assert {(line["task_id"], line["trace_id"]) for line in lines(stream)} == {("task-1", TRACE_ID)}


async def test_lines_of_side_by_side_tasks_are_not_mixed_up(logged):
    stream = logged()
    await asyncio.gather(*(handle(a_bug) for _ in range(3)))
    Log("worker.q").info("afterwards")
    assert "task_id" not in lines(stream).pop()
    assert {line["task_id"] for line in lines(stream)[:-1]} == {"task-1"}


async def test_the_decoders_traceback_is_in_the_log(logged):
    stream = logged()
    await handle(a_decoders_bug)
    assert "traceback of the child" in stream.getvalue()


# --- secrets


async def test_no_credentials_of_the_broker(logged):
    """A broker that is not there, and a URL that is none, are told without the password."""
    stream = logged()
    url = f"amqp://user:{SECRET}@127.0.0.1:{free_ports(1)[0]}/"
    settings = Settings(amqp=Amqp(url=url, startup_deadline_s=0.5))
    logging.getLogger("worker").warning("settings: %s", settings)
    with pytest.raises(BrokerLostError) as caught:
        async with Broker(settings.amqp, Retry()):
            pass
    Log("worker.s").error("giving up", error=str(caught.value), exc_info=caught.value)
    text = stream.getvalue()
    assert "not reachable" in text
    assert SECRET not in text


async def test_no_credentials_of_the_store(logged):
    stream = logged()
    settings = Store(
        kind="s3",
        endpoint_url=f"http://127.0.0.1:{free_ports(1)[0]}",
        access_key_id="AKIAEXAMPLE",
        secret_access_key=SECRET,
        session_token=f"{SECRET}-token",
        max_attempts=1,
        timeout_s=2,
    )
    async with S3Store(settings) as store:
        with pytest.raises(TaskError) as caught:
            await store.write(Location("s3", "bucket", "key"), b"data", "image/jpeg")
    Log("worker.r").error("failed", error=caught.value.message, exc_info=caught.value)
    text = stream.getvalue()
    assert "StorageUnavailable" in text
    assert SECRET not in text
