"""Which pairs of a selection a page looks at: few, always the same, and chosen by nobody.

At most BLOCKS row groups are read, evenly spaced over the shards and within each. Of their pairs
those come first whose uid has the smallest hash: some of every reason, which are shown, and
MEASURED of all, which are measured. So a page over a billion pairs costs no more than one over a
million, and the same files give the same page.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.data.ledger import Address
from winnow.types import InputError

BLOCKS = 32
"""Row groups that are read; one has at most some ten thousand pairs."""

MEASURED = 20_000
"""Pairs that are measured."""

LISTED = 1_500
"""Pairs that can be searched for, shared out among the reasons."""

MAX_CAPTION = 2_000
"""Characters of a caption that are kept; scraped ones can be megabytes."""

KEPT = "kept"
_FACTS = ["uid", "key", "offset", "size", "caption"]
UNREADABLE = (InputError, OSError, pa.ArrowException)
"""What damaged or missing files raise."""


class Row(NamedTuple):
    """One pair with its verdict."""

    place: int
    uid: str
    address: Address
    caption: str
    """At most MAX_CAPTION characters."""
    length: int
    """Of the whole caption, in characters."""
    reason: str | None
    """The first; None where there is none."""
    reasons: tuple[str, ...]
    error: str | None

    @property
    def code(self) -> str:
        """What it is counted by: the code of its reason or error, or "kept"."""
        return split(self.reason or self.error or KEPT)[0]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The pairs that a page looks at."""

    rows: dict[str, list[Row]]
    """By code, those with the smallest hash first: what is shown."""
    measured: np.ndarray
    """int64: places of readable pairs, sorted."""
    kept: np.ndarray
    """bool: which of the measured are kept."""
    of: int
    """Pairs in the blocks that were read."""
    shards: int
    """Shards that they are from."""
    per_code: int
    """Pairs of one code at most."""
    problems: list[str] = field(default_factory=list)
    """Why blocks are missing."""


def read_sample(selection: Path, num_shards: int, *, codes: int) -> Sample:
    """The sample of the selection in `selection`, whose pairs have some `codes` reasons."""
    per_code = max(1, LISTED // max(codes, 1))
    rows: dict[str, list[tuple[int, Row]]] = {}
    hashes, places, kept = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, bool)]
    problems, read, shards = list[str](), 0, _spread(num_shards, BLOCKS)
    for number in shards:
        try:
            for found in _blocks(selection, number, most=-(-BLOCKS // len(shards))):
                read += len(found.hashes)
                readable = found.verdicts["error"].is_null().to_numpy(zero_copy_only=False)
                hashes.append(found.hashes[readable])
                places.append(found.places[readable])
                kept.append(found.verdicts["kept"].to_numpy(zero_copy_only=False)[readable])
                for hashed, row in found.first_of_codes(per_code):
                    rows.setdefault(row.code, []).append((hashed, row))
        except UNREADABLE as error:
            problems.append(str(error))
    order = np.argsort(np.concatenate(hashes), kind="stable")[:MEASURED]
    measured = np.concatenate(places)[order]
    in_place = np.argsort(measured)
    return Sample(
        rows={code: _first(found, per_code) for code, found in rows.items()},
        measured=measured[in_place],
        kept=np.concatenate(kept)[order][in_place],
        of=read,
        shards=len(shards),
        per_code=per_code,
        problems=problems,
    )


def read_pairs(selection: Path, places: Sequence[int]) -> dict[int, tuple[Address, str]]:
    """Address and whole caption of a few rows of the ledger by place, as far as they are there."""
    found: dict[int, tuple[Address, str]] = {}
    for number, of_shard in itertools.groupby(sorted(places), key=lambda place: place >> 32):
        wanted, place = list(of_shard), number << 32
        path = selection.parent.parent / "ledger" / f"{number:05d}.parquet"
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                here = [one - place for one in wanted if place <= one < place + size]
                if here:
                    rows = file.read_row_group(group, columns=_FACTS).take(pa.array(here))
                    for index, fact in zip(here, rows.to_pylist(), strict=True):
                        found[place + index] = _address(fact), fact["caption"] or ""
                place += size
    return found


def split(reason: str) -> tuple[str, str]:
    """The code of a reason or an error, and its detail."""
    code, _, detail = reason.partition(":")
    return code, detail.strip()


class _Found(NamedTuple):
    """What is read of a block."""

    verdicts: pa.Table
    ledger: pa.Table
    hashes: np.ndarray
    """uint64, of the uids."""
    places: np.ndarray

    def first_of_codes(self, count: int) -> Iterator[tuple[int, Row]]:
        """With their hashes, the `count` rows of each code whose hash is smallest."""
        said = pc.coalesce(self.verdicts["reason"], self.verdicts["error"], KEPT)
        codes = pc.replace_substring_regex(said, r"(?s)^([^:]+):.*$", r"\1")
        numbers = codes.combine_chunks().dictionary_encode().indices.to_numpy()
        order = np.argsort(self.hashes, kind="stable")
        ordered = numbers[order]
        chosen = [order[ordered == number][:count] for number in np.unique(ordered)]
        index = np.concatenate([np.empty(0, np.int64), *chosen]).astype(np.int64)
        facts = self.ledger.take(pa.array(index)).to_pylist()
        judged = self.verdicts.take(pa.array(index)).to_pylist()
        for at, fact, verdict in zip(index.tolist(), facts, judged, strict=True):
            yield int(self.hashes[at]), _row(int(self.places[at]), fact, verdict)


def _blocks(selection: Path, number: int, *, most: int) -> Iterator[_Found]:
    """At most so many row groups of one shard, evenly spaced."""
    name = f"{number:05d}.parquet"
    paths = selection / "verdicts" / name, selection.parent.parent / "ledger" / name
    with pq.ParquetFile(paths[0]) as verdicts, pq.ParquetFile(paths[1]) as ledger:
        sizes = [
            [f.metadata.row_group(g).num_rows for g in range(f.num_row_groups)]
            for f in (verdicts, ledger)
        ]
        starts = [0, *itertools.accumulate(sizes[1])]
        for group in _spread(len(sizes[1]), most):
            judged = verdicts.read_row_group(group) if sizes[0] == sizes[1] else None
            facts = ledger.read_row_group(
                group, columns=["uid", "key", "offset", "size", "caption"]
            )
            if judged is None or judged["uid"] != facts["uid"]:
                raise InputError(
                    f"{paths[0]} is not about the rows of the ledger: select again with "
                    "`winnow curate`"
                )
            places = np.arange(facts.num_rows, dtype=np.int64) + (number << 32 | starts[group])
            yield _Found(judged, facts, _hashes(facts["uid"].to_pylist()), places)


def _row(place: int, fact: dict, verdict: dict) -> Row:
    return Row(
        place=place,
        uid=verdict["uid"],
        address=_address(fact),
        caption=_caption(fact),
        length=len(fact["caption"] or ""),
        reason=verdict["reason"],
        reasons=tuple(verdict["reasons"]),
        error=verdict["error"],
    )


def _address(fact: dict) -> Address:
    return Address(fact["key"], fact["offset"], fact["size"])


def _caption(fact: dict) -> str:
    return (fact["caption"] or "")[:MAX_CAPTION]


def _first(found: Sequence[tuple[int, Row]], count: int) -> list[Row]:
    in_order = sorted(found, key=lambda one: (one[0], one[1].place))
    return [row for _, row in in_order[:count]]


def _hashes(uids: Sequence[str]) -> np.ndarray:
    """uint64: the head of each uid's sha256."""
    heads = b"".join(hashlib.sha256(uid.encode()).digest()[:8] for uid in uids)
    return np.frombuffer(heads, dtype=">u8").astype(np.uint64)


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spaced."""
    shown = min(count, most)
    return [index * count // shown for index in range(shown)]
