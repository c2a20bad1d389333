"""What captions are about, before the rules and after: objects and attributes that come and go.

    frequency = captions that name the concept / captions that were parsed

Both are of the measured sample, as far as it was parsed: pairs that a rule dropped before that are
in neither. Shares are compared, not counts, for a selection makes every concept rarer.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.reports.curation_sample import Sample

SHOWN = 30
_FOLDER = "parse"
_LONGEST = 60  # characters of a concept: what a parser takes for a noun can be anything


class Concept(NamedTuple):
    """One object or attribute; shares are 0 to 1."""

    name: str
    before: float
    after: float


class Concepts(NamedTuple):
    """Objects, or attributes."""

    kind: str
    frequent: list[Concept]
    """The most frequent after the rules."""
    changed: list[Concept]
    """Those whose share has changed most, in points of the share."""


class ConceptShift(NamedTuple):
    """How a selection moves what its captions are about."""

    parsed: int
    kept: int
    """Of those parsed."""
    groups: list[Concepts]


def read_concepts(curated: Path, sample: Sample) -> ConceptShift | None:
    """The shift, of what was parsed of the sample; None where nothing was."""
    seen = {"objects": Counter[str](), "attributes": Counter[str]()}
    left = {"objects": Counter[str](), "attributes": Counter[str]()}
    parsed = kept = 0
    for is_kept, objects in _parsed(curated / "annotations" / _FOLDER, sample):
        parsed += 1
        kept += is_kept
        names = {
            "objects": {one["lemma"][:_LONGEST] for one in objects},
            "attributes": {word[:_LONGEST] for one in objects for word in one["attributes"] or ()},
        }
        for kind, found in names.items():
            seen[kind].update(found)
            if is_kept:
                left[kind].update(found)
    if not parsed:
        return None
    groups = [_concepts(kind, seen[kind], left[kind], parsed, kept) for kind in seen]
    return ConceptShift(parsed, kept, groups)


def _concepts(
    kind: str, seen: Counter[str], left: Counter[str], parsed: int, kept: int
) -> Concepts:
    whole = max(kept, 1)
    concepts = [Concept(name, seen[name] / parsed, left[name] / whole) for name in sorted(seen)]
    return Concepts(
        kind=kind,
        frequent=sorted(concepts, key=lambda one: -one.after)[:SHOWN],
        changed=sorted(concepts, key=lambda one: -abs(one.after - one.before))[:SHOWN],
    )


def _parsed(folder: Path, sample: Sample) -> Iterable[tuple[bool, list[dict]]]:
    """Of every parsed pair of the sample, whether it is kept, and its objects."""
    pairs = zip(sample.measured.tolist(), sample.kept.tolist(), strict=True)
    for shard, of_shard in groupby(pairs, key=lambda pair: pair[0] >> 32):
        path = folder / f"{shard:05d}.parquet"
        if not path.is_file():
            continue
        wanted = list(of_shard)
        rows = np.array([place & 0xFFFFFFFF for place, _ in wanted])
        found = _objects(path, rows)
        for (_, is_kept), objects in zip(wanted, found, strict=True):
            if objects is not None:
                yield is_kept, objects


def _objects(path: Path, rows: np.ndarray) -> Sequence[list[dict] | None]:
    """The objects in the given rows of a file, which rise; None where there are none known."""
    found: list[list[dict] | None] = []
    start = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            here = rows[(rows >= start) & (rows < stop)] - start
            if len(here):
                column = file.read_row_group(group, columns=["objects"])["objects"]
                found += column.take(pa.array(here)).to_pylist()
            start = stop
    # A file with fewer rows is not of this ledger.
    return found if len(found) == len(rows) else [None] * len(rows)
