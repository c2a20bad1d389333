"""`winnow audit RUN` on the files of a run: real shards, an exported model, segments of steps."""

import io
import json
import math
import shutil
import tarfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from coloured_things import things, write_shards

from winnow import cli
from winnow.curation.rule_specs import read_rules
from winnow.data.audit_segments import SEGMENT_SCHEMA, SegmentFacts, write_segment
from winnow.data.mixture import Mixture
from winnow.data.selection import Selection
from winnow.models import CustomTowers, TextTransformer, VisionTransformer
from winnow.models.encoder import load_encoder
from winnow.models.towers import Towers
from winnow.recipes.audit import Audit, run_audit
from winnow.recipes.data import curate
from winnow.reports.audit_files import read_facts
from winnow.types import InputError

SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=16, patch_size=8, width=32, head_width=16, layers=1),
    text=TextTransformer(context_length=12, width=32, heads=2, layers=1),
)
COUNT, STEPS, BATCH = 48, 10, 24
DOUBTED = (7, 30, 12)
"""Pairs, by key, that the made-up training believes least, worst first."""


def see(run, selection, facts=None, *, steps=STEPS):
    """A segment in which every pair is seen twice, half of the times late."""
    random = np.random.default_rng(0)
    step = np.repeat(np.arange(steps), BATCH)
    row = np.concatenate([random.permutation(COUNT) for _ in range(steps * BATCH // COUNT)])
    keys = np.array([int(one.address.key) for one in selection.samples(np.arange(COUNT))])
    own = np.full(COUNT, 0.8) + random.uniform(0, 0.1, COUNT)
    for place, key in enumerate(DOUBTED):
        own[keys == key] = 0.01 * (1 + place)
    table = pa.table(
        {
            "step": pa.array(step, pa.int32()),
            "row": pa.array(row, pa.int64()),
            "own_probability": pa.array(own[row], pa.float32()),
            # The other way round, so that it shows which of the two decides.
            "margin": pa.array(0.5 - own[row], pa.float32()),
            "is_first": pa.array(own[row] > 0.5),
            "target_other_mass": pa.array(np.full(len(row), np.nan), pa.float32()),
        },
        SEGMENT_SCHEMA,
    )
    facts = facts or SegmentFacts(STEPS, selection.fingerprint)
    return write_segment(run, table, facts, first=0, end=steps, rank=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with shards, a curated folder and a run, never changed by a test."""
    folder = tmp_path_factory.mktemp("audit")
    shards = write_shards(folder / "shards", count=COUNT)
    curated = curate(
        str(shards), folder / "curated", rules=read_rules(["none"]), name="all", workers=1
    )
    selection = Selection.open(curated.directory)
    run = folder / "run"
    run.mkdir()
    torch.manual_seed(0)
    Towers(SMALL).eval().export(run / "model")
    recipe = {
        "batch_size": BATCH,
        "objective": {"kind": "InfoNCE"},
        "mask": {"same_caption": False},
    }
    (run / "recipe.json").write_text(json.dumps(recipe))
    data = {"selection": str(curated.directory), "fingerprint": selection.fingerprint}
    (run / "data.json").write_text(json.dumps({**data, "pairs": COUNT, "sources": []}))
    see(run, selection)
    return folder


@pytest.fixture
def run(made, tmp_path):
    """A copy of the run alone: its selection stays where it is."""
    return shutil.copytree(made / "run", tmp_path / "run")


@pytest.fixture(scope="module")
def audited(made):
    """The run after its audit, and what was said."""
    said = []
    run = shutil.copytree(made / "run", made / "audited")
    options = Audit(run=run, pairs=5, device="cpu")
    page = run_audit(options, say=lambda *words, **_: said.extend(words))
    return run, page, said


def cosines(run):
    """Of every picture with every caption, one encoding at a time, by key."""
    encoder = load_encoder(str(run), device="cpu")
    from winnow.data.images import evaluation_view

    def unit(features):
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    views = np.stack([evaluation_view(data, view=encoder.view) for _, data, _ in things(COUNT)])
    image = unit(encoder.encode_image(torch.from_numpy(views)).numpy())
    text = unit(encoder.encode_text([caption for _, _, caption in things(COUNT)]).numpy())
    return image @ text.T


def test_the_doubts_are_the_least_believed_and_what_the_model_would_rather_say(audited):
    run, _, _ = audited
    rows = pq.read_table(run / "audit/doubts.parquet").to_pylist()
    assert [int(row["key"]) for row in rows[:3]] == list(DOUBTED)
    assert [row["own_probability_late"] for row in rows[:3]] == pytest.approx([0.01, 0.02, 0.03])
    assert rows[0]["times"] == STEPS * BATCH // COUNT
    cosine = cosines(run)
    captions = [caption for _, _, caption in things(COUNT)]
    for row in rows:
        own = int(row["key"])
        assert row["own_cosine"] == pytest.approx(cosine[own, own], abs=1e-5)
        best = {caption: cosine[own, n] for n, caption in enumerate(captions)}
        others = sorted((c for c in best if c != captions[own]), key=lambda c: -best[c])[:3]
        found = [row[f"rather_{n}"] for n in (1, 2, 3)]
        assert [one["caption"] for one in found] == others
        assert [one["cosine"] for one in found] == pytest.approx(
            [best[c] for c in others], abs=1e-5
        )
        pictures = [row[f"picture_{n}"] for n in (1, 2, 3)]
        nearest = sorted(cosine[[n for n in range(COUNT) if n != own], own])[::-1][:3]
        assert [one["cosine"] for one in pictures] == pytest.approx(nearest, abs=1e-5)
        assert own not in [int(one["key"]) for one in pictures]
        wrong = [n for n, caption in enumerate(captions) if caption != captions[own]]
        above = sum(cosine[n, own] >= cosine[own, own] - 1e-6 for n in wrong)
        assert row["picture_rank"] == 1 + above


def test_the_same_captions_are_a_cluster_and_the_biggest_comes_first(audited):
    run, _, _ = audited
    table = pq.read_table(run / "audit/clusters.parquet")
    rows = table.to_pylist()
    assert rows == sorted(rows, key=lambda row: row["cluster"])
    sizes = [row["pairs"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    of_caption = {}
    for row in rows:
        if row["kind"] == "caption":
            of_caption.setdefault(row["caption"], set()).add(row["cluster"])
    # Twelve captions on four pictures each: none of them is torn apart, all are there.
    assert len(of_caption) == 12
    assert all(len(clusters) == 1 for clusters in of_caption.values())
    for number in {row["cluster"] for row in rows}:
        members = [row for row in rows if row["cluster"] == number]
        assert len({row["uid"] for row in members}) == members[0]["pairs"] > 1
    facts = read_facts(run / "audit/clusters.parquet")
    assert facts.clusters["caption"].pairs == COUNT
    in_kind = {row["cluster"]: row["pairs"] for row in rows if row["kind"] == "caption"}
    alike = sum(math.comb(n, 2) for n in in_kind.values()) / math.comb(COUNT, 2)
    assert facts.clusters["caption"].per_batch == pytest.approx(math.comb(BATCH, 2) * alike)
    assert facts.captions == 12 and facts.pairs == COUNT


class Page(HTMLParser):
    """Tags that were open, pictures, rows, and the text."""

    def __init__(self, text):
        super().__init__()
        self.pictures, self.rows, self.words = [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "img":
            self.pictures.append(values)
        self.rows += tag == "tr"
        assert not any(name.startswith("on") for name in values)

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_shows_pictures_captions_clusters_and_the_command(audited):
    run, page, said = audited
    assert page == run / "audit.html"
    found = Page(page.read_text(encoding="utf-8"))
    text = " ".join(" ".join(found.words).split())
    assert found.rows >= 1 + 5
    assert len(found.pictures) > 20
    assert all(
        one["src"].startswith("data:image/webp;base64,") and one["alt"] for one in found.pictures
    )
    for key in DOUBTED:
        assert f"{key:04d}" in text
    assert "not readable" not in text
    command = next(line for line in said if str(line).startswith("drop the worst: "))
    command = command.removeprefix("drop the worst: ")
    assert command in text
    assert "--mask.same-caption" in text


def test_the_command_that_is_shown_drops_the_least_believed(audited, capsys):
    run, _, said = audited
    command = next(str(line) for line in said if str(line).startswith("drop the worst: winnow "))
    words = command.removeprefix("drop the worst: winnow ").split()
    assert cli.run(words) == 0
    kept = Selection.open(run.parent / "curated/selections" / f"audited-by-{run.name}")
    gone = {f"{key:04d}" for key in range(COUNT)} - set(kept.table["key"].to_pylist())
    # A tenth of 48 is four: the three and the next.
    assert len(gone) == 4 and {f"{key:04d}" for key in DOUBTED} < gone
    capsys.readouterr()


def test_the_terminal_says_the_worst_the_counts_and_where_the_page_is(run, capsys):
    assert cli.run(["audit", str(run), "--pairs", "3", "--no-clusters", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert f"page: {run / 'audit.html'}" in text
    assert "1.00 %" in text and "0007" in text
    assert f"{COUNT} pairs in {STEPS} steps" in text
    assert len(pq.read_table(run / "audit/clusters.parquet")) == 0


def test_features_are_kept_and_computed_once(run, monkeypatch):
    options = Audit(run=run, pairs=2, clusters=False, device="cpu")
    run_audit(options, say=lambda *_, **__: None)
    first = (run / "audit/doubts.parquet").read_bytes()

    def never(*_):
        raise AssertionError("features are there already")

    from winnow.models.encoder import Encoder

    monkeypatch.setattr(Encoder, "encode_text", never)
    monkeypatch.setattr(Encoder, "encode_image_stages", never)
    run_audit(options, say=lambda *_, **__: None)
    assert (run / "audit/doubts.parquet").read_bytes() == first


def quiet(run, **options):
    options = Audit(run=run, clusters=False, device="cpu", **options)
    return run_audit(options, say=lambda *_, **__: None)


def test_a_run_stopped_in_its_first_half_goes_by_the_mean(run, made):
    data = json.loads((run / "data.json").read_text())
    shutil.rmtree(run / "audit")
    see(run, Selection.open(Path(data["selection"])), SegmentFacts(99, data["fingerprint"]))
    quiet(run, pairs=4)
    rows = pq.read_table(run / "audit/doubts.parquet").to_pylist()
    assert [int(row["key"]) for row in rows[:3]] == list(DOUBTED)
    assert rows[0]["own_probability_late"] is None
    assert "no pair was seen in the last half" in (run / "audit.html").read_text()


def test_a_mixture_is_all_its_sources_one_after_the_other(run, tmp_path):
    shards = write_shards(tmp_path / "more", count=12, shards=1, suffix=lambda _: " of wood")
    more = curate(str(shards), tmp_path / "c", rules=read_rules(["none"]), name="more", workers=1)
    data = json.loads((run / "data.json").read_text())
    parts = {"more": Selection.open(more.directory), "all": Selection.open(Path(data["selection"]))}
    mixture = Mixture.of(parts)
    sources = [
        {"selection": str(one.directory), "fingerprint": one.fingerprint} for one in parts.values()
    ]
    facts = {"fingerprint": mixture.fingerprint, "pairs": len(mixture), "sources": sources}
    (run / "data.json").write_text(json.dumps({"selection": "the mixture", **facts}))
    shutil.rmtree(run / "audit")
    # Rows 0 to 47 of the mixture: all 12 of the first source, and 36 of the second.
    see(run, mixture, SegmentFacts(STEPS, mixture.fingerprint))
    quiet(run, pairs=COUNT)
    rows = pq.read_table(run / "audit/doubts.parquet").to_pylist()
    assert len(rows) == COUNT
    assert sum("of wood" in row["caption"] for row in rows) == 12
    assert {int(row["key"]) for row in rows[:3]} <= set(DOUBTED)
    assert read_facts(run / "audit/doubts.parquet").selections == tuple(
        str(one.directory) for one in parts.values()
    )


def test_the_best_model_can_be_asked_instead(run):
    shutil.copytree(run / "model", run / "best")
    quiet(run, model="best", pairs=1)
    assert read_facts(run / "audit/doubts.parquet").model == str(run / "best")


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError, match="is no run"):
        quiet(tmp_path)


def test_a_run_that_gathered_nothing_says_so_even_where_its_selection_is_gone(run):
    shutil.rmtree(run / "audit")
    (run / "data.json").write_text(json.dumps({"selection": "/nowhere", "fingerprint": "0" * 64}))
    with pytest.raises(InputError, match="no audit"):
        quiet(run)


def test_a_selection_that_was_moved_can_be_told(run, made, tmp_path):
    data = json.loads((run / "data.json").read_text())
    moved = shutil.copytree(data["selection"], tmp_path / "elsewhere")
    (run / "data.json").write_text(json.dumps(data | {"selection": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match=r"no longer in .*gone: say with --selection"):
        quiet(run)
    assert quiet(run, selection=(moved,), pairs=1).is_file()


def test_another_selection_in_its_place_is_refused(run, made, tmp_path):
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(data | {"fingerprint": "f" * 64}))
    with pytest.raises(InputError, match="is not the one any more"):
        quiet(run)


def test_a_selection_of_other_pairs_is_refused(run, audited, tmp_path):
    shards = write_shards(tmp_path / "others", count=4, shards=1, suffix=lambda _: " no one saw")
    other = curate(str(shards), tmp_path / "c", rules=read_rules(["none"]), name="all", workers=1)
    shutil.copy(audited[0] / "audit.parquet", run)
    with pytest.raises(InputError, match=r"none of the 4 pairs of .* was seen by the run"):
        quiet(run, selection=(other.directory,))


def test_a_shard_that_is_gone_is_named(run, made, tmp_path):
    folder = tmp_path / "own"
    shards = shutil.copytree(made / "shards", folder / "shards")
    curated = curate(str(shards), folder / "c", rules=read_rules(["none"]), name="all", workers=1)
    selection = Selection.open(curated.directory)
    shutil.rmtree(run / "audit")
    see(run, selection)
    data = {"selection": str(curated.directory), "fingerprint": selection.fingerprint}
    (run / "data.json").write_text(json.dumps({**data, "pairs": COUNT, "sources": []}))
    (shards / "00001.tar").unlink()
    with pytest.raises((InputError, OSError), match=r"00001\.tar"):
        quiet(run)
    assert not (run / "audit.html").exists()


def test_without_a_best_model_there_is_none_to_ask(run):
    with pytest.raises(InputError, match="kept no best model"):
        quiet(run, model="best")
    with pytest.raises(InputError, match="pairs is 0"):
        replace(Audit(run=run), pairs=0)


@pytest.mark.slow
def test_captions_that_were_swapped_are_believed_least(tmp_path):
    from winnow.data.augmentation import Augmentation
    from winnow.objectives import InfoNCE
    from winnow.training.optimizer import AdamW
    from winnow.training.recipe import Recipe, Runtime
    from winnow.training.run import train

    # Of each kind of thing there are eight, and of eight kinds one has another's name.
    swapped = set(range(3, 96, 13))
    others = {"circle": "triangle", "triangle": "circle", "square": "triangle"}
    shards = tmp_path / "shards"
    shards.mkdir()
    with tarfile.open(shards / "0.tar", "w") as archive:
        for key, picture, caption in things(96):
            words = caption.split()
            if int(key) in swapped:
                words[2] = others[words[2]]
                words[1] = {"red": "blue", "blue": "green"}.get(words[1], "red")
            for extension, data in (("png", picture), ("txt", " ".join(words).encode())):
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    out = tmp_path / "curated"
    curated = curate(str(shards), out, rules=read_rules(["none"]), name="all", workers=1)
    run = tmp_path / "run"
    recipe = Recipe(
        objective=InfoNCE(),
        model=SMALL,
        optimizer=AdamW(learning_rate=2e-3, weight_decay=0.1, warmup_steps=10),
        augmentation=Augmentation(crop_area=(0.9, 1.0)),
        batch_size=24,
        steps=160,
        runtime=Runtime(workers=0, device="cpu"),
    )
    train(recipe, Selection.open(curated.directory), run)
    quiet(run, pairs=96)
    keys = [int(key) for key in pq.read_table(run / "audit/doubts.parquet")["key"].to_pylist()]
    first = set(keys[: len(swapped)])
    assert len(first & swapped) >= len(swapped) - 2
