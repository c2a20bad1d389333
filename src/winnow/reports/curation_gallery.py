"""Pictures for every reason, with what made the rule drop them marked; and pairs to search in."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from winnow.data.ledger import Address
from winnow.data.selection import Selection
from winnow.data.sources import open_reader
from winnow.reports.curation_sample import UNREADABLE, Row, read_pairs, split
from winnow.reports.hostile import visible
from winnow.reports.insight import Insight, PairMarks
from winnow.reports.marks import Box, Piece, marked_thumbnail, pieces
from winnow.reports.pictures import LONGEST, shorten
from winnow.types import InputError

SHOWN_PER_REASON = 6
MAX_GALLERIES = 30
"""Reasons with pictures: rules of one's own may have any number of codes."""

THUMBNAIL = 144
"""Longer side in pixels; the page shows it at all of it."""

_LONGEST_REASON = 200

# As the rules on duplicates name the pair that is kept.
_PLACE = re.compile(r"\bof row (\d+) of (\d{5,})\b(?:, uid [0-9a-f]{32})?,?")


class Example(NamedTuple):
    """One pair, to look at."""

    picture: str | None
    """A data URI; None where it cannot be read."""
    caption: str
    """Short."""
    pieces: list[Piece]
    """The caption in marked and plain parts."""
    detail: str
    """What the reason says of this pair beyond its code."""
    key: str
    instead: "Instead | None" = None


class Instead(NamedTuple):
    """The pair that is kept in place of a duplicate."""

    picture: str | None
    caption: str
    key: str


def read_gallery(
    selection: Path,
    rows: Mapping[str, Sequence[Row]],
    shards: Sequence[str],
    insight: Insight | None,
) -> tuple[dict[str, list[Example]], list[str]]:
    """Examples by code, for the first codes of `rows`, and why some have no picture or no mark."""
    shown = {code: rows[code][:SHOWN_PER_REASON] for code in list(rows)[:MAX_GALLERIES]}
    chosen = [row for few in shown.values() for row in few]
    marks, problems = _marks(chosen, insight)
    if len(rows) > MAX_GALLERIES:
        problems = [*problems, f"pictures are of the first {MAX_GALLERIES} of {len(rows)} reasons"]
    others, more = _originals(selection, chosen)
    wanted = {row.place: row.address for row in chosen if row.error is None}
    wanted |= {place: address for place, (address, _) in others.items()}
    pictures, even_more = _pictures(selection, wanted, shards, marks)

    def instead(row: Row) -> Instead | None:
        place = _original(row)
        if place is None or place not in others:
            return None
        address, caption = others[place]
        return Instead(pictures.get(place), shorten(caption), shorten(address.key))

    examples = {
        code: [
            _example(row, pictures.get(row.place), marks.get(row.place), instead(row))
            for row in few
        ]
        for code, few in shown.items()
    }
    return examples, [*problems, *more, *even_more]


def listed(rows: Mapping[str, Sequence[Row]]) -> list[list[Any]]:
    """For the search: key, uid, caption and all reasons of every pair; no reason means kept."""
    return [
        [
            shorten(row.address.key),
            row.uid,
            visible("".join(piece.text for piece in _pieces(row, ()))),
            [
                visible(said, longest=_LONGEST_REASON)
                for said in (*row.reasons, *([row.error] if row.error else []))
            ],
        ]
        for of_code in rows.values()
        for row in of_code
    ]


def _marks(
    rows: Sequence[Row], insight: Insight | None
) -> tuple[Mapping[int, PairMarks], list[str]]:
    reasons = {row.place: row.reason for row in rows if row.reason is not None}
    if insight is None or not reasons:
        return {}, []
    try:
        return insight.marks(reasons), []
    except UNREADABLE as error:
        return {}, [f"what made a rule drop a pair is not marked, {error}"]


def _original(row: Row) -> int | None:
    """The place of the pair that the reason names."""
    found = _PLACE.search(row.reason or "")
    return None if found is None else int(found[2]) << 32 | int(found[1])


def _originals(
    selection: Path, rows: Sequence[Row]
) -> tuple[dict[int, tuple[Address, str]], list[str]]:
    places = {place for row in rows if (place := _original(row)) is not None}
    try:
        return read_pairs(selection, list(places)), []
    except UNREADABLE as error:
        return {}, [f"what is kept in place of duplicates is not shown, {error}"]


def _pictures(
    selection: Path,
    wanted: Mapping[int, Address],
    shards: Sequence[str],
    marks: Mapping[int, PairMarks],
) -> tuple[dict[int, str | None], list[str]]:
    """The pictures at the addresses, by place, and why those of some shards are missing."""
    try:
        columns = Selection.open(selection).columns
    except InputError as error:
        return {}, [str(error)]
    pictures: dict[int, str | None] = {}
    problems = []
    for shard in sorted({place >> 32 for place in wanted}):
        places = sorted(place for place in wanted if place >> 32 == shard)
        try:
            with open_reader(shards[shard], columns=columns) as reader:
                for place in places:
                    boxes = marks[place].boxes if place in marks else ()
                    data = reader.read(wanted[place])
                    pictures[place] = marked_thumbnail(data, map(Box, boxes), longest=THUMBNAIL)
        except UNREADABLE as error:
            problems.append(str(error))
    return pictures, problems


def _pieces(row: Row, spans: Sequence[tuple[int, int]]) -> list[Piece]:
    return pieces(row.caption, spans, longest=LONGEST, length=row.length)


def _example(
    row: Row, picture: str | None, marks: PairMarks | None, instead: Instead | None
) -> Example:
    parts = _pieces(row, marks.spans if marks else ())
    detail = split(row.reason or row.error or "")[1]
    if instead is not None:
        # Said by the picture beside it.
        detail = _PLACE.sub("", detail).strip()
    return Example(
        picture=picture,
        caption="".join(part.text for part in parts),
        pieces=parts,
        detail=visible(detail, longest=_LONGEST_REASON),
        key=shorten(row.address.key),
        instead=instead,
    )
