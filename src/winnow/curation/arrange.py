"""Arranging: the ledger follows the order in which shards are given, and annotations follow it.

When shards are added or change places, files of shards that are done move to their new number. A
mark stands while they do, so that a run that was killed on the way is put in order by the next.
"""

from collections.abc import Sequence

from winnow.curation import numbered
from winnow.curation.annotations import AnnotationStats
from winnow.curation.ledger_files import (
    SHARDS_FILE,
    ShardStats,
    annotations_folder,
    ledger_folder,
)
from winnow.data.folder import Folder
from winnow.types import InputError

_MARK = "moving"


def arrange(out: Folder, shards: Sequence[str], *, may_move: bool = True) -> None:
    """Make the ledger one of `shards`, in their order; shards that are done stay done.

    Raises InputError where a shard that is done is not among them, for its rows would be lost, and
    where one has to move although `may_move` is false.
    """
    folder = ledger_folder(out)
    numbers = {shard: number for number, shard in enumerate(shards)}
    # What stands there, whatever the list of shards says: it may be damaged.
    done = {number: stats.shard for number, stats in _read(folder).items()}
    lost = [shard for shard in done.values() if shard not in numbers]
    if lost:
        raise InputError(
            f"{folder.url} holds {len(lost)} shard(s) that are not given now, {lost[0]} first: "
            "give them as well, or choose another --out"
        )
    moves = {old: numbers[shard] for old, shard in done.items() if numbers[shard] != old}
    if moves or folder.exists(_MARK):
        if not may_move:
            raise InputError(
                f"{folder.url} was made from shards in another order, and a slice cannot put it in "
                "order beside others: run once without --slice, or give the shards as they were"
            )
        folder.write(_MARK, b"")
        numbered.move(folder, moves)
        _follow(out)
        folder.remove(_MARK)
    numbered.write_json(folder, SHARDS_FILE, list(shards))


def _read(folder: Folder) -> dict[int, ShardStats]:
    numbers = numbered.recorded(folder)
    found = zip(numbers, numbered.read_records(folder, numbers, ShardStats), strict=True)
    return {number: stats for number, stats in found if stats is not None}


def _follow(out: Folder) -> None:
    """Move annotations to where the rows that they are of are now, by what their records say."""
    place = {stats.fingerprint: number for number, stats in _read(ledger_folder(out)).items()}
    root = annotations_folder(out)
    for name in root.folders():
        folder = root / name
        numbers = numbered.recorded(folder)
        found = zip(numbers, numbered.read_records(folder, numbers, AnnotationStats), strict=True)
        # Of rows that are no longer there they may be overwritten where they stand.
        wanted = {n: place.get(known.ledger, n) for n, known in found if known is not None}
        numbered.move(folder, {old: new for old, new in wanted.items() if old != new})
