"""What `winnow concepts` takes and does: a teacher's concepts for every pair of a selection.

    OUT/features/TEACHER/              features of pictures, shared by all selections of OUT
    OUT/concepts/SELECTION/            vocabularies and labels
    OUT/concepts/SELECTION/TEACHER/    heads on the teacher's features, and the targets

Every step leaves facts of what it was made from, and is done again only where they differ.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa
import tyro

from winnow.concepts import KeptRows
from winnow.concepts.heads_facts import HEADS_VERSION, HeadsConfig, HeadsFacts
from winnow.concepts.measures import HeadReport
from winnow.concepts.vocabulary_facts import SelectionFacts, VocabularyConfig
from winnow.curation.annotators.parse import ParseCaptions
from winnow.curation.kept import KeptPairs, curated_folder, kept_pairs
from winnow.data.folder import claimed
from winnow.data.keyed import parse_uids
from winnow.data.selection import Selection
from winnow.recipes.concept_tables import heads_table, vocabulary_table
from winnow.recipes.data import selection_at
from winnow.types import InputError

if TYPE_CHECKING:
    from winnow.concepts.feature_store import Features
    from winnow.concepts.heads import Heads
    from winnow.concepts.labels import Labels
    from winnow.concepts.teacher import Teacher
    from winnow.concepts.vocabulary import Vocabulary
    from winnow.data.concept_targets import ConceptTargets
    from winnow.training.recipe import Recipe

Say = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Concepts:
    """What a frozen teacher sees in every kept pair, as targets for training."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """A selection's folder, or a curated folder that holds one."""
    teacher: str = "efficientnet-lite0"
    """A pretrained image model: `efficientnet-lite0` (its weights come in a package), `timm:NAME`,
    `timm:NAME@FILE`, `torchvision:NAME`, `open_clip:NAME:TAG`, or a run's folder."""
    image_size: int | None = None
    """Pixels that the teacher sees pictures at; default: what it was trained at."""
    top_k: int = 10
    """Concepts of each head that are kept of a picture."""
    features: Path | None = None
    """Where the teacher's features are kept; default: OUT/features/TEACHER."""
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    parse: ParseCaptions = field(default_factory=ParseCaptions)
    """How captions are parsed, where the selection's rules did not ask for it."""
    device: str = "auto"
    """Where teacher and heads compute (`cpu`, `cuda`); `auto` takes a GPU where there is one."""
    batch_size: int = 64
    """Pictures that the teacher sees at once."""
    workers: int | None = None
    """Processes that parse captions, threads that decode pictures; default one per core."""

    def __post_init__(self) -> None:
        for name in ("top_k", "batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value} of winnow concepts must be at least 1")


def run_concepts(options: Concepts, *, say: Say) -> Path:
    """Make the targets of a selection, or what of them is missing; their folder."""
    from winnow.concepts.features import refuse_another_teachers
    from winnow.concepts.teacher import folder_name, load_teacher
    from winnow.data.concept_targets import ConceptTargets

    selection = _open(options.data)
    home = concepts_folder(selection)
    # What is not at hand is said before hours of work.
    teacher = load_teacher(options.teacher, image_size=options.image_size, device=options.device)
    with claimed(home, doing="making concepts in"):
        name = folder_name(teacher)
        store = options.features or home.parents[1] / "features" / name
        refuse_another_teachers(store, teacher)
        seen = _look(options, teacher, selection, home, store, say=say)
        folder = home / name
        _sweep(folder)
        heads, report = _heads(seen, folder)
        say(heads_table(report))
        _write_targets(seen, heads, folder)
    targets = ConceptTargets.open(folder)
    size = (folder / "targets.npy").stat().st_size / max(1, len(targets))
    say(f"{len(targets):,} pictures, {size:.0f} bytes each, of both heads")
    return folder


def concepts_folder(selection: Selection) -> Path:
    """Where the vocabularies of a selection are, with a folder for every teacher's targets."""
    out = curated_folder(selection)
    return out.path / "concepts" / selection.directory.absolute().name


def only_targets(selection: Selection) -> Path:
    """The folder with a selection's targets. Raises InputError where there is none, or several."""
    from winnow.data.concept_targets import FACTS_FILE

    found = sorted(path.parent for path in concepts_folder(selection).glob(f"*/{FACTS_FILE}"))
    if not found:
        raise InputError(
            f"there are no concept targets for {selection.directory}; make them with "
            f"`winnow concepts {selection.directory} --teacher NAME`"
        )
    if len(found) > 1:
        raise InputError(
            f"{selection.directory} has the targets of several teachers; name one with "
            f"--concepts, of {', '.join(map(str, found))}"
        )
    return found[0]


def open_targets(
    recipe: "Recipe", selection: Selection, folder: Path | None
) -> "ConceptTargets | None":
    """The targets in `folder`, or the only ones that were made for `selection`.

    None where no folder is named and the recipe has no concept heads. Raises InputError where there
    are none, several to choose from, or those of a vocabulary that has been replaced.
    """
    from winnow.concepts.vocabulary import refuse_another_vocabulary
    from winnow.data.concept_targets import ConceptTargets

    if folder is None and recipe.concept_distillation is None:
        return None
    folder = folder or only_targets(selection)
    targets = ConceptTargets.open(folder)
    refuse_another_vocabulary(folder.parent, targets.facts.vocabulary, of=str(folder))
    return targets


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What heads learn from."""

    options: Concepts
    teacher: "Teacher"
    selection: Selection
    picture_ids: np.ndarray
    """uint64 (pairs,): the head of each picture's sha256."""
    vocabulary: "Vocabulary"
    labels: "Labels"
    features: "Features"

    @property
    def sizes(self) -> dict[str, int]:
        """Concepts of every head."""
        return {head: len(concepts) for head, concepts in self.vocabulary.concepts.items()}


def _open(data: str) -> Selection:
    folder = selection_at(data)
    if folder is None:
        raise InputError(
            f"{data} holds no selection: make one with `winnow curate SHARDS --out DIR`, and name "
            "DIR"
        )
    return Selection.open(folder.path)


def _kept_rows(pairs: KeptPairs) -> KeptRows:
    columns = ["uid", "sha256", "caption", "objects"]
    return lambda: (rows.select(columns) for rows in pairs.batches())


def _look(
    options: Concepts,
    teacher: "Teacher",
    selection: Selection,
    home: Path,
    store: Path,
    *,
    say: Say,
) -> _Seen:
    """The vocabularies in `home` and the features in `store`, as far as they are missing."""
    from winnow.concepts.features import compute_features
    from winnow.concepts.labels import Labels
    from winnow.concepts.vocabulary import build_vocabulary

    workers = options.workers or os.cpu_count() or 1
    pairs = kept_pairs(selection, options.parse, workers=workers, say=say)
    rows = _kept_rows(pairs)
    vocabulary = build_vocabulary(
        rows,
        home,
        config=options.vocabulary,
        selection=SelectionFacts(name=home.name, fingerprint=selection.fingerprint),
        parse=pairs.identity,
        num_rows=len(selection),
    )
    say(vocabulary_table(vocabulary))
    features = compute_features(
        teacher, selection, rows, store, batch_size=options.batch_size, workers=workers
    )
    return _Seen(
        options=options,
        teacher=teacher,
        selection=selection,
        picture_ids=_picture_ids(pairs),
        vocabulary=vocabulary,
        labels=Labels.open(home, vocabulary),
        features=features.of(rows),
    )


def _sweep(folder: Path) -> None:
    """Remove what a killed run has left; nobody else writes here."""
    for stray in folder.glob(".*"):
        shutil.rmtree(stray) if stray.is_dir() else stray.unlink()


def _heads(seen: _Seen, folder: Path) -> tuple["Heads", dict[str, HeadReport]]:
    """The heads in `folder`, trained where they are not there or are of something else."""
    from winnow.concepts.head_training import train_heads
    from winnow.concepts.heads import Heads
    from winnow.models.devices import usable_device

    facts = HeadsFacts(
        vocabulary=seen.vocabulary.fingerprint,
        labels=seen.vocabulary.facts.labels,
        selection=seen.selection.fingerprint,
        pictures=hashlib.sha256(seen.picture_ids.tobytes()).hexdigest(),
        teacher=seen.options.teacher,
        teacher_identity=seen.teacher.identity(),
        config=seen.options.heads,
        version=HEADS_VERSION,
        report={},
    )
    with suppress(InputError):  # damaged ones are made again
        known = HeadsFacts.of(folder)
        if known is not None and replace(known, report={}) == facts:
            return Heads.open(folder), known.report
    heads, report = train_heads(
        seen.features,
        {head: seen.labels.head(head) for head in seen.sizes},
        seen.picture_ids,
        sizes=seen.sizes,
        config=seen.options.heads,
        device=usable_device(seen.options.device),
    )
    heads.save(folder, replace(facts, report=report))
    return heads, report


def _picture_ids(pairs: KeptPairs) -> np.ndarray:
    """uint64: the head of each picture's sha256."""
    from winnow.concepts.feature_store import picture_keys

    return np.concatenate([picture_keys(rows)["f0"] for rows in pairs.batches()])


def _write_targets(seen: _Seen, heads: "Heads", folder: Path) -> None:
    """The targets in `folder`, made where they are not there or are of something else."""
    from winnow.concepts.heads import predict
    from winnow.data.concept_targets import ConceptTargets, TargetFacts, write_targets

    selection = seen.selection
    facts = TargetFacts(
        selection=selection.directory.name,
        selection_fingerprint=selection.fingerprint,
        vocabulary=seen.vocabulary.fingerprint,
        teacher=seen.options.teacher,
        teacher_identity=seen.teacher.identity(),
        heads=heads.fingerprint(),
        sizes=seen.sizes,
        top_k=seen.options.top_k,
    )
    with suppress(InputError):  # missing or damaged ones are made again
        if ConceptTargets.open(folder).facts == facts:
            return
    uids = selection.table["uid"]
    rows = _distinct(uids, seen.picture_ids)
    found = predict(heads, seen.features, seen.options.top_k, rows=rows)
    write_targets(
        folder, ((uids.take(pa.array(part)).to_pylist(), top) for part, top in found), facts
    )


def _distinct(uids: pa.ChunkedArray, picture_ids: np.ndarray) -> np.ndarray:
    """int64, ascending: the first row of every uid. Raises InputError where two pictures share one.

    Exact copies of a pair share theirs, and their picture.
    """
    keys = parse_uids(uids.combine_chunks(), where="the selection")
    order = np.lexsort((keys["f1"], keys["f0"]))  # stable: the first row of each comes first
    is_copy = keys[order][1:] == keys[order][:-1]
    is_other = picture_ids[order][1:] != picture_ids[order][:-1]
    clashing = order[1:][is_copy & is_other]
    if len(clashing):
        raise InputError(
            f"two different pictures have the uid {uids[int(clashing[0])].as_py()}: give every "
            "sample its own, or leave `uid` out of their json, so that it is made of the content"
        )
    return np.sort(order[np.append(True, ~is_copy)])
