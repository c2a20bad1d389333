"""Select: rules over the columns of the ledger; no picture is read and no model runs.

    selections/NAME/verdicts/NNNNN.parquet    VERDICT_SCHEMA, one row per row of the ledger's file
    selections/NAME/kept.arrow                what training reads, with selection.json
    selections/NAME/subset.npy                the kept uids, for whoever reads DataComp's subsets
    selections/NAME/summary.json              the account

Selecting again under the same name, with other thresholds say, replaces the selection as a whole.
"""

import errno
import hashlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.curation.annotations import Annotation, check_annotations, find_annotations, sources_of
from winnow.curation.ledger_files import Ledger
from winnow.curation.numbered import rows_name
from winnow.curation.rules.rule import Rule
from winnow.curation.summary import Summary, Tally
from winnow.curation.verdicts import VERDICT_SCHEMA, AnnotatedLedger, Judge, judge, seat_judges
from winnow.data.folder import Folder, is_abandoned, partial_name
from winnow.data.selection import (
    FACTS_FILE,
    KEPT_SCHEMA,
    WEIGHT,
    Selection,
    write_selection,
)
from winnow.data.subset import write_subset
from winnow.progress import track
from winnow.types import InputError

SUBSET_FILE = "subset.npy"

# The number of the shard is write_selection's to add.
_KEPT_COLUMNS = pa.schema([KEPT_SCHEMA.field(column) for column in KEPT_SCHEMA.names[1:]])
_WEIGHTED = _KEPT_COLUMNS.append(WEIGHT)


def select(out: Folder | Path, rules: Sequence[Rule], *, name: str) -> Summary:
    """Put `rules` to every row of the ledger in `out` and write the selection called `name`.

    Raises InputError where the ledger or what a rule reads is missing or unfinished, or the name is
    no file name. What was selected before under this name then stays.
    """
    out = Folder.at(out)
    folder = selection_folder(out, name)
    ledger = Ledger.open(out)
    rows, fingerprint = annotated(ledger, rules)
    tally = Tally(rules)
    with _replacing(folder) as directory:
        (directory / "verdicts").mkdir(parents=True)
        kept = _judge_shards(rows, seat_judges(rules, rows), directory, tally)
        weighted = any(rule.weighs for rule in rules)
        write_selection(directory, ledger.shards, kept, columns=ledger.columns, weighted=weighted)
        write_subset(Selection.open(directory), directory / SUBSET_FILE)
        account = tally.summary(selection=name, ledger=fingerprint, shards=ledger.shards)
        account.write(directory)
    return account


def annotated(ledger: Ledger, rules: Sequence[Rule]) -> tuple[AnnotatedLedger, str]:
    """The rows with all columns that `rules` read, and the fingerprint of what they are made of.

    Raises InputError where a column is not computed for every shard, by one setting.
    """
    needs = [column for rule in rules for column in rule.needs]
    sources = sources_of(needs, find_annotations(ledger.out))
    read: dict[str, Annotation] = {source.name: source for source in sources.values()}
    annotations = tuple(read.values())
    identities = check_annotations(ledger.out, annotations, ledger.stats)
    rows = AnnotatedLedger(out=ledger.out, stats=ledger.stats, annotations=annotations)
    return rows, hashlib.sha256("\0".join([ledger.fingerprint, *identities]).encode()).hexdigest()


def selection_folder(out: Folder | Path, name: str) -> Folder:
    """Where `out` holds the selection called `name`."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise InputError(f"a selection cannot be called {name!r}: use letters, digits, '-' and '_'")
    return Folder.at(out) / "selections" / name


def _judge_shards(
    rows: AnnotatedLedger, judges: Sequence[Judge], directory: Path, tally: Tally
) -> Iterator[pa.Table]:
    """The kept rows of one shard after another, once its verdicts are written and counted."""
    lacking: Counter[str] = Counter()
    with track("selecting", total=len(rows.stats), unit="shards") as advance:
        for number in range(len(rows.stats)):
            kept: list[pa.RecordBatch] = []
            path = directory / "verdicts" / rows_name(number)
            with pq.ParquetWriter(path, VERDICT_SCHEMA) as file:
                for batch in rows.batches(number):
                    verdicts, unknown = judge(batch, judges)
                    lacking += unknown
                    file.write_batch(verdicts)
                    tally.add(verdicts)
                    survivors = batch.filter(verdicts["kept"])
                    weight = _weights(survivors, judges)
                    columns = survivors.select(_KEPT_COLUMNS.names).cast(_KEPT_COLUMNS).columns
                    kept.append(pa.RecordBatch.from_arrays([*columns, weight], schema=_WEIGHTED))
            yield pa.Table.from_batches(kept, _WEIGHTED)
            advance()
    if lacking:
        names = " and ".join(sorted(lacking))
        raise InputError(
            f"{lacking.total():,} rows that reach a rule have no {names} yet: run `winnow curate "
            "SHARDS --out DIR` with these rules, which looks at just those rows"
        )


def _weights(rows: pa.RecordBatch, judges: Sequence[Judge]) -> pa.Array:
    """The product of what the judges that weigh say of kept rows."""
    weights = np.ones(rows.num_rows, dtype=np.float32)
    for one in judges:
        if one.rule.weighs:
            weights *= one.rule.weights(rows, one.corpus)
    return pa.array(weights)


@contextmanager
def _replacing(folder: Folder) -> Iterator[Path]:
    """A directory of this machine whose files become those of `folder` when the block ends well."""
    if folder.is_remote:
        with tempfile.TemporaryDirectory(prefix="winnow-") as here:
            yield Path(here)
            _send(Path(here), folder)
        return
    parent, name = folder.path.parent, folder.path.name
    parent.mkdir(parents=True, exist_ok=True)
    for stray in parent.glob(".*"):
        if is_abandoned(stray):
            shutil.rmtree(stray, ignore_errors=True)
    # Each run has its own: of two at once, the one that ends last stays.
    partial = parent / partial_name(name)
    try:
        partial.mkdir()
        yield partial
        _swap(partial, folder.path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, directory: Path) -> None:
    # A directory cannot be renamed over another: for a moment there is none, never half of one.
    while True:
        try:
            partial.rename(directory)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        old = directory.with_name(partial_name(directory.name))
        with suppress(FileNotFoundError):
            directory.rename(old)
        shutil.rmtree(old, ignore_errors=True)


def _send(directory: Path, folder: Folder) -> None:
    # The file that says the selection is complete goes first and comes last.
    folder.remove(FACTS_FILE)
    folder.remove_tree()
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path.name == FACTS_FILE):
        parent = path.relative_to(directory).parent
        target = folder / str(parent) if parent.parts else folder
        target.write(path.name, path.read_bytes())
