"""Looking up single rows of a ledger: by uid or key, or by their place, with what is known of them.

A ledger may have a billion rows. To find one, only uids and keys are read, a row group at a time;
to read some, only the shards that they are in.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.curation import numbered
from winnow.curation.annotations import (
    Annotation,
    AnnotationStats,
    annotated_batches,
    find_annotations,
    folder_of,
)
from winnow.curation.ledger_files import PLACE, Ledger, ShardStats, ledger_folder
from winnow.data.folder import Folder
from winnow.types import InputError


def find_places(ledger: Ledger, name: str) -> list[int]:
    """The PLACE of every row whose uid or key is `name`, in ledger order; exact copies share both.

    Raises InputError where there is none; it says which keys come before and after it.
    """
    places: list[int] = []
    for place, rows in _names(ledger):
        is_it = pc.or_(pc.equal(rows["uid"], name.lower()), pc.equal(rows["key"], name))
        places += [place + row for row in pc.indices_nonzero(is_it).to_pylist()]
    if places:
        return places
    near = ", ".join(repr(key) for key in _around(ledger, name))
    raise InputError(
        f"{ledger.out.url} has no pair with the uid or key {name!r}: look again, the nearest keys "
        f"are {near}"
        if near
        else f"{ledger.out.url} has no pair at all: give the folder of another curation"
    )


def rows_at(
    out: Folder, annotations: Sequence[Annotation], places: Sequence[int]
) -> Iterator[pa.RecordBatch]:
    """The rows at `places`, in ledger order, with the columns of `annotations`."""
    for number, of_shard in groupby(sorted(places), key=lambda place: place >> 32):
        wanted = list(of_shard)
        for rows in annotated_batches(out, number, annotations):
            found = rows.filter(pc.is_in(rows[PLACE], value_set=pa.array(wanted, pa.int64())))
            if found.num_rows:
                yield found
            if rows.num_rows and rows[PLACE][-1].as_py() >= wanted[-1]:
                break


def fresh_annotations(out: Folder, number: int, shard: ShardStats) -> tuple[Annotation, ...]:
    """What is annotated of the rows that shard `number` has now."""
    found = []
    for one in find_annotations(out):
        stats = numbered.read_record(folder_of(out, one.name), number, AnnotationStats)
        if stats is not None and stats.ledger == shard.fingerprint:
            found.append(one)
    return tuple(found)


def _names(ledger: Ledger) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Uids and keys, row group by row group, each with the PLACE of its first row."""
    folder = ledger_folder(ledger.out)
    for number in range(len(ledger.stats)):
        place = number << 32
        with folder.open(numbered.rows_name(number)) as opened, pq.ParquetFile(opened) as file:
            for rows in file.iter_batches(columns=["uid", "key"]):
                yield place, rows
                place += rows.num_rows


def _around(ledger: Ledger, name: str) -> list[str]:
    """The key before and the key after `name` in alphabetical order, as far as there are such."""
    before: list[str] = []
    after: list[str] = []
    for _, rows in _names(ledger):
        is_smaller = pc.less(rows["key"], name)
        before.append(pc.max(rows["key"].filter(is_smaller)).as_py())
        after.append(pc.min(rows["key"].filter(pc.invert(is_smaller))).as_py())
    smaller = [key for key in before if key is not None]
    larger = [key for key in after if key is not None]
    return [*sorted(smaller)[-1:], *sorted(larger)[:1]]
