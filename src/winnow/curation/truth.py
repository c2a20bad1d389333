"""A selection against the truth, where noise was planted and is known.

Of a kind of noise, the **recall** is the share of its samples that were dropped. The **precision**
of a reason, or of the whole selection, is the share of noise among what it dropped.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.curation.rules.rule import code_of
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many of how many."""

    count: int
    of: int

    @property
    def value(self) -> float:
        """0 to 1; nan where there is nothing to have a share of."""
        return self.count / self.of if self.of else float("nan")


@dataclass(frozen=True, kw_only=True)
class TruthComparison:
    """What a selection dropped of what it should have."""

    recall: dict[str, Share]
    """By kind of planted noise: samples dropped of samples planted."""
    precision: dict[str, Share]
    """By code of the first reason: noise of samples dropped."""
    recall_overall: Share
    precision_overall: Share
    dropped: dict[str, dict[str, int]]
    """Samples dropped by code of the first reason, then by kind of noise; "sound" is none."""


def against_truth(selection: Path, truth: Path) -> TruthComparison:
    """Compare the verdicts of a selection's directory with a parquet file of `key` and `planted`.

    `planted` is the kind of noise, null where the pair is sound; keys are unique. Samples that
    could not be read count as not dropped. Raises InputError where the two differ in their keys.
    """
    judged = _judged(selection, truth)
    planted = Counter(judged["planted"].to_pylist())
    dropped: dict[str, Counter[str | None]] = {}
    for code, kind in zip(judged["code"].to_pylist(), judged["planted"].to_pylist(), strict=True):
        if code is not None:
            dropped.setdefault(code, Counter())[kind] += 1
    total = sum(dropped.values(), Counter[str | None]())
    return TruthComparison(
        recall={
            kind: Share(count=total[kind], of=count)
            for kind, count in sorted((k, n) for k, n in planted.items() if k is not None)
        },
        precision={code: _noise(kinds) for code, kinds in sorted(dropped.items())},
        recall_overall=Share(count=_noise(total).count, of=_noise(planted).count),
        precision_overall=_noise(total),
        dropped={
            code: {kind or "sound": n for kind, n in sorted(kinds.items(), key=str)}
            for code, kinds in sorted(dropped.items())
        },
    )


def _noise(kinds: Counter[str | None]) -> Share:
    return Share(count=kinds.total() - kinds[None], of=kinds.total())


def _judged(selection: Path, truth: Path) -> pa.Table:
    """One row per sample: `code` of its first reason, null where it is kept, and `planted`."""
    files = sorted((selection / "verdicts").glob("*.parquet"))
    if not files:
        raise InputError(f"{selection} holds no verdicts: make them with `winnow curate`")
    verdicts = pa.concat_tables(pq.read_table(file, columns=["key", "reason"]) for file in files)
    truths = pq.read_table(truth, columns=["key", "planted"])
    if sorted(verdicts["key"].to_pylist()) != sorted(truths["key"].to_pylist()):
        raise InputError(
            f"{truth} and {selection} are not about the same samples ({truths.num_rows} and "
            f"{verdicts.num_rows}): give the truth that was written with these shards"
        )
    place = pc.index_in(verdicts["key"], value_set=truths["key"].combine_chunks())
    codes = code_of(verdicts["reason"].combine_chunks())
    planted = truths["planted"].take(place).combine_chunks()
    return pa.table({"code": codes, "planted": planted})
