"""What the page shows of concepts: vocabularies, heads, and some pairs seen by everybody."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from winnow.concepts import HEADS
from winnow.concepts.heads_facts import SavedHeads
from winnow.concepts.measures import HeadReport
from winnow.config import read_json
from winnow.data.images import ImageError, View, evaluation_view
from winnow.data.selection import KeptSample, Selection
from winnow.data.sources import open_reader
from winnow.recipes.concepts import only_targets
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
from winnow.reports.curation_sample import UNREADABLE
from winnow.reports.runs import Run
from winnow.types import InputError

if TYPE_CHECKING:
    from winnow.concepts.heads import Heads
    from winnow.concepts.labels import HeadLabels, Labels
    from winnow.concepts.vocabulary import Vocabulary
    from winnow.data.concept_targets import ConceptTargets, SparseTargets

NUM_SAMPLES = 24
CHOSEN = (
    "Drawn by a generator that starts from the selection's fingerprint, among the pairs whose "
    "captions name a concept, so that nobody picked them; the teacher's heads have learned from "
    "all that were not held out."
)


def section_or_problem(
    selection: Path | None, runs: Sequence[Run], folder: Path | None
) -> tuple[ConceptSection | None, str]:
    """The section, or a sentence that says why there is none.

    Raises InputError where `folder`, which was asked for, cannot be shown.
    """
    if selection is None and folder is not None:
        raise InputError(f"the targets in {folder} are of a selection: name it with --selection")
    if selection is None:
        return None, (
            "No selection was given, so nothing is known of what a teacher sees in the pictures."
        )
    if folder is not None:
        return concept_section(selection, runs, folder), ""
    try:
        return concept_section(selection, runs, None), ""
    except UNREADABLE as error:
        return None, f"Concepts are not shown: {error}."


def concept_section(selection: Path, runs: Sequence[Run], folder: Path | None) -> ConceptSection:
    """What a teacher, whose targets are in `folder`, and the runs with heads see in a selection.

    Without a folder, the only targets of the selection. A run whose heads cannot be used is among
    the problems. Raises InputError where there are no targets or those of several teachers, and
    where what is there is damaged or another selection's.
    """
    from winnow.concepts.labels import Labels
    from winnow.data.concept_targets import ConceptTargets

    opened = Selection.open(selection)
    # What is beside it is found by its parent.
    targets = ConceptTargets.open((folder or only_targets(opened)).absolute())
    vocabulary = _vocabulary(targets, opened)
    report = _report(targets)
    pairs = _Pairs.drawn(opened, Labels.open(targets.folder.parent, vocabulary))
    students, problems = _students(runs, vocabulary, pairs)
    return ConceptSection(
        selection=targets.facts.selection,
        teacher=targets.facts.teacher,
        teacher_identity=targets.facts.teacher_identity,
        vocabulary=vocabulary.fingerprint,
        k=targets.facts.top_k,
        heads=tuple(_head_facts(head, vocabulary, report.get(head)) for head in HEADS),
        samples=_samples(pairs, vocabulary, targets, students),
        chosen=CHOSEN,
        problems=tuple(problems),
    )


def _vocabulary(targets: "ConceptTargets", selection: Selection) -> "Vocabulary":
    """The vocabulary beside the targets. Raises InputError unless all three belong together."""
    from winnow.concepts.vocabulary import Vocabulary, refuse_another_vocabulary

    home, facts = targets.folder.parent, targets.facts
    _refuse_another_selection(
        f"the targets in {targets.folder}", facts.selection, facts.selection_fingerprint, selection
    )
    refuse_another_vocabulary(home, facts.vocabulary, of=str(targets.folder))
    vocabulary = Vocabulary.open(home)
    # Another state of a selection can give the same concepts, and its labels are of other rows.
    source = vocabulary.facts.source.selection
    _refuse_another_selection(
        f"the vocabulary in {home}", source.name, source.fingerprint, selection
    )
    return vocabulary


def _refuse_another_selection(
    subject: str, name: str, fingerprint: str, selection: Selection
) -> None:
    if fingerprint != selection.fingerprint:
        raise InputError(
            f"the selection {name!r} behind {subject} had the fingerprint {fingerprint[:12]}, and "
            f"{selection.directory} has {selection.fingerprint[:12]} now: make them again with "
            f"`winnow concepts {selection.directory}`"
        )


def _report(targets: "ConceptTargets") -> dict[str, HeadReport]:
    """What the heads of these targets are worth; empty where they are no longer beside them."""
    saved = SavedHeads.of(targets.folder)
    if saved is None or saved.fingerprint != targets.facts.heads:
        return {}
    return saved.facts.report


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


class _Pairs(NamedTuple):
    """The pairs that are shown."""

    samples: list[KeptSample]
    pictures: list[bytes]
    """As they are encoded."""
    named: dict[str, list[np.ndarray]]
    """By head, what each caption names: positions in the vocabulary."""

    @classmethod
    def drawn(cls, selection: Selection, labels: "Labels") -> "_Pairs":
        """NUM_SAMPLES of those that name a concept, or all; see CHOSEN."""
        own = {head: labels.head(head) for head in HEADS}
        naming = np.flatnonzero(sum(np.diff(one.offsets_N1) for one in own.values()))
        random = np.random.default_rng(int(selection.fingerprint[:16], 16))
        rows = random.choice(naming, size=min(NUM_SAMPLES, len(naming)), replace=False)
        rows.sort()
        samples = selection.samples(rows)
        return cls(
            samples=samples,
            pictures=[_picture(sample, selection) for sample in samples],
            named={head: _named(one, rows) for head, one in own.items()},
        )

    def views(self, view: View) -> np.ndarray:
        """uint8 (N, 3, size, size). Raises InputError where a picture cannot be read."""
        found = []
        for sample, picture in zip(self.samples, self.pictures, strict=True):
            try:
                found.append(evaluation_view(picture, view=view))
            except ImageError as error:
                raise InputError(
                    f"the picture {sample.address.key} of {sample.shard} cannot be read any more "
                    f"({error}); curate the shard again"
                ) from error
        return np.stack(found)


def _picture(sample: KeptSample, selection: Selection) -> bytes:
    with open_reader(sample.shard, columns=selection.columns) as reader:
        return reader.read(sample.address)


def _named(own: "HeadLabels", rows: np.ndarray) -> list[np.ndarray]:
    return [own.values[own.offsets_N1[row] : own.offsets_N1[row + 1]] for row in rows]


def _students(
    runs: Sequence[Run], vocabulary: "Vocabulary", pairs: _Pairs
) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """What runs with heads see in the pairs, (N, V) by run and head; and where not, why not."""
    from winnow.training.run import HEADS_FILE

    seen, problems = {}, []
    for run in runs:
        if not (run.folder / HEADS_FILE).is_file():
            continue
        try:
            seen[run.name] = _seen_by(run.folder, vocabulary, pairs)
        except InputError as error:
            problems.append(f"What {run.name} has learned of concepts is not shown: {error}.")
    return seen, problems


def _seen_by(run: Path, vocabulary: "Vocabulary", pairs: _Pairs) -> dict[str, np.ndarray]:
    """(N, V) probabilities by head. Raises InputError where the run's heads cannot be used."""
    import torch

    from winnow.models.encoder import load_encoder
    from winnow.training.run import DATA_FILE, HEADS_FILE

    if _learned(read_json(run / DATA_FILE)) != vocabulary.fingerprint:
        raise InputError("its heads are over another vocabulary than the targets shown")
    encoder = load_encoder(str(run))
    views_NCHW = torch.from_numpy(pairs.views(encoder.view))
    embedding_ND = encoder.encode_image(views_NCHW)
    sizes = {head: len(concepts) for head, concepts in vocabulary.concepts.items()}
    heads = _open_heads(run / HEADS_FILE, sizes, width=embedding_ND.shape[1])
    return heads.probabilities(embedding_ND.numpy())


def _learned(data: object) -> object:
    """The fingerprint of the vocabulary that a run learned; `data` is its data.json."""
    concepts = data.get("concepts") if isinstance(data, dict) else None
    return concepts.get("vocabulary") if isinstance(concepts, dict) else None


def _open_heads(path: Path, sizes: dict[str, int], *, width: int) -> "Heads":
    """The heads of a run. Raises InputError unless they are of these sizes and this width."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from winnow.concepts.heads import Heads, LinearHead

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is damaged ({error}); train again in another folder") from error
    wanted: dict[str, tuple[int, ...]] = {}
    for head, size in sizes.items():
        wanted |= {f"{head}.weight": (size, width), f"{head}.bias": (size,)}
    for name, shape in wanted.items():
        found = tuple(tensors[name].shape) if name in tensors else "none"
        if found != shape:
            raise InputError(
                f"{path} must have {name} of the shape {shape}, and it has {found}; train again "
                "in another folder"
            )
    return Heads(
        {head: LinearHead(tensors[f"{head}.weight"], tensors[f"{head}.bias"]) for head in sizes}
    )


def _samples(
    pairs: _Pairs,
    vocabulary: "Vocabulary",
    targets: "ConceptTargets",
    students: dict[str, dict[str, np.ndarray]],
) -> tuple[ConceptSample, ...]:
    sparse = targets.of([sample.uid for sample in pairs.samples])
    return tuple(
        ConceptSample(
            caption=sample.caption,
            image=pairs.pictures[place],
            key=sample.address.key,
            shard=sample.shard,
            heads=tuple(
                _sample_head(
                    head,
                    vocabulary.concepts[head],
                    pairs.named[head][place],
                    sparse[head],
                    {name: found[head][place] for name, found in students.items()},
                    place,
                )
                for head in HEADS
            ),
        )
        for place, sample in enumerate(pairs.samples)
    )


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
