"""The pairs that can be looked at: rows of a ledger with a selection's verdicts and an audit.

A pair has a **row**, its number among those that can be read, in ledger order. All of them are in
memory, a kilobyte or so each.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.explain import read_summary
from winnow.curation.ledger_files import PLACE, Ledger, batches, row_groups
from winnow.curation.numbered import rows_name
from winnow.curation.rules.rule import code_of
from winnow.curation.select import selection_folder
from winnow.curation.summary import Summary
from winnow.curation.verdicts import VERDICT_SCHEMA
from winnow.data.audit import AUDIT_FILE, NUMBERS, AuditTable
from winnow.data.block_cache import BlockCache
from winnow.data.folder import Folder
from winnow.data.ledger import Address
from winnow.data.sample import Reader
from winnow.data.sources import open_reader
from winnow.types import InputError

Outcome = Literal["kept", "dropped", "error"]

AUDIT_NUMBERS = (*NUMBERS, "times")
"""Columns of a run's audit that are shown."""

_LEDGER_COLUMNS = (
    *("uid", "key", "offset", "size", "sha256", "caption", "url"),
    *("width", "height", "format", PLACE),
)
_VERDICT_COLUMNS = ("kept", "reason", "reasons", "error")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The readable pairs of a ledger, or those of them that a selection kept."""

    ledger: Ledger
    summary: Summary
    """Of the selection whose verdicts these are."""
    table: pa.Table
    """Columns of LEDGER_SCHEMA, PLACE and columns of VERDICT_SCHEMA; a row per pair."""
    unreadable: int
    """Rows of the ledger that cannot be read, which are not here."""
    audit: Mapping[str, np.ndarray] = field(default_factory=dict)
    """float64 (N,) for each of AUDIT_NUMBERS, NaN where a pair has none; empty without an audit."""

    blocks: BlockCache | None = None
    """Where what is read of remote shards is kept, and decoded row groups of parquet files."""

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def places(self) -> np.ndarray:
        """int64 (N,): the PLACE of each."""
        return self.table[PLACE].to_numpy()

    @cached_property
    def outcomes(self) -> np.ndarray:
        """(N,) strings: what the selection made of each, an `Outcome`."""
        error = self.table["error"].is_valid().to_numpy()
        kept = self.table["kept"].to_numpy()
        return np.where(error, "error", np.where(kept, "kept", "dropped"))

    @cached_property
    def codes(self) -> np.ndarray:
        """(N,) strings: the code of the first reason, empty where there is none."""
        codes = pc.fill_null(code_of(self.table["reason"]), "")
        return np.asarray(codes.to_pylist(), dtype=np.str_)

    @cached_property
    def counts_by_code(self) -> dict[str, int]:
        """How many pairs were dropped for each first reason, in the order of the rules."""
        found, counts = np.unique(self.codes, return_counts=True)
        counted = dict(zip(found.tolist(), counts.tolist(), strict=True))
        return {code: counted[code] for code in self.summary.dropped if code in counted}

    @cached_property
    def distinct_captions(self) -> tuple[list[str], np.ndarray]:
        """The captions, each once, in the order in which they come; int64 (N,): whose is which."""
        # Gigabytes of captions do not fit the offsets of a `string` array.
        captions = self.table["caption"].cast(pa.large_string()).combine_chunks()
        encoded = captions.dictionary_encode()
        index_N = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return encoded.dictionary.to_pylist(), index_N

    @cached_property
    def pictures_digest(self) -> str:
        """Over the hashes of all pictures in their order: what their features depend on."""
        digest = hashlib.sha256()
        for chunk in self.table["sha256"].chunks:
            digest.update("".join(chunk.to_pylist()).encode())
        return digest.hexdigest()

    def facts(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """What the table says of some pairs, by column, in the order of `rows`."""
        return self.table.take(pa.array(rows, pa.int64())).to_pylist()

    def shard(self, row: int) -> str:
        """Path or URL of the shard with the pair."""
        return self.ledger.stats[int(self.places[row]) >> 32].shard

    def reader(self, shard: str) -> Reader:
        """What reads pictures of a shard; raises InputError where it cannot be opened."""
        return open_reader(shard, columns=self.ledger.columns, cache=self.blocks)

    def address(self, row: int) -> Address:
        """Where its picture is in the shard."""
        (facts,) = self.facts([row])
        return Address(facts["key"], facts["offset"], facts["size"])

    def find(self, name: str) -> np.ndarray:
        """int64: the rows whose uid or key is `name`, or else whose key begins with it."""
        is_it = pc.or_(
            pc.equal(self.table["uid"], name.lower()), pc.equal(self.table["key"], name)
        ).to_numpy()
        if not is_it.any():
            is_it = pc.starts_with(self.table["key"], name).to_numpy()
        return np.flatnonzero(is_it)


def read_pairs(
    folder: Folder,
    selection: str,
    *,
    kept_only: bool = False,
    run: Path | None = None,
    blocks: BlockCache | None = None,
) -> Pairs:
    """The pairs of the ledger in `folder` with the verdicts of a selection.

    `run` is the folder of a run, whose audit is read where there is one; see Pairs for `blocks`.
    Raises InputError where ledger, selection or audit cannot be read, do not belong together, or
    leave no pair.
    """
    ledger = Ledger.open(folder)
    summary = read_summary(folder, selection)
    parts: list[pa.Table] = []
    unreadable = 0
    for rows in _shards(ledger, selection):
        is_readable = rows["unreadable"].is_null()
        unreadable += rows.num_rows - pc.sum(is_readable).as_py()
        chosen = pc.and_(is_readable, rows["kept"]) if kept_only else is_readable
        parts.append(rows.filter(chosen).drop_columns(["unreadable"]))
    if not any(part.num_rows for part in parts):
        what = "that selection has kept no pair" if kept_only else "it has no pair that can be read"
        raise InputError(f"{folder.url} has nothing to explore: {what}")
    # In one piece, as far as Arrow can: it would join all chunks again to take rows from several.
    table = pa.concat_tables(parts).combine_chunks()
    audit = None if run is None else run / AUDIT_FILE
    return Pairs(
        ledger=ledger,
        summary=summary,
        table=table,
        unreadable=unreadable,
        blocks=blocks,
        audit=_audit(audit, table["uid"]) if audit and audit.is_file() else {},
    )


def _shards(ledger: Ledger, selection: str) -> Iterator[pa.Table]:
    """The rows of one shard after another; `unreadable` is why the ledger could not read one."""
    verdicts = selection_folder(ledger.out, selection) / "verdicts"
    for number in range(len(ledger.stats)):
        rows = list(batches(ledger.out, number))
        if not rows:
            continue
        ours = pa.Table.from_batches(rows)
        judged = list(row_groups(verdicts, number)) if verdicts.exists(rows_name(number)) else []
        theirs = pa.Table.from_batches(judged, VERDICT_SCHEMA)
        if not theirs["uid"].equals(ours["uid"].cast(pa.string())):
            raise InputError(
                f"the selection {selection!r} in {ledger.out.url} is of other rows than the ledger "
                "has now: select again with `winnow curate --out DIR`"
            )
        columns = {name: ours[name] for name in _LEDGER_COLUMNS}
        columns |= {name: theirs[name] for name in _VERDICT_COLUMNS}
        yield pa.table(columns | {"unreadable": ours["error"]})


def _audit(path: Path, uids: pa.ChunkedArray) -> dict[str, np.ndarray]:
    """The numbers of an audit, pair by pair; a uid that several pairs share has one for all."""
    table = AuditTable.open(path)
    row_N = np.concatenate([table.rows_of(chunk) for chunk in uids.chunks])
    found: dict[str, np.ndarray] = {}
    for name in AUDIT_NUMBERS:
        # One more, for what the run never saw.
        values = np.append(table.column(name).astype(np.float64), np.nan)
        found[name] = values[row_N]
    return found
