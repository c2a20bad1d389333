"""`winnow doctor`: what it finds in real shards, and what it advises for made-up findings."""

import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from winnow import cli
from winnow.data.inspection import CaptionFacts, PictureFacts
from winnow.recipes.diagnosis import (
    DataFacts,
    Diagnosis,
    LoaderFacts,
    ShardFacts,
    advise,
    checkpoints_kept,
)
from winnow.recipes.doctor import take_recipe_name
from winnow.recipes.training import RECIPES
from winnow.training.capacity import Capacity, MemoryPlan
from winnow.types import InputError

SMALL = ["--model.image.image-size", "32", "--model.text.layers", "1", "--batch-size", "8"]
SMALL += ["--runtime.workers", "0", "--runtime.device", "cpu"]


def picture(seed):
    """A picture with structure enough for a perceptual hash; the same seed is the same file."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image, buffer = Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC), io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def near(data):
    """The same picture in another file."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).resize((72, 60), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Two shards of twenty pairs: a copy, a near copy, a cut picture, captions that repeat."""
    folder = tmp_path_factory.mktemp("noisy")
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for index in range(20):
                data = picture(100 * shard + (0 if index == 1 else index))
                if index == 2:
                    data = near(picture(100 * shard))
                data = data[:100] if (shard, index) == (0, 3) else data
                words = "\x1b[31mstock photo" if index < 5 else f"thing {index} of shard {shard}"
                for suffix, payload in (("png", data), ("txt", words.encode())):
                    member = tarfile.TarInfo(f"{shard}{index:04d}.{suffix}")
                    member.size = len(payload)
                    archive.addfile(member, io.BytesIO(payload))
    return folder


def doctor(arguments, out):
    assert cli.run(["doctor", *arguments, "--recipe", "tiny", "--json", str(out), *SMALL]) == 0
    return json.loads(out.read_text())


def test_raw_shards_are_looked_at_before_anything_is_indexed(noisy, tmp_path, capsys):
    before = sorted(noisy.iterdir())
    found = doctor([str(noisy), "--samples", "40", "--out", str(tmp_path / "run")], tmp_path / "f")
    data = found["data"]
    assert (data["looked_at"], data["is_selection"]) == (40, False)
    assert data["pictures"]["failures"] == {"truncated picture": 1}
    assert (data["pictures"]["count"], data["pictures"]["copies"], data["near_copies"]) == (
        39,
        2,
        2,
    )
    assert data["captions"]["repeated"] == 9
    assert data["captions"]["most_frequent"] == [["\x1b[31mstock photo", 10]]
    assert data["shards"]["count"] == 2
    assert data["shards"]["total"] == sum(path.stat().st_size for path in noisy.iterdir())
    assert data["pairs"] == pytest.approx(40, rel=0.6)  # the end of a tar is empty blocks
    assert found["loader"]["images_per_second"] > 0
    assert [point["pairs"] for point in found["model"]["points"]] == [2, 4, 8]
    rates = found["loader"]["images_per_second"], found["run"]["model_samples_per_second"]
    assert found["run"]["limited_by"] == ("loader" if rates[0] < rates[1] else "model")
    assert found["run"]["hours"] == pytest.approx(480 * 8 / min(rates) / 3600)
    options = [advice["option"] for advice in found["advice"]]
    assert "winnow curate SHARDS --out DIR --max-errors 0.05" in options
    assert "winnow curate SHARDS --out DIR --rules clean near-duplicate" in options
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "stock photo" in shown
    assert sorted(noisy.iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f"]


def test_a_selection_is_known_exactly(shards, tmp_path, capsys):
    curated = tmp_path / "curated"
    assert cli.run(["curate", str(shards), "--out", str(curated), "--workers", "1"]) == 0
    found = doctor([str(curated), "--samples", "20"], tmp_path / "found.json")
    data = found["data"]
    assert data["is_selection"] is True
    assert data["pairs"] == data["looked_at"] == 12
    assert data["pictures"]["formats"] == {"png": 12}
    assert data["pictures"]["failures"] == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere-at-all"], "nowhere-at-all"),
        (["x", "--recipe", "clop"], "there is no recipe 'clop': did you mean clip"),
        (["x", "--samples", "0"], "at least one pair has to be looked at"),
    ],
)
def test_bad_input_is_one_sentence(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["doctor", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("winnow: ") and says in error


def test_shards_of_which_nothing_can_be_read_are_refused(tmp_path, capsys):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("a.jpg", "a.txt"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert cli.run(["doctor", str(tmp_path), "--recipe", "tiny", *SMALL]) == 2
    assert f"no pair of {tmp_path} can be read (the first" in capsys.readouterr().err


def test_columns_of_other_names_are_said_to_be_missing(tmp_path, capsys):
    pq.write_table(pa.table({"foo": [1], "bar": ["x"]}), tmp_path / "0.parquet")
    assert cli.run(["doctor", str(tmp_path), "--recipe", "tiny", *SMALL]) == 2
    assert "its columns are 'foo', 'bar': rename the one that" in capsys.readouterr().err


def test_the_recipe_s_name_is_taken_from_anywhere():
    assert take_recipe_name(["a", "--recipe", "psd", "--steps", "3"], RECIPES) == (
        "psd",
        ["a", "--steps", "3"],
    )
    assert take_recipe_name(["--recipe=tiny", "a"], RECIPES) == ("tiny", ["a"])
    assert take_recipe_name(["a"], RECIPES) == ("clip", ["a"])
    with pytest.raises(InputError, match="no recipe 'p'"):
        take_recipe_name(["--recipe", "p"], RECIPES)


HEALTHY = Diagnosis(
    recipe_name="tiny",
    recipe=RECIPES["tiny"](),  # 480 steps of 256 pairs, one worker, two checkpoints
    data=DataFacts(
        name="shards",
        is_selection=False,
        how="the first 100 pairs of each of 8 of 40 shards",
        looked_at=1000,
        pairs=100_000,
        shards=ShardFacts(
            count=40, total=10**9, smallest=20 * 10**6, median=25 * 10**6, largest=10**8, unknown=0
        ),
        unreadable_shards={},
        own_uids=0,
        near_copies=10,
        captions=CaptionFacts(
            count=1000, empty=1, tokens=(5, 8, 12), cut=50, repeated=20, most_frequent=()
        ),
        pictures=PictureFacts(
            count=995,
            failures={"broken picture": 5},
            formats={"jpeg": 995},
            sides=(300, 200),
            kilobytes=50.0,
            small=10,
            copies=10,
        ),
    ),
    loader=LoaderFacts(images_per_second=500.0, workers=1, images=1000, cores=8),
    capacity=Capacity(
        device="CPU",
        is_gpu=False,
        parameters=10**6,
        trainable=10**6,
        flops_per_pair=1e9,
        points=(),
        seconds_standing=0.0,
        seconds_per_pair=1 / 400,
        loss_seconds=0.0,
        loss_pairs=256,
        memory=MemoryPlan(
            standing=10**9, per_pair=10**6, per_kept_pair=10**3, check=0.02, available=4 * 10**9
        ),
        can_split_batches=True,
        checkpoint_bytes=12 * 10**6,
        model_bytes=4 * 10**6,
    ),
    disk_free=10**9,
)


def test_a_healthy_run_needs_no_advice():
    assert advise(HEALTHY) == []
    assert HEALTHY.model_rate == 400
    assert not HEALTHY.is_loader_limiting
    assert HEALTHY.hours == pytest.approx(480 * 256 / 400 / 3600)
    assert HEALTHY.disk_needed == 3 * 12 * 10**6 + 4 * 10**6


def changed(part, **changes):
    return replace(HEALTHY, **{part: replace(getattr(HEALTHY, part), **changes)})


def with_data(part, **changes):
    return changed("data", **{part: replace(getattr(HEALTHY.data, part), **changes)})


def with_memory(**changes):
    return changed("capacity", memory=replace(HEALTHY.capacity.memory, **changes))


REUSED = changed("data", is_selection=True)

CASES = {
    "a shard is damaged": (
        changed("data", unreadable_shards={"7.tar": "it is gone"}),
        "7.tar cannot be read (it is gone)",
        None,
    ),
    "fewer pairs than a batch": (changed("data", pairs=200), "about 200 pairs", "--batch-size 128"),
    "the batch does not fit": (
        with_memory(available=1_300_000_000),
        "in parts of 169 pairs",  # 0.9 x 1.3 GB less 1 GB and 256 kB, over 1 MB
        "--micro-batches 2",
    ),
    "nothing fits": (
        with_memory(available=1_100_000_000),
        "no number of micro-batches",
        "--runtime.gradient-checkpointing",
    ),
    "the batch does not fit and cannot be split": (
        replace(
            with_memory(available=1_300_000_000),
            capacity=replace(
                with_memory(available=1_300_000_000).capacity, can_split_batches=False
            ),
        ),
        "batch normalisation leaves no micro-batches",
        "--runtime.gradient-checkpointing",
    ),
    "the disk is full": (
        replace(HEALTHY, disk_free=30 * 10**6),
        "up to 0.0 GB",
        "--runtime.keep-checkpoints 1",
    ),
    "many pictures are broken": (
        with_data("pictures", failures={"truncated picture": 20, "empty picture": 5}),
        "2.5% of the pairs cannot be read, mostly because of: truncated picture",
        "winnow curate SHARDS --out DIR --max-errors 0.05",
    ),
    "a selected picture is broken": (
        REUSED,
        "5 of 1,000 pairs of the selection cannot be read any more",
        "winnow curate SHARDS --out DIR",
    ),
    "the loader is slow": (
        changed("loader", images_per_second=150.0),
        "the model could take 400, so it would wait 62% of the time",
        "--runtime.workers 3",
    ),
    "the loader cannot be fed by this machine": (
        changed("loader", images_per_second=40.0),
        "About 10 workers would feed it, and this machine has 8 cores",
        "--runtime.workers 8",
    ),
    "it takes for ever": (
        replace(HEALTHY, recipe=replace(HEALTHY.recipe, steps=10**6)),
        "7 days here: take a GPU",  # 10^6 x 256 / 400 s
        None,
    ),
    "raw shards repeat themselves": (
        with_data("captions", repeated=60),
        "6% of the captions repeat others or are empty, and 2% of the pictures",
        "winnow curate SHARDS --out DIR --rules clean near-duplicate",
    ),
    "raw shards have copies": (
        changed("data", near_copies=45),
        "6% of the pictures are copies",
        "winnow curate SHARDS --out DIR --rules clean near-duplicate",
    ),
    "captions are cut": (
        with_data("captions", cut=51, tokens=(5, 8, 30)),
        "95 % have at most 30 tokens",
        "--model.text.context-length 30",
    ),
    "pictures are small": (with_data("pictures", small=200), "20% of the pictures", None),
    "a shard is far larger": (
        with_data("shards", largest=101 * 10**6),
        "The largest shard has 101 MB, the median one 25",
        None,
    ),
    "memory is no line": (with_memory(check=-0.2), "misses a measured step by 20%", None),
}


@pytest.mark.parametrize("name", CASES)
def test_one_flaw_is_one_sentence_with_what_to_change(name):
    found, says, option = CASES[name]
    (advice,) = advise(found)
    assert says in advice.sentence
    assert advice.option == option


def test_a_selection_that_repeats_itself_wants_a_mask():
    clean = replace(HEALTHY.data.pictures, failures={}, count=1000)
    captions = replace(HEALTHY.data.captions, repeated=60)
    found = changed("data", is_selection=True, pictures=clean, captions=captions)
    (advice,) = advise(found)
    assert advice.option == "--mask.same-caption"
    masked = replace(found.recipe, mask=replace(found.recipe.mask, same_caption=True))
    assert advise(replace(found, recipe=masked)) == []


def test_the_weightiest_comes_first():
    found = replace(
        changed("loader", images_per_second=150.0), data=replace(HEALTHY.data, pairs=200)
    )
    assert [one.option for one in advise(found)] == ["--batch-size 128", "--runtime.workers 3"]


def test_more_micro_batches_than_asked_for_slow_the_model_down():
    found = with_memory(available=1_300_000_000)
    assert found.micro_batches == 2
    assert found.model_rate == pytest.approx(300)


def test_checkpoints_that_stay_for_good_are_counted():
    recipe = HEALTHY.recipe
    runtime = replace(recipe.runtime, keep_every=100, evaluate_every=50, keep_checkpoints=2)
    assert checkpoints_kept(replace(recipe, runtime=runtime)) == 2 + 4 + 1 + 1
    assert checkpoints_kept(recipe) == 3
