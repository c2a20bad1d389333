"""What became of every pair: the waterfall from seen to kept, and pictures for every reason.

Reasons and errors are "code: detail"; counts go by code.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.config import read_json
from winnow.data.ledger import Address
from winnow.data.selection import Selection
from winnow.reports.pictures import order, shorten, thumbnails
from winnow.types import InputError

SHOWN_PER_REASON = 6
MAX_SHARDS = 32
"""Pictures are chosen from at most so many shards, evenly spaced, so that a report over a billion
pairs reads no more than one over a million."""

KEPT = "kept"

_SUMMARY_FIELDS = {"selection", "seen", "kept", "errors", "dropped", "rules", "shards"}
_UNREADABLE = (InputError, OSError, pa.ArrowException)


class Share(Protocol):
    """How many of how many."""

    @property
    def count(self) -> int: ...  # noqa: D102

    @property
    def of(self) -> int: ...  # noqa: D102

    @property
    def value(self) -> float: ...  # noqa: D102


class Truth(Protocol):
    """A selection against planted noise: winnow.curation's TruthComparison."""

    @property
    def recall(self) -> Mapping[str, Share]: ...  # noqa: D102

    @property
    def recall_overall(self) -> Share: ...  # noqa: D102

    @property
    def precision_overall(self) -> Share: ...  # noqa: D102

    @property
    def dropped(self) -> Mapping[str, Mapping[str, int]]: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Step:
    """One bar of the waterfall; the first is all that was seen, the last is what was kept."""

    label: str
    count: int
    kind: str
    """"seen", "dropped", "error" or "kept"."""
    start: float
    """Where the bar begins, as a share of all seen; `share` is its length."""
    share: float


class Example(NamedTuple):
    """One pair, to look at."""

    picture: str | None
    """A data URI; None where it cannot be read."""
    caption: str
    detail: str
    """What the reason says of this pair beyond its code."""
    key: str


@dataclass(frozen=True, kw_only=True)
class Curation:
    """A selection, as the page shows it."""

    name: str
    summary: dict[str, Any]
    steps: list[Step]
    examples: dict[str, list[Example]]
    """By code of the first reason in the order of the rules, then of errors, and "kept"."""
    error_counts: dict[str, int]
    shards_shown: int
    """How many shards the examples are from."""
    problem: str | None
    """Why examples or their pictures are missing, where some are."""


def read_curation(selection: Path) -> Curation:
    """The selection in `selection`. Raises InputError where there is none, or a damaged one."""
    summary = _read_summary(selection)
    rows: list[_Row] = []
    numbers, problems = _spread(len(summary["shards"])), list[str]()
    for number in numbers:
        try:
            rows += _candidates(selection, number)
        except _UNREADABLE as error:
            problems.append(str(error))
    chosen = _chosen(rows)
    pictures, more_problems = _pictures(selection, chosen, summary["shards"])
    problems += more_problems
    examples = _examples(chosen, pictures)
    in_order = [*summary["dropped"], *sorted(examples.keys() - summary["dropped"].keys())]
    return Curation(
        name=summary["selection"],
        summary=summary,
        steps=_steps(summary),
        examples={code: examples[code] for code in in_order if code in examples},
        error_counts=summary.get("errors_by_code", {}),
        shards_shown=len(numbers),
        problem="; ".join(dict.fromkeys(problems)) or None,
    )


def _read_summary(selection: Path) -> dict[str, Any]:
    path = selection / "summary.json"
    if not path.is_file():
        raise InputError(
            f"{selection} holds no selection ({path.name} is missing): make one with "
            "`winnow curate`"
        )
    summary = read_json(path)
    if not isinstance(summary, dict) or not summary.keys() >= _SUMMARY_FIELDS:
        raise InputError(f"{path} is no account of a selection: make it again with `winnow curate`")
    return summary


class _Row(NamedTuple):
    code: str
    detail: str
    error: bool
    shard: int
    address: Address
    caption: str
    uid: str


_Pictures = dict[tuple[int, Address], str | None]
"""Data URIs by number of the shard and address in it."""


def _steps(summary: Mapping[str, Any]) -> list[Step]:
    seen = summary["seen"]
    steps = [_step("seen", seen, "seen", seen=seen)]
    remaining = seen
    falls = [(code, count, "dropped") for code, count in summary["dropped"].items()]
    for label, count, kind in [("cannot be read", summary["errors"], "error"), *falls]:
        if count:
            remaining -= count
            steps.append(_step(label, count, kind, seen=seen, start=remaining))
    return [*steps, _step(KEPT, summary["kept"], "kept", seen=seen)]


def _step(label: str, count: int, kind: str, *, seen: int, start: int = 0) -> Step:
    whole = max(seen, 1)
    return Step(label=label, count=count, kind=kind, start=start / whole, share=count / whole)


def _spread(count: int) -> list[int]:
    """At most MAX_SHARDS of the numbers below `count`, evenly spaced."""
    shown = min(count, MAX_SHARDS)
    return [index * count // shown for index in range(shown)]


def _candidates(selection: Path, number: int) -> Iterator[_Row]:
    """Of one shard, the first few pairs of every code in the order of their uid's hash."""
    file = f"{number:05d}.parquet"
    verdicts = pq.read_table(selection / "verdicts" / file)
    ledger = pq.read_table(selection.parent.parent / "ledger" / file)
    if verdicts["uid"] != ledger["uid"]:
        raise InputError(
            f"{selection / 'verdicts' / file} is not about the rows of the ledger: "
            "select again with `winnow curate`"
        )
    by_code: dict[str, list[int]] = {}
    reasons = zip(verdicts["reason"].to_pylist(), verdicts["error"].to_pylist(), strict=True)
    for index, (reason, error) in enumerate(reasons):
        by_code.setdefault(_split(reason or error or KEPT)[0], []).append(index)
    uids = verdicts["uid"].to_pylist()
    for indices in by_code.values():
        for index in sorted(indices, key=lambda i: order(uids[i]))[:SHOWN_PER_REASON]:
            yield _row(verdicts.slice(index, 1), ledger.slice(index, 1), number)


def _row(verdict: pa.Table, entry: pa.Table, shard: int) -> _Row:
    judged, facts = verdict.to_pylist()[0], entry.to_pylist()[0]
    code, detail = _split(judged["reason"] or judged["error"] or KEPT)
    return _Row(
        code=code,
        detail=detail,
        error=judged["error"] is not None,
        shard=shard,
        address=Address(facts["key"], facts["offset"], facts["size"]),
        caption=shorten(facts["caption"] or ""),
        uid=judged["uid"],
    )


def _split(reason: str) -> tuple[str, str]:
    code, _, detail = reason.partition(":")
    return code, detail.strip()


def _chosen(rows: Sequence[_Row]) -> list[_Row]:
    by_code: dict[str, list[_Row]] = {}
    for row in sorted(rows, key=lambda row: order(row.uid)):
        by_code.setdefault(row.code, []).append(row)
    return [row for few in by_code.values() for row in few[:SHOWN_PER_REASON]]


def _pictures(
    selection: Path, rows: Sequence[_Row], shards: Sequence[str]
) -> tuple[_Pictures, list[str]]:
    """The pictures of `rows`, and why those of some shards are missing."""
    try:
        columns = Selection.open(selection).columns
    except InputError as error:
        return {}, [str(error)]
    pictures, problems = _Pictures(), []
    for shard in sorted({row.shard for row in rows}):
        wanted = {row.address for row in rows if row.shard == shard and not row.error}
        try:
            found = thumbnails(shards[shard], wanted, columns=columns)
        except _UNREADABLE as error:
            problems.append(str(error))
        else:
            pictures |= {(shard, address): picture for address, picture in found.items()}
    return pictures, problems


def _examples(rows: Sequence[_Row], pictures: _Pictures) -> dict[str, list[Example]]:
    examples: dict[str, list[Example]] = {}
    for row in rows:
        picture = pictures.get((row.shard, row.address))
        example = Example(picture, row.caption, row.detail, row.address.key)
        examples.setdefault(row.code, []).append(example)
    return examples
