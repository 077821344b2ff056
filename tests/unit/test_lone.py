"""One task without a broker."""

import json

import pytest

from devkit.media import counter_video
from devkit.ports import free_ports
from worker import lone
from worker.settings import Settings, Store


async def run(settings, body):
    told = []
    await lone.run_task(settings, json.dumps(body).encode(), lambda key, event: told.append((key, json.loads(event))))
    return [(key.rpartition(".")[2], event["data"]) for key, event in told]


def task(**entry):
    return {
        "ProjectName": "p",
        "Sources": [{"URI": "oss://in-bucket/v.mp4"}],
        "Targets": [{"Image": {"Snapshots": [{"Format": "png", "URI": "oss://out-bucket/{index}.png"} | entry]}}],
    }


@pytest.fixture
def local(tmp_path):
    (tmp_path / "in-bucket").mkdir()
    counter_video(tmp_path / "in-bucket" / "v.mp4", width=320, height=180, seconds=3)
    return Settings(store=Store(root=tmp_path))


async def test_one_task_runs_without_a_broker(local):
    events = await run(local, task(Interval=1))
    assert [events[0][0], events[-1][0]] == ["Running", "Succeeded"]
    frames = events[-1][1]["Targets"][0]["Image"]["Snapshots"][0]["Frames"]
    assert [frame["Time"] for frame in frames] == [0, 1, 2]
    for frame in frames:
        stored = local.store.root / frame["URI"].removeprefix("oss://")
        assert stored.stat().st_size == frame["Bytes"]


async def test_one_task_has_one_attempt():
    """Where the broker's worker would try again."""
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    store = Store(
        kind="s3", endpoint_url=endpoint, access_key_id="x", secret_access_key="y", max_attempts=1, timeout_s=2
    )
    ((status, content),) = await run(Settings(store=store), task(Number=1))
    assert (status, content["Code"]) == ("Failed", "StorageUnavailable")


async def test_a_failed_task_tells_what_was_wrong(local):
    (local.store.root / "out-bucket").symlink_to(local.store.root)
    status, content = (await run(local, task(Number=1)))[-1]
    assert (status, content["Code"]) == ("Failed", "AccessDenied")
    assert "symbolic link" in content["Message"]


async def test_an_unusable_message_is_told_with_everything_wrong(local):
    ((status, content),) = await run(local, task(Quality=0, Foo=1))
    assert (status, len(content["Problems"])) == ("Failed", 2)


async def test_a_task_that_ends_without_a_result_is_not_hushed_up(local):
    def tell(_key, event):
        if b"Succeeded" in event:
            raise ValueError("a bug")

    with pytest.raises(RuntimeError, match="unexpected error"):
        await lone.run_task(local, json.dumps(task(Number=1)).encode(), tell)
