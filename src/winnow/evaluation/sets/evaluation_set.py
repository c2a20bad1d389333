"""An evaluation set: one split of what is on disk, in any of the layouts that are known.

| layout | reader |
|---|---|
| clip-benchmark's webdataset tars | `webdataset_tars.py` |
| a folder a class (ImageFolder) | `image_folder.py` |
| COCO's and Flickr30k's json of captions | `karpathy.py` |
| pictures with statements, one of them true | `statement_lines.py` |
| winnow's shards and selections, as retrieval sets | `pairs.py` |

A split is read through once when it is opened, so that whatever is wrong with it is known before a
model runs; with `records`, once as long as its files stay as they are.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from winnow.evaluation.sets import image_folder, karpathy, pairs, statement_lines, webdataset_tars
from winnow.evaluation.sets.contents import (
    Contents,
    LabelKind,
    MissingSetError,
    Sample,
    Splits,
)
from winnow.evaluation.sets.reading import Findings, read_through
from winnow.evaluation.sets.records import keep, recall, states_of
from winnow.types import InputError

__all__ = [
    "EvaluationSet",
    "LabelKind",
    "MissingSetError",
    "Sample",
    "classnames_of",
    "open_set",
    "splits_of",
]

# The first that knows the folder reads it: what only one layout has comes before what several have.
_LAYOUTS: tuple[Callable[[Path], Splits], ...] = (
    pairs.selection_splits,
    webdataset_tars.splits,
    karpathy.splits,
    statement_lines.splits,
    pairs.shard_splits,
    pairs.pair_table_splits,
    image_folder.splits,
    pairs.table_splits,
)
_WANTED = (
    "a set is pictures in SPLIT/CLASS, of two classes or more; SPLIT/nshards.txt with tars, and "
    "classnames.txt; pictures with Karpathy's dataset_*.json, or with statements in SPLIT.jsonl; "
    "or shards and tables with captions"
)


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """One split of an evaluation set; `open_set` makes it."""

    name: str
    folder: Path
    split: str
    classnames: tuple[str, ...]
    """In label order; empty for a set without labels."""
    templates: tuple[str, ...]
    """Prompts, in which "{c}" stands for the class; empty for a set without labels."""
    label_kind: LabelKind
    has_captions: bool
    has_statements: bool
    num_samples: int
    fingerprint: str
    """As in Findings: of the samples, not of class names and prompts."""
    captions_each: tuple[int, int] = (0, 0)
    """The fewest and the most captions of a picture."""
    read: Callable[[], Iterator[Sample]]
    """Reads the pictures; see `samples`."""

    def samples(self) -> Iterator[Sample]:
        """Every picture in order, each checked; as often as wanted, one in memory at a time."""
        return self.read()


def open_set(
    path: Path | str,
    *,
    split: str = "test",
    name: str | None = None,
    records: Path | None = None,
) -> EvaluationSet:
    """Read and check a split of the evaluation set at `path`; `name` defaults to the path's last.

    `records` is a folder for what readings found. Raises MissingSetError where there is no set, or
    no such split of it, and InputError for one that is not whole.
    """
    contents = _contents(path, split)
    findings = _findings(contents, path, split, records)
    return EvaluationSet(
        name=name or _name(Path(os.path.abspath(path))),  # noqa: PTH100 - leaves links alone
        folder=contents.folder,
        split=split,
        classnames=contents.classnames,
        templates=contents.templates,
        label_kind=contents.label_kind,
        has_captions=findings.most_captions > 0,
        has_statements=findings.has_statements,
        num_samples=findings.num_samples,
        fingerprint=findings.fingerprint,
        captions_each=(findings.fewest_captions, findings.most_captions),
        read=contents.read,
    )


def splits_of(path: Path | str) -> tuple[str, ...]:
    """The splits that are present, such as ("test", "train"); not yet checked.

    Raises MissingSetError where there is no set.
    """
    return tuple(sorted(_find(path)))


def classnames_of(path: Path | str, *, split: str) -> tuple[str, ...]:
    """The class names of a split, in label order, before any picture is read.

    Raises MissingSetError as `open_set` does, and InputError where the set is seen to be broken.
    """
    return _contents(path, split).classnames


def _contents(path: Path | str, split: str) -> Contents:
    found = _find(path)
    if split not in found:
        raise MissingSetError(
            f"{path} has no split {split!r}: it has {', '.join(found)}; name one of these, or get "
            "the rest of the set"
        )
    contents = found[split]()
    if contents.label_kind == "single" and len(contents.classnames) == 1:
        raise InputError(
            f"{path} ({split}) looks like a set with labels, and all it has is the class "
            f"{contents.classnames[0]!r}, so that every answer would be right: {_WANTED}"
        )
    return contents


def _find(path: Path | str) -> Splits:
    if pairs.is_source_spec(str(path)):
        return pairs.source_splits(str(path))
    if not Path(path).exists():
        raise MissingSetError(f"{path} does not exist: mend the path, or put the set there")
    for splits in _LAYOUTS:
        if found := splits(Path(path)):
            return found
    raise MissingSetError(
        f"{path} holds no evaluation set (SPLIT/nshards.txt is missing, and so are class folders "
        "with pictures, lists of captions or statements, and shards): `winnow demo` builds the "
        "packaged ones; others are the data sets `clip-benchmark/wds_*` of the Hugging Face hub, "
        "each downloaded whole into a folder"
    )


def _name(path: Path) -> str:
    return path.stem if path.is_file() else path.name


def _findings(contents: Contents, path: Path | str, split: str, records: Path | None) -> Findings:
    place = os.path.abspath(path) if Path(path).exists() else str(path)  # noqa: PTH100 - as above
    states = {} if contents.files is None else states_of(contents.files)
    known = recall(records, place, split, states=states) if records and states else None
    if known is not None:
        return known
    sizes = {file: size for file, (size, _) in states.items()}
    findings = read_through(contents, what=f"{path} ({split})", sizes=sizes)
    if records and states:
        keep(records, place, split, states=states, findings=findings)
    return findings
