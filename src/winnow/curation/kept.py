"""The kept pairs of a selection, with what an annotator finds in them.

A selection has of a pair what training needs. What was found out of it stands beside the ledger;
where the rules did not ask for it, it is looked for now.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.curation.annotate import annotate
from winnow.curation.annotations import (
    Annotation,
    annotated_batches,
    check_annotations,
    find_annotations,
)
from winnow.curation.annotators.annotator import Annotator
from winnow.curation.ledger_files import Ledger
from winnow.curation.numbered import rows_name
from winnow.curation.rule_specs import from_settings
from winnow.curation.rules.rule import Rule
from winnow.curation.stages import Stage
from winnow.curation.summary import Summary
from winnow.data.folder import Folder
from winnow.data.selection import Selection
from winnow.data.sources import open_source
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class KeptPairs:
    """The pairs of a selection as rows of the ledger, with one annotator's columns."""

    ledger: Ledger
    selection: Selection
    annotation: Annotation
    identity: str
    """Of the annotator; see Annotator."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The kept rows, in the selection's order; row n of all is its row n.

        Raises InputError where the ledger is no longer the one that was selected from.
        """
        start = 0
        for number in range(len(self.ledger.stats)):
            kept = _kept(self.selection.directory, number)
            place = 0
            for rows in annotated_batches(self.ledger.out, number, (self.annotation,)):
                mask = kept.slice(place, rows.num_rows)
                place += rows.num_rows
                if len(mask) != rows.num_rows:
                    raise _stale(self.selection)
                found = rows.filter(mask)
                uids = self.selection.table["uid"].slice(start, found.num_rows)
                if not uids.combine_chunks().equals(found["uid"]):
                    raise _stale(self.selection)
                start += found.num_rows
                yield found
        if start != len(self.selection):
            raise _stale(self.selection)


def kept_pairs(
    selection: Selection,
    annotator: Annotator,
    *,
    workers: int,
    say: Callable[[str], None] = lambda _: None,
) -> KeptPairs:
    """The kept pairs with the columns of `annotator`, which looks at those it has not seen yet.

    With its default settings, what any setting has found in all of them is taken as it is. Raises
    InputError where `selection` is not in a curated folder, or its rules read another setting's.
    """
    ledger = Ledger.open(curated_folder(selection))
    found = _found(ledger, selection, annotator.name)
    rules = _rules(Summary.read(selection.directory))
    if found is not None and annotator != type(annotator)():
        _refuse_to_replace(found, annotator, rules)
        found = found if found.identity == annotator.identity() else None
    if found is None:
        source = open_source(ledger.shards, columns=ledger.columns)
        stage = _stage(rules, annotator)
        annotate(source, ledger.out, workers=workers, stages=(stage,), say=say)
        found = _found(Ledger.open(ledger.out), selection, annotator.name)
    assert found is not None, "all kept rows pass the gate"
    return found


def curated_folder(selection: Selection) -> Folder:
    """The folder with the ledger of a selection. Raises InputError where that is not there."""
    directory = selection.directory.absolute()
    if directory.parent.name != "selections" or not (directory / "verdicts").is_dir():
        raise InputError(
            f"{directory} is not among the selections of a curated folder, so what was found out "
            "of its pairs is not there: name the folder that `winnow curate --out` made"
        )
    return Folder.at(directory.parent.parent)


def _found(ledger: Ledger, selection: Selection, name: str) -> KeptPairs | None:
    """The kept pairs as they are annotated; None where one was not looked at."""
    for annotation in find_annotations(ledger.out):
        if annotation.name != name:
            continue
        try:
            (identity,) = check_annotations(ledger.out, (annotation,), ledger.stats)
        except InputError:
            return None
        pairs = KeptPairs(
            ledger=ledger, selection=selection, annotation=annotation, identity=identity
        )
        looked_at = (pc.all(rows[annotation.computed]).as_py() for rows in pairs.batches())
        return pairs if all(answer is not False for answer in looked_at) else None
    return None


def _rules(summary: Summary) -> list[Rule]:
    where = f"the summary of selection {summary.selection}"
    return [from_settings(settings, where=where) for settings in summary.rules]


def _refuse_to_replace(found: KeptPairs, annotator: Annotator, rules: Sequence[Rule]) -> None:
    """What the selection was made from stays."""
    reads = {column for rule in rules for column in rule.needs}
    if found.identity != annotator.identity() and reads & set(annotator.schema.names):
        raise InputError(
            f"the rules of {found.selection.directory} read what {annotator.name} found with other "
            f"settings ({found.identity}; asked for: {annotator.identity()}): leave the settings "
            "out, or select again with `winnow curate` and these"
        )


def _stage(rules: Sequence[Rule], annotator: Annotator) -> Stage:
    """Behind the selection's rules that read the ledger alone: no other annotator runs again."""
    gate = tuple(rule for rule in rules if not rule.asks_corpus and not rule.needs)
    return Stage(annotator=annotator, identity=annotator.identity(), gate=gate)


def _kept(selection: Path, number: int) -> pa.Array:
    path = selection / "verdicts" / rows_name(number)
    try:
        return pq.read_table(path, columns=["kept"])["kept"].combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path} is missing or damaged ({error}): select again with `winnow curate --out`"
        ) from error


def _stale(selection: Selection) -> InputError:
    return InputError(
        f"the ledger beside {selection.directory} is no longer the one that was selected from: "
        "select again with `winnow curate --out`"
    )
