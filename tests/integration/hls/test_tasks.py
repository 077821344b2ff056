"""Tasks whose source is a playlist, through the decoder process."""

import json

from PIL import Image as Picture

from devkit.counter import read_number
from tests.playlists import PART, PARTS
from worker.lone import run_task
from worker.settings import Pool, Settings, Store


async def test_a_task_captures_a_playlist(root):
    entries = [
        {"Format": "png", "URI": "file://out/at-{index}.png", "StartTime": 20, "Number": 1},
        {"Format": "png", "URI": "file://out/every-{index}.png", "Interval": 20},
    ]
    message = {
        "ProjectName": "demo",
        "Sources": [{"URI": "file://hls/joined.m3u8"}],
        "Targets": [{"Image": {"Snapshots": entries}}],
    }
    events = []
    settings = Settings(store=Store(kind="local", root=root), pool=Pool(slots=1))
    await run_task(settings, json.dumps(message).encode(), lambda _, body: events.append(json.loads(body)))
    assert events[-1]["data"]["Status"] == "Succeeded", events[-1]
    for name, places in (("at", [500]), ("every", range(0, PARTS * PART, 500))):
        pictures = [Picture.open(root / "out" / f"{name}-{index}.png") for index, _ in enumerate(places, 1)]
        assert [read_number(picture, size=(320, 180)) for picture in pictures] == [place % PART for place in places]


async def test_a_task_whose_playlist_names_another_host_fails_for_good(root):
    (root / "hls" / "evil.m3u8").write_text("#EXTM3U\n#EXTINF:2,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    message = {
        "ProjectName": "demo",
        "Sources": [{"URI": "file://hls/evil.m3u8"}],
        "Targets": [{"Image": {"Snapshots": [{"Format": "jpg", "URI": "file://out/evil-{index}.jpg"}]}}],
    }
    events = []
    settings = Settings(store=Store(kind="local", root=root), pool=Pool(slots=1))
    await run_task(settings, json.dumps(message).encode(), lambda _, body: events.append(json.loads(body)))
    assert (events[-1]["data"]["Status"], events[-1]["data"]["Code"]) == ("Failed", "AccessDenied")
    assert "'http://127.0.0.1:9/a.ts'" in events[-1]["data"]["Message"]
    assert not list((root / "out").glob("evil*"))
