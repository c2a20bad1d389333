"""Seen = kept + dropped + errors, whatever the pairs and whatever the rules, in whatever order."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from curation_samples import picture, write_shard
from made_up import CountBytes, ManyLetters

from winnow.curation.annotate import annotate
from winnow.curation.rules.caption_duplicate import CaptionDuplicate
from winnow.curation.rules.near_duplicate import NearDuplicate
from winnow.curation.select import select
from winnow.curation.selections import clean
from winnow.curation.stages import plan_stages
from winnow.data.selection import Selection
from winnow.data.sources import open_source
from winnow.data.subset import Subset

WORDS = ("red", "apple", "IMG_2041.JPG", "www.shop.com/x", "logo", "a", "7", "<b>", "cat", "fails")
RULES = (*clean(), NearDuplicate(), CaptionDuplicate(), ManyLetters())


def write_random_shards(folder: Path, random: np.random.Generator) -> Path:
    for number in range(3):
        pairs = []
        for _ in range(int(random.integers(0, 30))):
            caption = " ".join(random.choice(WORDS, size=random.integers(1, 4)))
            side = int(random.choice([8, 40, 48]))
            image = picture(int(random.integers(12)), width=side)
            pairs.append(
                (image[: int(random.choice([0, 50, 10**9], p=[0.05, 0.1, 0.85]))], caption)
            )
        write_shard(folder / f"{number:03d}.tar", pairs)
    return folder


@pytest.mark.parametrize("seed", range(8))
def test_every_pair_is_kept_dropped_or_an_error(seed, tmp_path):
    random = np.random.default_rng(seed)
    source = open_source(str(write_random_shards(tmp_path / "shards", random)))
    rules = [RULES[i] for i in random.permutation(len(RULES))[: random.integers(1, len(RULES) + 1)]]
    annotator = CountBytes(fails_on="fails")
    annotate(source, tmp_path, workers=1, stages=plan_stages(rules, [annotator]))
    summary = select(tmp_path, rules, name="any")
    folder = tmp_path / "selections" / "any"
    rows = [row for file in sorted((folder / "verdicts").iterdir()) for row in _rows(file)]
    ledger = [
        row for file in sorted((tmp_path / "ledger").glob("*.parquet")) for row in _rows(file)
    ]
    assert [row["uid"] for row in rows] == [row["uid"] for row in ledger]
    assert summary.seen == len(rows)
    assert summary.seen == summary.kept + sum(summary.dropped.values()) + summary.errors
    for row, entry in zip(rows, ledger, strict=True):
        # Exactly one of the three, and a reason only where the pair could be judged.
        assert row["kept"] + (row["reason"] is not None) + (row["error"] is not None) == 1
        assert row["reason"] is None or row["reason"] in row["reasons"]
        assert entry["error"] is None or (row["error"], row["reasons"]) == (entry["error"], [])
    assert sum(row["kept"] for row in rows) == summary.kept
    for code, dropped in summary.dropped.items():
        assert 0 <= summary.only[code] <= dropped <= summary.fired[code]
    kept = {row["uid"] for row in rows if row["kept"]}
    selection = Selection.open(folder)
    assert set(selection.table["uid"].to_pylist()) == kept
    assert (
        Subset.open(folder / "subset.npy").contains(selection.table["uid"].combine_chunks()).all()
    )
    assert len(Subset.open(folder / "subset.npy")) == len(kept)


def _rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()
