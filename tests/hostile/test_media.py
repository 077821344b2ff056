"""Each source of the table gets exactly its answer from a real worker, at once, and takes no decoder with it."""

import asyncio
from dataclasses import dataclass

import pytest

from tests.e2e.bus import Told, bus
from tests.e2e.conftest import new_namespace
from tests.e2e.media import BUCKET, copy_sources, task
from tests.hostile.media import MEDIA


@dataclass(frozen=True)
class Answers:
    """What a worker made of all rows."""

    told: dict[str, list[Told]]
    after: Told
    metrics: dict[str, float]


def key_of(name: str) -> str:
    return "videos/hostile/" + name.replace(" ", "-").replace(",", "")


@pytest.fixture(scope="module")
def answers(broker, start, sources, tmp_path_factory) -> Answers:
    namespace = new_namespace()
    root = copy_sources(sources, tmp_path_factory.mktemp("hostile") / "buckets")
    (root / BUCKET / "videos" / "hostile").mkdir()
    for name, row in MEDIA.items():
        (root / BUCKET / key_of(name)).write_bytes(row.data if isinstance(row.data, bytes) else row.data())

    async def publish_all() -> tuple[dict[str, list[Told]], Told]:
        async with bus(broker.url, namespace) as line:
            for number, (name, row) in enumerate(MEDIA.items()):
                output = {"URI": f"oss://{BUCKET}/out/{number}/{{index}}.jpg", "Width": 16, "Height": 16}
                await line.publish(task(output | row.snapshot, source=key_of(name)), name)
            await line.ended(MEDIA)
            return {name: line.of(name) for name in MEDIA}, await line.outcome(task({"Number": 1}))

    with start(namespace, store__root=root, events__inline_bytes=8_000_000) as worker:
        told, after = asyncio.run(publish_all())
        return Answers(told, after, worker.metrics())


@pytest.mark.parametrize("name", MEDIA)
def test_a_source_gets_its_answer(answers, name):
    row = MEDIA[name]
    told = answers.told[name][-1]
    assert (told.status, told.data["Code"]) == ("Failed" if row.code else "Succeeded", row.code)
    assert row.says in told.data["Message"]
    (snapshot,) = told.snapshots
    assert snapshot.get("Count", 0) == row.count
    assert len(snapshot.get("Frames", [])) == row.count
    assert tuple(each["Code"] for each in snapshot.get("Warnings", [])) == row.warnings


def test_none_is_tried_again_or_ends_a_decoder(answers):
    assert answers.metrics["retries_total"] == 0
    ends = [answers.metrics[f"decoder_restarts {reason}"] for reason in ("crashed", "memory", "timeout", "canceled")]
    assert ends == [0, 0, 0, 0]


def test_the_worker_goes_on(answers):
    assert answers.after.status == "Succeeded"
