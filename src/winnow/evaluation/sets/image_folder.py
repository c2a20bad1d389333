"""ImageFolder: a folder a class, as torchvision reads it, with names and prompts in text files.

    FOLDER/SPLIT/CLASS/*.jpg ...                 or FOLDER/CLASS/*.jpg, whose one split is "test"
    FOLDER/classnames.txt                        optional; see below
    FOLDER/zeroshot_classification_templates.txt optional; else "a photo of a {c}."

Labels count the class folders of all splits, sorted by name. `classnames.txt` has a name a line in
that order, or lines of folder, tab and name. The latter may list classes that have no folder here:
then labels are line numbers, which is how ImageNet-R and ImageNet-A keep ImageNet's labels.

Files are read in the order of their class folders, then of their names. What has no picture's
suffix is passed over.
"""

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from winnow.data.files import mendable
from winnow.data.tar import PICTURE_EXTENSIONS
from winnow.evaluation.sets.contents import Contents, Sample, Splits
from winnow.evaluation.sets.text_files import (
    CLASSNAMES_FILE,
    TEMPLATES_FILE,
    read_lines,
    read_picture,
    read_templates,
)
from winnow.types import InputError

ONLY_SPLIT = "test"
DEFAULT_TEMPLATES = ("a photo of a {c}.",)
PICTURE_SUFFIXES = frozenset(f".{suffix}" for suffix in (*PICTURE_EXTENSIONS, "ppm", "pgm"))


def splits(path: Path) -> Splits:
    """Those found in `path`; its one split where its folders hold pictures themselves."""
    if not path.is_dir():
        return {}
    folders = _folders(path)
    if any(_has_pictures(folder) for folder in folders):
        return {ONLY_SPLIT: partial(_open, path, path, (path,))}
    found = tuple(folder for folder in folders if any(map(_has_pictures, _folders(folder))))
    return {folder.name: partial(_open, path, folder, found) for folder in found}


def _open(path: Path, split: Path, all_splits: tuple[Path, ...]) -> Contents:
    found = sorted({folder.name for one in all_splits for folder in _folders(one)})
    label_of, classnames = _classes(path / CLASSNAMES_FILE, found)
    pictures = tuple(
        (f"{folder.name}/{name}", label_of[folder.name])
        for folder in _folders(split)
        for name in _pictures(folder)
    )
    lists = [file for n in (CLASSNAMES_FILE, TEMPLATES_FILE) if (file := path / n).is_file()]
    has_templates = (path / TEMPLATES_FILE).is_file()
    return Contents(
        folder=path,
        files=(*map(str, lists), *(f"{split}/{key}" for key, _ in pictures)),
        read=partial(_read, split, pictures),
        num_samples=len(pictures),
        label_kind="single",
        classnames=classnames,
        templates=read_templates(path / TEMPLATES_FILE) if has_templates else DEFAULT_TEMPLATES,
    )


def _read(split: Path, pictures: tuple[tuple[str, int], ...]) -> Iterator[Sample]:
    for key, label in pictures:
        yield Sample(key, read_picture(f"{split}/{key}", where=str(split)), (label,))


def _classes(path: Path, found: list[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """The label of every class folder, and the names in label order."""
    lines = read_lines(path)
    if not lines:
        return {name: label for label, name in enumerate(found)}, tuple(found)
    if any("\t" in line for line in lines):
        return _listed_classes(path, lines, found)
    if len(lines) != len(found):
        raise InputError(
            f"{path} has {len(lines)} names for {len(found)} class folders: one a line in the "
            "order of the sorted folders, or lines of folder, tab and name"
        )
    return {name: label for label, name in enumerate(found)}, lines


def _listed_classes(
    path: Path, lines: tuple[str, ...], found: list[str]
) -> tuple[dict[str, int], tuple[str, ...]]:
    folders, names = [], []
    for number, line in enumerate(lines, start=1):
        folder, tab, name = line.partition("\t")
        if not tab:
            raise InputError(f"{path} line {number} has no tab between folder and name: {line!r}")
        folders.append(folder.strip())
        names.append(name.strip())
    folder, count = Counter(folders).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path} lists the folder {folder!r} {count} times: once each")
    unlisted = sorted(set(found) - set(folders))
    if unlisted:
        raise InputError(
            f"{path} lists {len(folders)} folders, but not {unlisted[0]!r} "
            f"({len(unlisted)} class folders are not listed): add a line for each"
        )
    return {folder: label for label, folder in enumerate(folders)}, tuple(names)


def _pictures(folder: Path) -> list[str]:
    """File names, sorted. Raises InputError where there is none, or a folder among them."""
    entries = _entries(folder)
    for entry in entries:
        if entry.is_dir():
            raise InputError(
                f"{entry.path} is a folder within a class folder, and its pictures would not be "
                "seen: move them up, or the folder away"
            )
    names = sorted(entry.name for entry in entries if _is_picture(entry))
    if not names:
        raise InputError(f"{folder} holds no picture: fill this class folder, or delete it")
    return names


def _has_pictures(folder: Path) -> bool:
    return any(_is_picture(entry) and entry.is_file() for entry in _entries(folder))


def _is_picture(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122 - a name


def _folders(path: Path) -> list[Path]:
    """The folders directly in `path`, but for hidden ones, sorted by name."""
    names = [entry.name for entry in _entries(path) if entry.is_dir()]
    return [path / name for name in sorted(names) if not name.startswith(".")]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with mendable(str(folder)), os.scandir(folder) as entries:
        return list(entries)
