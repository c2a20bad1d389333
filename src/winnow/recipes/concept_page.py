"""What the page shows of concepts: vocabularies, heads, and some pairs seen by everybody."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from winnow.concepts import HEADS
from winnow.concepts.heads_facts import HeadsFacts
from winnow.concepts.measures import HeadReport
from winnow.config import read_json
from winnow.data.selection import KeptSample, Selection
from winnow.data.sources import open_reader
from winnow.recipes.concepts import concepts_folder
from winnow.reports.concepts import (
    CalibrationBin,
    ConceptCount,
    ConceptSample,
    ConceptSection,
    ConceptShare,
    HeadFacts,
    HeadMeasures,
    Recall,
    SampleHead,
    StoppedConcept,
)
from winnow.reports.runs import Run
from winnow.types import InputError

if TYPE_CHECKING:
    from winnow.concepts.labels import Labels
    from winnow.concepts.vocabulary import Vocabulary
    from winnow.data.concept_targets import ConceptTargets, SparseTargets

NUM_SAMPLES = 24
CHOSEN = (
    "Chosen by a hash of their uids among the pairs whose captions name a concept, so that nobody "
    "picked them; the teacher's heads have learned from most of them."
)


def concept_section(
    selection: Path | None, runs: Sequence[Run], folder: Path | None
) -> ConceptSection | None:
    """What a teacher, whose targets are in `folder`, and the runs with heads see in a selection.

    Without a folder, the only targets of the selection; None where it has not just one teacher's.
    Raises InputError where what is there is damaged or another selection's.
    """
    from winnow.concepts.labels import Labels
    from winnow.concepts.vocabulary import Vocabulary
    from winnow.data.concept_targets import ConceptTargets

    folder = folder or _only_targets(selection)
    if folder is None or selection is None:
        return None
    targets, opened = ConceptTargets.open(folder), Selection.open(selection)
    vocabulary = Vocabulary.open(folder.parent)
    found = (targets.facts.selection_fingerprint, targets.facts.vocabulary)
    if found != (opened.fingerprint, vocabulary.fingerprint):
        raise InputError(
            f"the targets in {folder} are of the selection {targets.facts.selection!r} as it was "
            f"when they were made, not of {selection} as it is now: make them again with "
            f"`winnow concepts {selection}`"
        )
    report = HeadsFacts.of(folder)
    students, problems = _students(runs, vocabulary)
    labels = Labels.open(folder.parent, vocabulary)
    return ConceptSection(
        selection=targets.facts.selection,
        teacher=targets.facts.teacher,
        teacher_identity=targets.facts.teacher_identity,
        vocabulary=vocabulary.fingerprint,
        k=targets.facts.top_k,
        heads=tuple(
            _head_facts(head, vocabulary, report.report.get(head) if report else None)
            for head in HEADS
        ),
        samples=_samples(opened, vocabulary, labels, targets, students),
        chosen=CHOSEN,
        problems=tuple(problems),
    )


def _only_targets(selection: Path | None) -> Path | None:
    from winnow.data.concept_targets import FACTS_FILE

    if selection is None or selection.absolute().parent.name != "selections":
        return None
    home = concepts_folder(Selection.open(selection))
    found = sorted(path.parent for path in home.glob(f"*/{FACTS_FILE}"))
    return found[0] if len(found) == 1 else None


def _head_facts(head: str, vocabulary: "Vocabulary", report: HeadReport | None) -> HeadFacts:
    rows = [row for row in vocabulary.table.to_pylist() if row["head"] == head]
    kept = [_count(row) for row in rows if row["index"] is not None]
    numbers = vocabulary.facts.heads[head]
    return HeadFacts(
        head=head,
        size=numbers.size,
        min_count=vocabulary.facts.source.config.min_count,
        pairs_with=numbers.labelled,
        most_frequent=tuple(kept),
        rarest=tuple(kept[::-1]),
        stopped=tuple(
            StoppedConcept(concept=row["concept"], count=row["count"], reason=row["reason"])
            for row in rows
            if row["reason"] is not None
        ),
        measures=None if report is None else _measures(report),
    )


def _count(row: dict) -> ConceptCount:
    return ConceptCount(
        concept=row["concept"], count=row["count"], example=next(iter(row["examples"]), "")
    )


def _measures(report: HeadReport) -> HeadMeasures:
    return HeadMeasures(
        num_held_out=report.held_out_with_concept,
        recall=tuple(
            Recall(k=one.k, value=one.value, low=one.low, high=one.high, majority=one.majority)
            for one in report.recall
        ),
        cross_entropy=report.cross_entropy,
        cross_entropy_of_frequencies=report.cross_entropy_of_frequencies,
        calibration=tuple(
            CalibrationBin(probability=one.mean_probability, mass=one.mean_target, count=one.count)
            for one in report.calibration
            if one.count
        ),
        calibration_error=report.calibration_error,
    )


def _students(
    runs: Sequence[Run], vocabulary: "Vocabulary"
) -> tuple[dict[str, "_Student"], list[str]]:
    """The runs whose heads are over this vocabulary, by name; and of others, why they are not."""
    from winnow.training.run import HEADS_FILE

    students, problems = {}, []
    for run in runs:
        data = run.folder / "data.json"
        if not (run.folder / HEADS_FILE).is_file() or not data.is_file():
            continue
        concepts = read_json(data).get("concepts") or {}
        if concepts.get("vocabulary") == vocabulary.fingerprint:
            students[run.name] = _Student(run.folder)
        else:
            problems.append(f"{run.name} has heads over another vocabulary, so it is not shown.")
    return students, problems


class _Student:
    """A finished run with its heads."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file

        from winnow.concepts.heads import Heads, LinearHead
        from winnow.models.encoder import load_encoder
        from winnow.training.run import HEADS_FILE

        tensors = load_file(folder / HEADS_FILE)
        self._heads = Heads(
            {h: LinearHead(tensors[f"{h}.weight"], tensors[f"{h}.bias"]) for h in HEADS}
        )
        self._encoder = load_encoder(str(folder))

    def probabilities(self, pictures: Sequence[bytes]) -> dict[str, np.ndarray]:
        """(N, V) of every head."""
        import torch

        from winnow.data.images import evaluation_view

        views = [evaluation_view(data, size=self._encoder.image_size) for data in pictures]
        embedding_ND = self._encoder.encode_image(torch.from_numpy(np.stack(views)))
        return self._heads.probabilities(embedding_ND.numpy())


def _samples(
    selection: Selection,
    vocabulary: "Vocabulary",
    labels: "Labels",
    targets: "ConceptTargets",
    students: dict[str, _Student],
) -> tuple[ConceptSample, ...]:
    rows = _chosen(selection, labels)
    samples = selection.samples(rows)
    if not samples:
        return ()
    pictures = [_picture(sample, selection) for sample in samples]
    sparse = targets.of([sample.uid for sample in samples])
    seen = {name: student.probabilities(pictures) for name, student in students.items()}
    named = {head: _named(labels, head, rows) for head in HEADS}
    return tuple(
        ConceptSample(
            caption=sample.caption,
            image=pictures[place],
            key=sample.address.key,
            shard=sample.shard,
            heads=tuple(
                _sample_head(
                    head,
                    vocabulary.concepts[head],
                    named[head][place],
                    sparse[head],
                    {name: found[head][place] for name, found in seen.items()},
                    place,
                )
                for head in HEADS
            ),
        )
        for place, sample in enumerate(samples)
    )


def _chosen(selection: Selection, labels: "Labels") -> np.ndarray:
    """int64: NUM_SAMPLES rows that name a concept, by a hash of their uids."""
    counts = sum(np.diff(labels.head(head).offsets_N1) for head in HEADS)
    naming = np.flatnonzero(counts)
    uids = selection.table["uid"].take(pa.array(naming)).to_pylist()
    order = sorted(range(len(naming)), key=lambda n: hashlib.blake2b(uids[n].encode()).digest())
    return naming[np.array(order[:NUM_SAMPLES], dtype=np.int64)]


def _picture(sample: KeptSample, selection: Selection) -> bytes:
    with open_reader(sample.shard, columns=selection.columns) as reader:
        return reader.read(sample.address)


def _named(labels: "Labels", head: str, rows: np.ndarray) -> list[np.ndarray]:
    own = labels.head(head)
    return [own.values[own.offsets_N1[row] : own.offsets_N1[row + 1]] for row in rows]


def _sample_head(
    head: str,
    concepts: Sequence[str],
    named: np.ndarray,
    sparse: "SparseTargets",
    students: dict[str, np.ndarray],
    place: int,
) -> SampleHead:
    index, mass = sparse.index_BK[place].tolist(), sparse.mass_BK[place].tolist()
    asked = {*index, *named.tolist()}
    return SampleHead(
        head=head,
        caption=tuple(concepts[one] for one in named),
        teacher=tuple(
            ConceptShare(concepts[one], share) for one, share in zip(index, mass, strict=True)
        ),
        students={
            name: tuple(
                ConceptShare(concepts[one], float(shares[one]))
                for one in sorted({*asked, *np.argsort(-shares)[:10].tolist()})
            )
            for name, shares in students.items()
        },
    )
