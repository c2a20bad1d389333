"""Materialise: the kept pairs of a selection as new webdataset tars, for readers of tars alone.

    OUT/plan.json            which selection, and how it is cut into shards; written first
    OUT/NNNNNN.tar           KEY.jpg (or .png, ...), KEY.json, KEY.txt; `samples_per_shard` pairs
    OUT/NNNNNN_stats.json    ShardFacts, written behind its tar
    OUT/manifest.json        everything above in one, written last: present means complete

A pair's place is its position in the selection, so which worker writes it decides nothing, and
equal selections of equal shards give equal bytes: no times, no owners, members in order. Pictures
are copied as they are. Training needs none of this, for it reads the raw shards by the selection.
"""

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from winnow.config import as_dict, from_dict
from winnow.curation.engines import local
from winnow.curation.ledger_files import ledger_folder, read_shards, row_groups
from winnow.curation.numbered import read_json, write_json
from winnow.data.folder import Folder
from winnow.data.images import FORMATS
from winnow.data.ledger import Address
from winnow.data.selection import KeptSample, Selection
from winnow.data.sources import open_reader
from winnow.progress import track
from winnow.types import InputError

PLAN_FILE = "plan.json"
MANIFEST_FILE = "manifest.json"
_VERSION = 1
_SAMPLES_AT_ONCE = 1_000
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}
"""Of a Pillow format; the others are called what they are."""


@dataclass(frozen=True, kw_only=True)
class Materialised:
    """What is in the folder now, and how much of it this run wrote."""

    shards: int
    shards_written: int
    """The others were there before, whole."""
    samples: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """What a shard holds."""

    samples: int
    bytes: int
    sha256: str


def materialise(
    selection: Selection,
    out: str | Path | Folder,
    *,
    samples_per_shard: int = 10_000,
    workers: int = 1,
) -> Materialised:
    """Write the kept pairs of `selection` into `out`, a new folder or one that this was begun in.

    Shards that are there are read again and kept where they are whole. With several workers a
    script that calls this needs the usual `if __name__ == "__main__"`. Raises InputError where the
    folder holds anything else, or the raw shards are no longer those of the selection.
    """
    if samples_per_shard < 1:
        raise InputError(f"samples_per_shard is {samples_per_shard}: give 1 or more")
    folder = Folder.at(out)
    plan = {
        "version": _VERSION,
        "selection": selection.fingerprint,
        "samples": len(selection),
        "samples_per_shard": samples_per_shard,
    }
    _claim(folder, plan)
    firsts = range(0, len(selection), samples_per_shard)
    units = [
        _Unit(
            selection=selection.directory,
            fingerprint=selection.fingerprint,
            out=folder,
            number=number,
            first=first,
            stop=min(first + samples_per_shard, len(selection)),
        )
        for number, first in enumerate(firsts)
    ]
    outcomes = sorted(_run(units, workers=workers), key=lambda outcome: outcome.number)
    facts = [outcome.facts for outcome in outcomes]
    shards = [{"file": _tar_name(outcome.number), **as_dict(outcome.facts)} for outcome in outcomes]
    write_json(folder, MANIFEST_FILE, {**plan, "shards": shards})
    return Materialised(
        shards=len(facts),
        shards_written=sum(outcome.is_new for outcome in outcomes),
        samples=sum(one.samples for one in facts),
        bytes=sum(one.bytes for one in facts),
    )


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """One shard to write: all that a worker is told."""

    selection: Path
    fingerprint: str
    out: Folder
    number: int
    first: int
    """The shard holds the rows of the selection from here ..."""
    stop: int
    """... up to here."""


class _Outcome(NamedTuple):
    number: int
    facts: ShardFacts
    is_new: bool


class _Sample(NamedTuple):
    kept: KeptSample
    url: str | None
    image: bytes


def _claim(folder: Folder, plan: dict[str, object]) -> None:
    """Make `folder` the place of this plan. Raises InputError where it is another's."""
    if folder.exists(PLAN_FILE):
        found = read_json(folder, PLAN_FILE)
        if not isinstance(found, dict) or found.keys() != plan.keys():
            raise InputError(
                f"{folder}/{PLAN_FILE} is no plan of shards: choose another folder, or delete "
                "that file"
            )
        if found != plan:
            raise InputError(
                f"{folder} holds another selection, or the same in shards of another size "
                f"({found['samples']} pairs by {found['samples_per_shard']}): choose "
                "another folder, or delete that one"
            )
        folder.sweep()
        # Until all shards have been seen to be whole again.
        folder.remove(MANIFEST_FILE)
        return
    others = folder.names() + folder.folders()
    if others:
        raise InputError(
            f"{folder} is not empty ({others[0]} is there), and is no place of earlier shards: "
            "choose a new folder"
        )
    write_json(folder, PLAN_FILE, plan)


def _run(units: list[_Unit], *, workers: int) -> Iterator[_Outcome]:
    start, samples = time.monotonic(), 0
    bar = track("materialising", total=len(units), unit="shards")
    with closing(local.run(_work, units, workers=workers)) as outcomes, bar as advance:
        for outcome in outcomes:
            yield outcome
            samples += outcome.facts.samples
            advance(1, f"{samples / (time.monotonic() - start):,.0f} samples/s")


def _work(unit: _Unit) -> _Outcome:
    facts = _whole(unit)
    return _Outcome(unit.number, facts or _write(unit), is_new=facts is None)


def _whole(unit: _Unit) -> ShardFacts | None:
    """The facts of a shard whose bytes are still those that were written; None for any other."""
    try:
        values = read_json(unit.out, _stats_name(unit.number))
        facts = from_dict(ShardFacts, values, where=_stats_name(unit.number))
        with unit.out.open(_tar_name(unit.number)) as file:
            is_same = hashlib.file_digest(file, "sha256").hexdigest() == facts.sha256  # type: ignore[arg-type]
    except (InputError, FileNotFoundError):
        return None
    return facts if is_same else None


def _write(unit: _Unit) -> ShardFacts:
    unit.out.remove(_stats_name(unit.number))
    selection = Selection.open(unit.selection)
    if selection.fingerprint != unit.fingerprint:
        raise InputError(
            f"{unit.selection} was selected anew meanwhile: materialise it into another folder"
        )
    with unit.out.writing(_tar_name(unit.number)) as path:
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for position, sample in enumerate(_samples(unit, selection), start=unit.first):
                for name, content in _members(f"{position:012d}", sample):
                    # The header's time, owner and mode are the same for all unless they are set.
                    header = tarfile.TarInfo(name)
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
    facts = ShardFacts(samples=unit.stop - unit.first, bytes=size, sha256=sha256)
    write_json(unit.out, _stats_name(unit.number), as_dict(facts))
    return facts


def _members(key: str, sample: _Sample) -> list[tuple[str, bytes]]:
    kept = sample.kept
    metadata: dict[str, Any] = {
        "uid": kept.uid,
        "url": sample.url,
        "original_shard": kept.shard,
        "original_key": kept.address.key,
    }
    if kept.weight != 1:
        metadata["weight"] = kept.weight
    return sorted(
        [
            (f"{key}.{_extension(sample)}", sample.image),
            (f"{key}.json", json.dumps(metadata, sort_keys=True).encode()),
            (f"{key}.txt", kept.caption.encode()),
        ]
    )


def _extension(sample: _Sample) -> str:
    try:
        with Image.open(io.BytesIO(sample.image), formats=FORMATS) as image:
            kind = str(image.format)
    except OSError as error:
        raise InputError(
            f"{sample.kept.shard} has changed since its ledger was made: {sample.kept.address.key} "
            "is no picture any more; curate the shard again"
        ) from error
    return _EXTENSIONS.get(kind, kind.lower())


def _samples(unit: _Unit, selection: Selection) -> Iterator[_Sample]:
    """The pairs of the unit, in order; of each raw shard in one go."""
    ends = np.cumsum(selection.shard_counts)
    starts = ends - selection.shard_counts
    firsts, stops = starts.clip(min=unit.first), ends.clip(max=unit.stop)
    for number in np.flatnonzero(firsts < stops).tolist():
        shard = selection.shards[number]
        kept = _with_urls(_rows(selection, firsts[number], stops[number]), selection, shard)
        with open_reader(shard, columns=selection.columns) as reader:
            for sample, url in kept:
                yield _Sample(sample, url, reader.read(sample.address))


def _rows(selection: Selection, first: int, stop: int) -> Iterator[KeptSample]:
    for start in range(first, stop, _SAMPLES_AT_ONCE):
        yield from selection.samples(np.arange(start, min(start + _SAMPLES_AT_ONCE, stop)))


def _with_urls(
    kept: Iterable[KeptSample], selection: Selection, shard: str
) -> Iterator[tuple[KeptSample, str | None]]:
    """Kept pairs with their URL, which only the ledger has; null for all where there is none."""
    ledger = Folder.at(selection.directory.parent.parent)
    shards = read_shards(ledger_folder(ledger))
    if not shards:
        yield from ((sample, None) for sample in kept)
        return
    # Both stand in ledger order, so the ledger's rows are gone through once.
    rows = _ledger_rows(ledger, shards.index(shard)) if shard in shards else iter(())
    for sample in kept:
        row = next((row for row in rows if row.is_of(sample)), None)
        if row is None:
            raise InputError(
                f"the ledger in {ledger} is no longer that of {selection.directory}: select again"
            )
        yield sample, row.url


class _LedgerRow(NamedTuple):
    address: Address
    uid: str
    url: str | None

    def is_of(self, sample: KeptSample) -> bool:
        return (self.address, self.uid) == (sample.address, sample.uid)


def _ledger_rows(out: Folder, number: int) -> Iterator[_LedgerRow]:
    for rows in row_groups(ledger_folder(out), number):
        columns = (rows[name].to_pylist() for name in ("key", "offset", "size", "uid", "url"))
        for key, offset, size, uid, url in zip(*columns, strict=True):
            yield _LedgerRow(Address(key, offset, size), uid, url)


def _tar_name(number: int) -> str:
    return f"{number:06d}.tar"


def _stats_name(number: int) -> str:
    return f"{number:06d}_stats.json"
