"""The vocabularies of a selection: the objects and the attributes that its captions name.

    OUT/concepts/SELECTION/vocabulary.parquet   a row per concept, and per one that was left out
    OUT/concepts/SELECTION/labels.arrow         the concepts of every kept pair (`labels.py`)
    OUT/concepts/SELECTION/vocabulary.json      what they were made of, written last: present = done

Objects by their lemma, attributes as they stand in the caption, lower-cased; neither what is said
of the picture and not of what is in it (`stop_words.py`). A pair counts once for
a concept, however often its caption says it; exact copies of a pair count each, since each is
trained on. The same pairs give the same bytes, in whatever batches they come, and in another order
another order of the labels only. Radenovic et al. (DiHT), CVPR 2023, arXiv 2301.02280, section 3.2;
thresholds, back-off (`back_off.py`) and stop list (`stop_words.py`) are ours.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.concepts import HEADS, KeptRows, stop_words
from winnow.concepts.back_off import Choice, choose
from winnow.concepts.candidates import Candidates, read_candidates
from winnow.concepts.examples import find_examples
from winnow.concepts.labels import LABELS_FILE, Labels, write_labels
from winnow.concepts.vocabulary_facts import (
    HeadNumbers,
    SelectionFacts,
    VocabularyConfig,
    VocabularyFacts,
    VocabularySource,
    fingerprint_of,
)
from winnow.config import as_dict, load, write_json
from winnow.data.files import sha256_of
from winnow.data.folder import Folder
from winnow.types import InputError

__all__ = ["SelectionFacts", "Vocabulary", "VocabularyConfig", "build_vocabulary"]

TABLE_FILE = "vocabulary.parquet"
FACTS_FILE = "vocabulary.json"
VERSION = 2
"""Raised when the same captions can give another vocabulary."""

SCHEMA = pa.schema(
    [
        pa.field("head", pa.string(), nullable=False),
        pa.field("index", pa.uint16()),  # position among the head's concepts; null: left out
        pa.field("concept", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),  # pairs that have it
        pa.field("share", pa.float64(), nullable=False),  # of all pairs
        pa.field("examples", pa.list_(pa.string()), nullable=False),  # captions, shortened
        pa.field("reason", pa.string()),  # why it was left out
    ]
)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The concepts of both heads, most frequent first."""

    facts: VocabularyFacts
    concepts: dict[str, tuple[str, ...]]
    counts: dict[str, np.ndarray]
    """int64 (concepts,) for each head: how many pairs have each."""
    table: pa.Table
    """SCHEMA: by head the concepts in order, then what the stop list took, the most frequent first;
    with examples."""

    @property
    def fingerprint(self) -> str:
        """See VocabularyFacts."""
        return self.facts.fingerprint

    @classmethod
    def open(cls, folder: Path) -> "Vocabulary":
        """The vocabulary in `folder`. Raises InputError where there is none, or a damaged one."""
        path = folder / FACTS_FILE
        if not path.is_file():
            raise InputError(
                f"{folder} holds no vocabulary of concepts ({FACTS_FILE} is missing): make it with "
                "`winnow concepts DIR`"
            )
        try:
            facts = load(VocabularyFacts, path)
            table = pq.read_table(folder / TABLE_FILE, page_checksum_verification=True)
        except (InputError, pa.ArrowException, OSError) as error:
            raise _damaged(folder, str(error)) from error
        if not table.schema.equals(SCHEMA):
            raise _damaged(folder, f"{TABLE_FILE} has other columns")
        kept = {
            head: table.filter((pc.field("head") == head) & pc.field("index").is_valid())
            for head in HEADS
        }
        concepts = {head: tuple(rows["concept"].to_pylist()) for head, rows in kept.items()}
        if fingerprint_of(concepts) != facts.fingerprint:
            raise _damaged(folder, f"{FACTS_FILE} describes other concepts than {TABLE_FILE} has")
        counts = {head: rows["count"].to_numpy() for head, rows in kept.items()}
        return cls(facts=facts, concepts=concepts, counts=counts, table=table)


def build_vocabulary(
    rows: KeptRows,
    folder: Path,
    *,
    config: VocabularyConfig,
    selection: SelectionFacts,
    parse: str,
    num_rows: int,
) -> Vocabulary:
    """The vocabulary of a selection of `num_rows` pairs, which is made if `folder` has it not.

    Goes through `rows` twice. `parse` is the parser's identity. A vocabulary of anything else that
    is in `folder` is replaced. Raises InputError, and leaves it, where there are not as many rows
    or a head would have no concept.
    """
    source = VocabularySource(
        selection=selection,
        num_pairs=num_rows,
        parse=parse,
        config=config,
        rules=f"version {VERSION}, stop list {stop_words.fingerprint()}",
    )
    there = _vocabulary_of(source, folder)
    if there is not None:
        return there
    folder.mkdir(parents=True, exist_ok=True)
    Folder.at(folder).sweep()
    stops = {head: stop_words.StopList.of(head, config.stop) for head in HEADS}
    candidates = read_candidates(rows, folder, num_rows=num_rows, rest=stops["objects"].rest)
    choices = {head: _choose(head, candidates[head], stops[head], source) for head in HEADS}
    place = {head: choice.place for head, choice in choices.items()}
    table = _table(choices, find_examples(rows, candidates, place), num_pairs=num_rows)
    fingerprint = fingerprint_of(
        {head: choice.concepts[: choice.size] for head, choice in choices.items()}
    )
    (folder / FACTS_FILE).unlink(missing_ok=True)
    with Folder.at(folder).writing(TABLE_FILE) as path:
        pq.write_table(table, path, write_page_checksum=True)
    kept = {h: np.where(p < choices[h].size, p, -1) for h, p in place.items()}
    labelled = write_labels(folder, candidates, kept)
    heads = {head: _numbers(choices[head], labelled[head], num_rows) for head in HEADS}
    facts = VocabularyFacts(
        source=source, heads=heads, fingerprint=fingerprint, labels=sha256_of(folder / LABELS_FILE)
    )
    write_json(folder / FACTS_FILE, as_dict(facts))
    return Vocabulary.open(folder)


def refuse_another_vocabulary(folder: Path, fingerprint: str, *, of: str) -> None:
    """Raise InputError where `folder` has a vocabulary and it is not the one `of` those targets."""
    if not (folder / FACTS_FILE).is_file():
        return
    there = load(VocabularyFacts, folder / FACTS_FILE)
    if there.fingerprint != fingerprint:
        raise InputError(
            f"{of} is over the vocabulary {fingerprint[:12]}, and {folder} has another now "
            f"({there.fingerprint[:12]}, of the selection {there.source.selection.name!r}): make "
            "the targets again with `winnow concepts DIR`"
        )


def _vocabulary_of(source: VocabularySource, folder: Path) -> Vocabulary | None:
    """The vocabulary in `folder` if it is of `source` and whole, with its labels."""
    try:
        there = Vocabulary.open(folder)
        Labels.open(folder, there)
    except InputError:
        return None
    return there if there.facts.source == source else None


def _choose(
    head: str, candidates: Candidates, stop: stop_words.StopList, source: VocabularySource
) -> Choice:
    config = source.config
    choice = choose(head, candidates, stop, min_count=config.min_count, most=config.most(head))
    if not choice.size:
        raise InputError(
            f"the selection {source.selection.name} has no {head} in {config.min_count} pairs or "
            f"more: {choice.num_candidates:,} candidates, the most frequent in {choice.highest:,} "
            f"pairs, {choice.num_stopped:,} frequent enough but on the stop list; lower min_count"
        )
    return choice


def _table(
    choices: dict[str, Choice], examples: dict[str, list[list[str]]], *, num_pairs: int
) -> pa.Table:
    """SCHEMA."""
    parts = []
    for head, choice in choices.items():
        index = [n if why is None else None for n, why in enumerate(choice.reasons)]
        columns = {
            "head": [head] * len(index),
            "index": index,
            "concept": choice.concepts,
            "count": choice.counts,
            "share": choice.counts / num_pairs,
            "examples": examples[head],
            "reason": choice.reasons,
        }
        parts.append(pa.table(columns, schema=SCHEMA))
    return pa.concat_tables(parts).combine_chunks()


def _numbers(choice: Choice, labelled: int, num_pairs: int) -> HeadNumbers:
    return HeadNumbers(
        size=choice.size,
        candidates=choice.num_candidates,
        rare=choice.num_rare,
        beyond=choice.num_beyond,
        stopped=choice.num_stopped,
        labelled=labelled / num_pairs,
        mean=int(choice.counts[: choice.size].sum()) / num_pairs,
    )


def _damaged(folder: Path, detail: str) -> InputError:
    return InputError(
        f"the vocabulary in {folder} is damaged ({detail}): make it again with "
        "`winnow concepts DIR`"
    )
