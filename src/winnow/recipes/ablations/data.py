"""What cells train on, made once: selections of the study's sources, and their concept targets.

    STUDY/data/NAME-HASH/    one source: its ledger, selections, and concepts
    STUDY/features/          a teacher's features, shared by all of them

A part of the pairs is the first ones in an order of hashes of their uids, so parts are nested and
depend on nothing else. Swapped captions are a selection too: the same pairs in the same order, of
which the first so many in another order of hashes pass their captions on, each to the next.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from winnow.curation.rule_specs import name_of, read_rules
from winnow.curation.rules.in_subset import InSubset
from winnow.curation.rules.rule import Rule
from winnow.curation.select import select, selection_folder
from winnow.data.columns import DETECT
from winnow.data.keyed import KEY_DTYPE, parse_uids, write_sorted
from winnow.data.selection import Selection, write_selection
from winnow.data.subset import write_subset
from winnow.recipes.ablations.study import TrainingData
from winnow.recipes.concepts import Concepts, run_concepts
from winnow.recipes.data import curate, selection_at
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Data that a cell can open."""

    selection: Path
    """The folder of a selection."""
    noise: float
    """The part of its pairs that is known to have the caption of another."""


def prepare(data: TrainingData, study: Path) -> Prepared:
    """The selection of `data`, made under the folder `study` as far as it is not there.

    A selection that is given and taken as it is stays where it is. Raises InputError where the
    source holds nothing, or too little to take a part of.
    """
    whole = _selected(data, study)
    if not data.swapped:
        return Prepared(selection=whole, noise=data.noise)
    name = f"{whole.name}-swapped-{data.swapped:g}"
    folder = _home(data, study) / "selections" / name
    given = Selection.open(whole)
    changed = _swapped(given.table, data.swapped)
    write_selection(
        folder,
        list(given.shards),
        _by_shard(given, changed),
        columns=given.columns,
        weighted=given.is_weighted,
    )
    before, after = given.table["caption"].to_pylist(), changed["caption"].to_pylist()
    wrong = sum(old != new for old, new in zip(before, after, strict=True))
    return Prepared(selection=folder, noise=wrong / len(given))


def make_targets(
    selection: Path, study: Path, asked: Callable[[Path], Concepts], *, say: Callable[..., None]
) -> Path:
    """The concept targets of a selection; their folder."""
    options = asked(selection)
    features = options.features or study / "features" / _slug(_teacher(options))
    return run_concepts(replace(options, features=features), say=say)


def _selected(data: TrainingData, study: Path) -> Path:
    given = selection_at(data.source)
    if given is not None and not data.rules and data.share == 1:
        return given.path
    home = _home(data, study)
    shards: str | Sequence[str] = data.source
    rules: tuple[Rule, ...] = read_rules(data.rules)
    columns = DETECT
    if given is not None:
        selection = Selection.open(given.path)
        home.mkdir(parents=True, exist_ok=True)
        write_subset(selection, home / "given.npy")
        rules = (InSubset(path=home / "given.npy"), *rules)
        shards, columns = selection.shards, selection.columns
    name = _name_of(data.rules)
    whole = curate(shards, home, rules=rules, name=name, columns=columns).directory
    if data.share == 1:
        return whole
    name = f"{name}-share-{data.share:g}"
    path = home / f"{name}.npy"
    _write_part(Selection.open(whole), data.share, path)
    select(home, (*rules, InSubset(path=path)), name=name)
    return selection_folder(home, name).path


def _home(data: TrainingData, study: Path) -> Path:
    """One source's folder; sources of one name in different places have different ones."""
    place = data.source if "://" in data.source else str(Path(data.source).absolute())
    digest = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return study / "data" / f"{_slug(Path(place).name)}-{digest}"


def _name_of(rules: Sequence[str]) -> str:
    """Of a selection: rules of one name with other values, or other files, are another one."""
    name = name_of(rules)
    if all(":" not in word and not word.endswith(".json") for word in rules):
        return name
    return f"{name}-{hashlib.sha256(repr(tuple(rules)).encode()).hexdigest()[:8]}"


def _write_part(selection: Selection, share: float, path: Path) -> None:
    uids = selection.table["uid"].unique()
    ranked = _in_hash_order(uids.to_pylist(), salt=b"part")
    count = round(share * len(uids))
    if count < 1:
        raise InputError(f"a share of {share:g} of {selection.directory} leaves no pair")
    keys = parse_uids(uids.take(pa.array(ranked[:count])), where=str(selection.directory))
    write_sorted(path, [keys], dtype=KEY_DTYPE)


def _swapped(table: pa.Table, share: float) -> pa.Table:
    """The table with the captions of `share` of its rows passed on, each to the next of them."""
    captions = np.asarray(table["caption"].to_pylist(), dtype=object)
    ranked = _in_hash_order(table["uid"].to_pylist(), salt=b"swap")
    chosen = ranked[: round(share * len(ranked))]
    captions[chosen] = captions[np.roll(chosen, -1)]
    place = table.schema.get_field_index("caption")
    return table.set_column(place, table.schema.field(place), pa.array(captions, pa.string()))


def _in_hash_order(uids: Sequence[str], *, salt: bytes) -> np.ndarray:
    """int64: the positions of `uids` in the order of hashes that no library's version changes."""
    hashes = [hashlib.sha256(salt + uid.encode()).digest() for uid in uids]
    return np.array(sorted(range(len(uids)), key=hashes.__getitem__), dtype=np.int64)


def _by_shard(selection: Selection, table: pa.Table) -> Iterator[pa.Table]:
    start = 0
    for count in selection.shard_counts.tolist():
        yield table.slice(start, count)
        start += count


def _teacher(options: Concepts) -> str:
    size = "" if options.image_size is None else f"-{options.image_size}px"
    return f"{options.teacher}{size}"


def _slug(words: str) -> str:
    return re.sub(r"[^\w.-]+", "-", words)[:60].strip("-.") or "data"
