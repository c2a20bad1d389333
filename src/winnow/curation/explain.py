"""Explaining one pair: what is known of it, and every rule's number against its threshold.

What an annotator did not look at, because an earlier rule had dropped the pair already, is looked
at now, for this pair alone. A rule that asks the whole corpus is not asked again: what it said is
in the verdicts of the selection.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.config import from_dict
from winnow.curation import numbered
from winnow.curation.annotations import Annotation, sources_of
from winnow.curation.annotators.annotator import Annotator
from winnow.curation.corpus import Corpus
from winnow.curation.ledger_files import PLACE, Ledger
from winnow.curation.lookup import fresh_annotations, rows_at
from winnow.curation.offending import NOTHING, Marks, offending
from winnow.curation.parse import Action, Graph, Object, Relation
from winnow.curation.rules.rule import Measure, Rule
from winnow.curation.select import selection_folder
from winnow.curation.summary import SUMMARY_FILE, Summary
from winnow.curation.verdicts import Judge, find, read_by
from winnow.data.folder import Folder
from winnow.data.images import ImageError, probe
from winnow.data.ledger import LEDGER_SCHEMA, Address, make_uid
from winnow.data.sources import open_reader
from winnow.types import InputError

# As `describe_place` writes it.
_PLACE = re.compile(r"\brow (\d+) of (\d{5,})\b")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One pair and all that is known of it."""

    shard: str
    """Path or URL; of the picture where there is no shard."""
    row: pa.RecordBatch
    """One row: LEDGER_SCHEMA, PLACE, and the columns of `annotations`."""
    annotations: tuple[Annotation, ...]
    picture: bytes | None
    """Encoded; None where it cannot be read."""
    now: tuple[str, ...] = ()
    """Annotators that looked at it just now."""
    absent: dict[str, str] = field(default_factory=dict)
    """Why those that should have could not, by name."""

    @property
    def place(self) -> int:
        """Its PLACE in the ledger."""
        return self.row[PLACE][0].as_py()

    @property
    def error(self) -> str | None:
        """Why it cannot be read."""
        return self.row["error"][0].as_py()


@dataclass(frozen=True, kw_only=True)
class RuleLine:
    """What one rule says of a pair."""

    rule: Rule
    measures: tuple[Measure, ...] = ()
    """One value each."""
    reason: str | None = None
    """Why the rule drops the pair; None where it does not, or where nothing is known."""
    unjudged: str | None = None
    """Why nothing is known."""
    now: bool = False
    """Whether an annotator looked at the pair just now for it."""
    marks: Marks = NOTHING


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a selection wrote down of a pair."""

    kept: bool
    reason: str | None
    reasons: tuple[str, ...]
    error: str | None


def pairs_at(ledger: Ledger, places: Sequence[int]) -> Iterator[Pair]:
    """The pairs at `places`, in ledger order, with their pictures."""
    for place in sorted(places):
        stats = ledger.stats[place >> 32]
        annotations = fresh_annotations(ledger.out, place >> 32, stats)
        (row,) = rows_at(ledger.out, annotations, [place])
        pair = Pair(shard=stats.shard, row=row, annotations=annotations, picture=None)
        try:
            picture = None if pair.error else _read(ledger, pair)
        except (InputError, OSError) as error:
            yield replace(pair, absent={"the picture": str(error)})
        else:
            yield replace(pair, picture=picture)


def loose_pair(picture: bytes, caption: str, *, name: str) -> Pair:
    """A pair that is in no ledger; `name` says where its picture is from."""
    facts = {
        "uid": make_uid(picture, caption, {}),
        "key": name,
        "offset": 0,
        "size": len(picture),
        "caption": caption,
    }
    try:
        facts |= probe(picture)._asdict()
    except ImageError as error:
        facts["error"] = str(error)
    row = pa.RecordBatch.from_pylist([facts], schema=LEDGER_SCHEMA)
    row = row.append_column(PLACE, pa.array([0], pa.int64()))
    return Pair(shard=name, row=row, annotations=(), picture=picture)


def looked_at(pair: Pair, annotators: Sequence[Annotator]) -> Pair:
    """`pair` with what those of `annotators` find that have not looked at it yet."""
    if pair.error is not None:
        return pair
    for annotator in annotators:
        if not _has_seen(pair, annotator):
            pair = _look(pair, annotator)
    return pair


def explain(pair: Pair, rules: Sequence[Rule], stored: Verdict | None) -> list[RuleLine]:
    """Every rule's line; what rules that ask the corpus say is taken from `stored`."""
    lines = []
    reasons = list(stored.reasons) if stored else []
    for rule in rules:
        said = next((one for one in reasons if _code(one) in rule.codes), None)
        if said is not None:
            reasons.remove(said)
        if pair.error is not None:
            lines.append(RuleLine(rule=rule, unjudged="the pair cannot be read"))
        elif rule.asks_corpus:
            lines.append(_of_corpus(rule, pair, said, stored))
        else:
            lines.append(_line(rule, pair))
    return lines


def stored_verdict(ledger: Ledger, selection: str, pair: Pair) -> Verdict | None:
    """What the selection wrote down of a row of the ledger; None where it is of another ledger."""
    folder = selection_folder(ledger.out, selection) / "verdicts"
    number, index = pair.place >> 32, pair.place & 0xFFFFFFFF
    name = numbered.rows_name(number)
    if not folder.exists(name):
        return None
    with folder.open(name) as opened, pq.ParquetFile(opened) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if index < rows:
                (found,) = file.read_row_group(group).slice(index, 1).to_pylist()
                return _verdict(found) if found["uid"] == pair.row["uid"][0].as_py() else None
            index -= rows
    return None


def selections_of(out: Folder) -> list[str]:
    """The names of the selections in `out`."""
    root = out / "selections"
    return [name for name in root.folders() if (root / name).exists(SUMMARY_FILE)]


def read_summary(out: Folder, selection: str) -> Summary:
    """The account of a selection. Raises InputError where there is none."""
    folder = selection_folder(out, selection)
    if not folder.exists(SUMMARY_FILE):
        known = ", ".join(selections_of(out)) or "none"
        raise InputError(f"{out.url} has no selection {selection!r}: take one of these: {known}")
    values = numbered.read_json(folder, SUMMARY_FILE)
    return from_dict(Summary, values, where=f"{folder.url}/{SUMMARY_FILE}")


def kept_instead(ledger: Ledger, reason: str) -> Pair | None:
    """The pair that a reason about duplicates names; None where it names none."""
    found = _PLACE.search(reason)
    if found is None:
        return None
    row, number = int(found[1]), int(found[2])
    if number >= len(ledger.stats) or row >= ledger.stats[number].rows:
        return None
    return next(pairs_at(ledger, [number << 32 | row]))


def graph_of(pair: Pair) -> Graph | None:
    """The graph of the caption; None where it was not parsed."""
    if not _is_known(pair, "objects"):
        return None
    (row,) = pair.row.select(["caption", "objects", "actions", "relations", "foreign"]).to_pylist()
    objects = [
        Object(**{**one, "attributes": tuple(one["attributes"] or ())}) for one in row["objects"]
    ]
    return Graph(
        caption=row["caption"],
        objects=tuple(objects),
        actions=tuple(Action(**one) for one in row["actions"]),
        relations=tuple(Relation(**one) for one in row["relations"]),
        foreign=row["foreign"],
    )


def lines_seen(pair: Pair) -> list[dict] | None:
    """The lines of text in the picture, as `SpotText` has them; None where nobody looked."""
    return pair.row["spotted"][0].as_py() if _is_known(pair, "spotted") else None


def _is_known(pair: Pair, column: str) -> bool:
    return column in pair.row.schema.names and pair.row[column][0].is_valid


def _read(ledger: Ledger, pair: Pair) -> bytes:
    (row,) = pair.row.select(["key", "offset", "size"]).to_pylist()
    with open_reader(pair.shard, columns=ledger.columns) as reader:
        return reader.read(Address(row["key"], row["offset"], row["size"]))


def _has_seen(pair: Pair, annotator: Annotator) -> bool:
    known = next((one for one in pair.annotations if one.name == annotator.name), None)
    return known is not None and pair.row[known.computed][0].as_py()


def _look(pair: Pair, annotator: Annotator) -> Pair:
    if annotator.reads_pictures and pair.picture is None:
        return replace(pair, absent=pair.absent | {annotator.name: "the picture cannot be read"})
    try:
        look = annotator.open()
    except InputError as error:
        return replace(pair, absent=pair.absent | {annotator.name: str(error)})
    pictures = [pair.picture] if annotator.reads_pictures and pair.picture is not None else []
    found = look(pair.row, iter(pictures))
    annotation = Annotation(name=annotator.name, columns=annotator.schema)
    columns = {name: found[name] for name in annotator.schema.names}
    columns |= {annotation.computed: pa.array([True]), annotation.error: found["error"]}
    others = tuple(one for one in pair.annotations if one.name != annotator.name)
    return replace(
        pair,
        row=_with_columns(pair.row, columns),
        annotations=(*others, annotation),
        now=(*pair.now, annotator.name),
    )


def _with_columns(row: pa.RecordBatch, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    values = dict(zip(row.schema.names, row.columns, strict=True)) | columns
    return pa.RecordBatch.from_arrays(list(values.values()), names=list(values))


def _line(rule: Rule, pair: Pair) -> RuleLine:
    unjudged = _why_unjudged(rule, pair)
    if unjudged is not None:
        return RuleLine(rule=rule, unjudged=unjudged)
    sources = read_by(rule, pair.annotations)
    corpus = Corpus(list)
    found = find(pair.row, Judge(rule, corpus, sources))
    reason = found.reasons[0].as_py()
    return RuleLine(
        rule=rule,
        measures=rule.measures(pair.row, corpus),
        reason=reason,
        now=any(source.name in pair.now for source in sources),
        marks=NOTHING if reason is None else offending(rule, pair.row),
    )


def _why_unjudged(rule: Rule, pair: Pair) -> str | None:
    sources = sources_of(rule.needs, pair.annotations)
    for column in rule.needs:
        source = sources.get(column)
        if source is None or not pair.row[source.computed][0].as_py():
            # Who fills a column is not known here, so all that could not look are named.
            reasons = [f"{name}: {why}" for name, why in pair.absent.items()]
            return "; ".join([f"{column} is not computed", *reasons])
        error = pair.row[source.error][0].as_py()
        if error is not None:
            return error
    return None


def _of_corpus(rule: Rule, pair: Pair, said: str | None, stored: Verdict | None) -> RuleLine:
    if said is not None:
        return RuleLine(rule=rule, reason=said, marks=offending(rule, pair.row))
    if stored is None:
        return RuleLine(rule=rule, unjudged="it asks all pairs: only a selection knows")
    return RuleLine(rule=rule)


def _code(reason: str) -> str:
    return reason.partition(":")[0]


def _verdict(row: dict) -> Verdict:
    return Verdict(
        kept=row["kept"],
        reason=row["reason"],
        reasons=tuple(row["reasons"]),
        error=row["error"],
    )
