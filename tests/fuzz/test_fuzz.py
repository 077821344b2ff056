"""A short run of `make fuzz` that is always the same, the findings of long ones, and proof that findings are found."""

import hashlib
import random
from dataclasses import replace

import pytest

from tests.fuzz.chunks import WALKERS
from tests.fuzz.media import files_of, recipe_of, tried
from tests.fuzz.messages import body_of, properties_of, said
from tests.fuzz.mutations import CHANGES, Recipe, mutated
from tests.fuzz.playlists import playlist_changed
from tests.fuzz.regressions import ROWS
from tests.fuzz.seeds import made, played, shared
from tests.fuzz.verdict import findings
from tests.fuzz.world import BUCKET, Told, Watched, world

SEED = 1
CODECS = ("libx264", "libvpx", "gif")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    ours = made(tmp_path_factory.mktemp("seeds"), CODECS)
    return [*ours, *played(ours)]


async def test_mutated_media_get_known_answers(seeds, tmp_path):
    by_name = {seed.name: seed for seed in seeds}
    answers, compared = set(), 0
    async with world(tmp_path) as place:
        for number in range(40):
            recipe = recipe_of(SEED, number, seeds)
            verdict = await tried(place, recipe, by_name[recipe.seed], f"{number}", compared=number in {12, 20})
            assert verdict.wrong == [], recipe
            answers.add(verdict.answer)
            compared += verdict.compared
        assert place.pool.restarts.keys() <= {"recycled"}
    assert {"Succeeded", "CorruptMedia"} <= answers
    assert compared > 50


async def test_mutated_messages_get_known_answers(tmp_path):
    answers = set()
    async with world(tmp_path) as place:
        for number in range(150):
            result = await said(place, SEED, number)
            assert result.wrong == [], number
            answers.add(result.answer)
    assert {"InvalidArgument", "ResourceNotFound"} <= answers
    assert any(answer.startswith("Missing") for answer in answers)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.why)
async def test_what_was_found_stays_repaired(row, seeds, tmp_path):
    found = {seed.name: seed for seed in (*seeds, *shared())}
    if row.recipe.seed not in found:
        pytest.skip(f"the shared file {row.recipe.seed} is not there")
    async with world(tmp_path) as place:
        verdict = await tried(place, row.recipe, found[row.recipe.seed], "row", compared=True)
    assert verdict.wrong == []
    assert verdict.answer in row.answers


def test_the_same_seed_gives_the_same_inputs(seeds):
    def digests(seed_number):
        recipes = [recipe_of(seed_number, number, seeds) for number in range(30)]
        by_name = {seed.name: seed for seed in seeds}
        return [hashlib.md5(repr(files_of(each, by_name[each.seed])).encode()).hexdigest() for each in recipes]

    assert digests(5) == digests(5)
    assert digests(5) != digests(6)
    assert body_of(random.Random("a")) == body_of(random.Random("a"))
    assert properties_of(random.Random("a")) == properties_of(random.Random("a"))


@pytest.mark.parametrize("walker", WALKERS)
def test_a_walker_takes_any_bytes(walker, seeds):
    rng = random.Random(2)
    for seed in seeds:
        data = seed.files[seed.entry]
        for given in (data, rng.randbytes(500), b"", data[:100], mutated(data, (("damaged", 1),))):
            for chunk in WALKERS[walker](given):
                assert 0 <= chunk.start <= chunk.body <= chunk.end <= len(given)


@pytest.mark.parametrize(
    ("walker", "seed"),
    [("boxes", "libx264-mp4.mp4"), ("units", "libx264-mp4.mp4"), ("elements", "libx264-mkv.mkv"),
     ("riff", "libx264-avi.avi"), ("flv", "libx264-flv.flv"), ("packets", "libx264-ts.ts"),
     ("start_codes", "libx264-h264.h264"), ("gif", "gif-gif.gif"), ("id3", "cover-png.mp3"), ("png", "cover-png.mp3"),
     ("jpeg", "cover-jpeg.mp3")],
)  # fmt: skip
def test_a_walker_finds_the_structure_and_each_change_changes_it(walker, seed, seeds):
    data = next(each.files[each.entry] for each in seeds if each.name == f"made/{seed}")
    assert len(list(WALKERS[walker](data))) >= 3
    for change in CHANGES:
        outcomes = {mutated(data, ((f"{walker}.{change}", number),)) for number in range(12)}
        assert len(outcomes - {data}) >= 3, change


def test_an_mp4_stays_one_where_a_box_goes(seeds):
    """Sizes are put right again, so that parsers get to what is wrong."""
    data = next(each.files[each.entry] for each in seeds if each.name == "made/libx264-mp4.mp4")
    whole = {data[chunk.start + 4 : chunk.start + 8] for chunk in WALKERS["boxes"](data)}
    without = [
        {changed[chunk.start + 4 : chunk.start + 8] for chunk in WALKERS["boxes"](changed)}
        for changed in (mutated(data, (("boxes.drop", number),)) for number in range(40))
    ]
    assert any(len(whole - kinds) == 1 for kinds in without)


def test_playlists_change_in_all_ways():
    text = b'#EXTM3U\n#EXT-X-MAP:URI="a.mp4"\n#EXTINF:1.0,\na.ts\n#EXT-X-ENDLIST\n'
    changed = {playlist_changed(text, random.Random(number)) for number in range(200)}
    assert len(changed) > 80
    assert any(b"etc/passwd" in each for each in changed)


FRAME = {"URI": "oss://fuzz/out/x/1.png", "Time": 0.0, "Bytes": 1, "Sha256": "0" * 64, "Width": 1, "Height": 1}


def succeeded(*frames, code="", status="Succeeded", message=""):
    snapshot = {"Count": len(frames), "Frames": list(frames)}
    return {"Status": status, "Code": code, "Message": message, "Targets": [{"Image": {"Snapshots": [snapshot]}}]}


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (succeeded(), "wrong: an empty success"),
        (succeeded(FRAME), "wrong: 1.png"),
        (succeeded(code="WorkerCrashed", status="Failed", message="SIGSEGV"), "crash"),
        (succeeded(code="Timeout", status="Failed", message="silent"), "hang"),
        (succeeded(code="LimitExceeded", status="Failed", message="the limit POOL__CPU_TIME_LIMIT_S is 1"), "hang"),
        (succeeded(code="LimitExceeded", status="Failed", message="the limit POOL__MEMORY_BYTES is 1"), "memory"),
        (succeeded(code="InternalError", status="Failed", message="unexpected"), "error"),
        (succeeded(code="CorruptMedia", status="Failed"), "error: CorruptMedia without a message"),
        ({"Status": "Running"}, "error: it ended"),
    ],
)
def test_a_wrong_end_is_a_finding(end, kind, tmp_path):
    assert any(each.startswith(kind) for each in findings(Told([end], ["ack"], set()), tmp_path, "in/"))


def test_more_findings(tmp_path):
    honest = succeeded(code="CorruptMedia", status="Failed", message="broken")
    assert findings(Told([honest], ["park", "ack"], {"in/1/a.ts"}), tmp_path, "in/1/") == []
    assert findings(Told([honest], ["park", "ack"], {"in/2/a.ts"}), tmp_path, "in/1/") == [
        "escape: in/2/a.ts was asked for"
    ]
    assert findings(Told([honest], ["give back"], set()), tmp_path, "in/")[0].startswith("error: it was settled")
    (tmp_path / "left-over.png").touch()
    image = succeeded()
    assert any("are stored" in each for each in findings(Told([image], ["ack"], set()), tmp_path, "in/"))


async def test_a_decoder_that_dies_is_a_finding(seeds, tmp_path):
    """With a source that kills: the pool of other tests does what the source says."""
    from worker.adapters.pool import DecoderPool

    async with world(tmp_path) as place, DecoderPool(place.settings.pool, "tests.integration.captures:perform") as pool:
        place.pool = pool
        seed = replace(seeds[0], entry="x", files={"x": b'{"do": "segfault"}\n'})
        verdict = await tried(place, Recipe(seed.name, (), 0, "x"), seed, "1")
    assert verdict.wrong[0].startswith("crash: WorkerCrashed")
    assert not (tmp_path / BUCKET / "in" / "1").exists()


def test_a_message_is_settled_as_watched():
    assert Watched(b"").settled == []
