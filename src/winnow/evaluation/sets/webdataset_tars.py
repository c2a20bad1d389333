"""The webdataset layout of clip-benchmark, in which the papers' evaluation sets are published.

    FOLDER/classnames.txt                        one class a line, in label order
    FOLDER/zeroshot_classification_templates.txt one prompt a line, "{c}" stands for the class
    FOLDER/dataset_type.txt                      optional: classification, retrieval or multilabel
    FOLDER/SPLIT/nshards.txt                     how many tars
    FOLDER/SPLIT/0.tar ...                       KEY.png|jpg|jpeg|webp, and KEY.cls (the label, as
                                                 text), KEY.npy (multilabel: one 0 or 1 a class) or
                                                 KEY.txt (captions, one a line)

`KEY.cls` with the two lists makes zero-shot possible, `KEY.txt` makes retrieval possible; a set has
either or both, for all its pictures. Other members are passed over.

Source: LAION-AI/CLIP_benchmark 1.6.2, clip_benchmark/datasets/builder.py: build_wds_dataset.
"""

import io
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from winnow.data.files import mendable
from winnow.evaluation.sets.contents import Contents, LabelKind, Sample, Splits
from winnow.evaluation.sets.text_files import (
    CLASSNAMES_FILE,
    TEMPLATES_FILE,
    check_size,
    read_lines,
    read_templates,
    read_text,
)
from winnow.types import InputError

SHARDS_FILE = "nshards.txt"
TYPE_FILE = "dataset_type.txt"
PICTURE_SUFFIXES = ("webp", "png", "jpg", "jpeg")
"""In the order in which clip-benchmark looks for them."""
_WANTED = frozenset({*PICTURE_SUFFIXES, "cls", "npy", "txt"})
_TYPES = ("classification", "retrieval", "multilabel")


class _Labels(NamedTuple):
    """How the pictures of a set are labelled."""

    kind: LabelKind
    num_classes: int


def splits(path: Path) -> Splits:
    """The folders with tars that are counted, or numbered as if they were."""
    if not path.is_dir():
        return {}
    found = sorted(
        {file.parent for name in (SHARDS_FILE, "0.tar") for file in path.glob(f"*/{name}")}
    )
    return {folder.name: partial(_open, path, folder) for folder in found}


def _open(path: Path, folder: Path) -> Contents:
    kind = _kind(path / TYPE_FILE)
    classnames = read_lines(path / CLASSNAMES_FILE) if kind != "retrieval" else ()
    if kind == "multilabel" and not classnames:
        raise InputError(f"{path / CLASSNAMES_FILE} is missing or empty, but the set is multilabel")
    labels = _Labels("none", 0)
    if classnames:
        labels = _Labels("multi" if kind == "multilabel" else "single", len(classnames))
    shards = _shards(folder)
    lists = (path / name for name in (CLASSNAMES_FILE, TEMPLATES_FILE, TYPE_FILE))
    files = (*(file for file in lists if file.is_file()), folder / SHARDS_FILE, *shards)
    return Contents(
        folder=path,
        files=tuple(map(str, files)),
        read=partial(_read, shards, labels, has_labels=kind != "retrieval"),
        label_kind=labels.kind,
        classnames=classnames,
        templates=read_templates(path / TEMPLATES_FILE) if classnames else (),
    )


def _kind(path: Path) -> str:
    word = read_text(path).strip().lower() if path.is_file() else _TYPES[0]
    if word not in _TYPES:
        raise InputError(f"{path} says {word[:20]!r}, which is none of {', '.join(_TYPES)}")
    return word


def _shards(folder: Path) -> tuple[Path, ...]:
    counted = folder / SHARDS_FILE
    if not counted.is_file():
        raise InputError(f"{counted} is missing: it holds the number of tars, counted from 0.tar")
    text = read_text(counted).strip()
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
        raise InputError(f"{counted} should hold the number of tars, not {text[:20]!r}")
    shards = tuple(folder / f"{number}.tar" for number in range(int(text)))
    for shard in shards:
        if not shard.is_file():
            raise InputError(f"{shard} is missing: {SHARDS_FILE} counts {text} tars")
    uncounted = folder / f"{len(shards)}.tar"
    if uncounted.is_file():
        raise InputError(
            f"{uncounted} is not counted: {counted} says {text}; write the number of tars there, "
            "or delete what does not belong to the set"
        )
    return shards


def _read(shards: tuple[Path, ...], labels: _Labels, *, has_labels: bool) -> Iterator[Sample]:
    for shard in shards:
        for key, parts in _groups(shard):
            where = f"{shard}, sample {key}"
            image = next((parts[name] for name in PICTURE_SUFFIXES if name in parts), None)
            if image is None:
                raise InputError(f"{where} has no picture (png, jpg, jpeg or webp)")
            own = _labels(parts, labels, where=where) if has_labels else ()
            yield Sample(key, image, own, _captions(parts.get("txt", b""), where=where))


def _groups(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Members of one sample stand together in the tar: (key, bytes by suffix in lower case)."""
    seen: set[str] = set()
    key, parts = "", dict[str, bytes]()
    with mendable(str(shard)):
        _check_end(shard)
    try:
        with mendable(str(shard)), tarfile.open(shard, "r:") as archive:
            for member in archive:
                name, suffix = _split_name(member)
                if not name:
                    continue
                if name != key:
                    if parts:
                        yield key, parts
                    key, parts = name, {}
                    if key in seen:
                        raise InputError(f"{shard}, sample {key} occurs twice, or not in one piece")
                    seen.add(key)
                if suffix in _WANTED:
                    check_size(member.size, where=f"{shard}, sample {key}")
                data = archive.extractfile(member) if suffix in _WANTED else None
                parts[suffix] = data.read() if data else b""
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{shard} is not a whole, uncompressed tar: {error}") from error
    if parts:
        yield key, parts


def _split_name(member: tarfile.TarInfo) -> tuple[str, str]:
    """Key and suffix in lower case; no key for what is no sample's, a folder or a README."""
    folder, slash, file = member.name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    if not (stem and dot and member.isfile()) or member.issparse():
        return "", ""
    return folder + slash + stem, suffix.lower()


def _check_end(shard: Path) -> None:
    """A tar ends in two blocks of zeros; nothing else tells one that is cut between samples."""
    with shard.open("rb") as file:
        file.seek(-min(file.seek(0, 2), 2 * tarfile.BLOCKSIZE), 2)
        if file.read() != bytes(2 * tarfile.BLOCKSIZE):
            raise InputError(f"{shard} is not a whole, uncompressed tar: its end is missing")


def _labels(parts: dict[str, bytes], labels: _Labels, *, where: str) -> tuple[int, ...]:
    if labels.kind == "multi":
        return _hot(parts.get("npy"), num_classes=labels.num_classes, where=where)
    return _label(parts.get("cls"), num_classes=labels.num_classes, where=where)


def _label(text: bytes | None, *, num_classes: int, where: str) -> tuple[int, ...]:
    if text is None:
        if num_classes:
            raise InputError(f"{where} has no label (.cls), but {CLASSNAMES_FILE} lists classes")
        return ()
    if not num_classes:
        raise InputError(f"{where} has a label (.cls), but {CLASSNAMES_FILE} is missing or empty")
    word = text.decode(errors="replace").strip()
    if not (word.isascii() and word.isdecimal()) or int(word) >= num_classes:
        raise InputError(
            f"{where} has label {word[:20]!r}, which is none of the {num_classes} classes that "
            f"{CLASSNAMES_FILE} lists (counted from 0)"
        )
    return (int(word),)


def _hot(data: bytes | None, *, num_classes: int, where: str) -> tuple[int, ...]:
    """The classes whose entry of a multi-hot vector is 1."""
    if data is None:
        raise InputError(f"{where} has no labels (.npy), but {TYPE_FILE} says multilabel")
    try:
        hot_K = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:  # a header may claim any size
        raise InputError(f"{where} has labels (.npy) that cannot be read: {error}") from error
    if hot_K.shape != (num_classes,):
        raise InputError(
            f"{where} has labels (.npy) of shape {hot_K.shape}, but {CLASSNAMES_FILE} lists "
            f"{num_classes} classes"
        )
    if hot_K.dtype.kind not in "buif" or not np.isin(hot_K, (0, 1)).all():
        raise InputError(f"{where} has labels (.npy) that are not 0 or 1")
    return tuple(np.flatnonzero(hot_K).tolist())


def _captions(text: bytes, *, where: str) -> tuple[str, ...]:
    try:
        lines = text.decode().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{where} has a caption (.txt) that is not UTF-8: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())
