"""Select: rules over the columns of the ledger; no picture is read and no model runs.

    selections/NAME/verdicts/NNNNN.parquet    VERDICT_SCHEMA, one row per row of the ledger's file
    selections/NAME/kept.arrow                what training reads, with selection.json
    selections/NAME/summary.json              the account

Selecting again under the same name, with other thresholds say, replaces the selection as a whole.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.curation.ledger_files import Ledger
from winnow.curation.rules.rule import Rule
from winnow.curation.summary import Summary, Tally
from winnow.curation.verdicts import VERDICT_SCHEMA, Judge, judge, seat_judges
from winnow.data.selection import KEPT_SCHEMA, write_selection
from winnow.progress import track
from winnow.types import InputError

# The number of the shard is write_selection's to add.
_KEPT_COLUMNS = pa.schema([KEPT_SCHEMA.field(column) for column in KEPT_SCHEMA.names[1:]])


def select(out: Path, rules: Sequence[Rule], *, name: str) -> Summary:
    """Put `rules` to every row of the ledger in `out` and write the selection called `name`.

    Raises InputError where the ledger is missing or unfinished, or the name is no file name.
    """
    ledger = Ledger.open(out)
    directory = selection_directory(out, name)
    partial = directory.with_name(f".{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "verdicts").mkdir(parents=True)
    tally = Tally(rules)
    judges = seat_judges(ledger, rules)
    kept = _judge_shards(ledger, judges, partial, tally)
    write_selection(partial, ledger.shards, kept, columns=ledger.columns)
    account = tally.summary(selection=name, ledger=ledger.fingerprint, shards=ledger.shards)
    account.write(partial)
    _replace(directory, partial)
    return Summary.read(directory)


def selection_directory(out: Path, name: str) -> Path:
    """Where `out` holds the selection called `name`."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise InputError(f"a selection cannot be called {name!r}: use letters, digits, '-' and '_'")
    return out / "selections" / name


def _judge_shards(
    ledger: Ledger,
    judges: Sequence[Judge],
    directory: Path,
    tally: Tally,
) -> Iterator[pa.Table]:
    """The kept rows of one shard after another, once its verdicts are written and counted."""
    with track("selecting", total=len(ledger.stats), unit="shards") as advance:
        for number in range(len(ledger.stats)):
            kept: list[pa.RecordBatch] = []
            path = directory / "verdicts" / f"{number:05d}.parquet"
            with pq.ParquetWriter(path, VERDICT_SCHEMA) as file:
                for rows in ledger.batches(number):
                    verdicts = judge(rows, judges)
                    file.write_batch(verdicts)
                    tally.add(verdicts)
                    survivors = rows.filter(verdicts["kept"]).select(_KEPT_COLUMNS.names)
                    kept.append(survivors.cast(_KEPT_COLUMNS))
            yield pa.Table.from_batches(kept, _KEPT_COLUMNS)
            advance()


def _replace(directory: Path, partial: Path) -> None:
    # A directory cannot be renamed over another: for a moment there is none, never half of one.
    old = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
