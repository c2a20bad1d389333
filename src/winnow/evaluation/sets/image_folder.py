"""ImageFolder: a folder a class, as torchvision reads it, with names and prompts in text files.

    FOLDER/SPLIT/CLASS/*.jpg ...                 or FOLDER/CLASS/*.jpg, whose one split is "test"
    FOLDER/classnames.txt                        optional; see below
    FOLDER/zeroshot_classification_templates.txt optional; else "a photo of a {c}."

Labels count the class folders of the test, validation and training splits together, sorted by name;
what only a split of another name has comes after these, when that split is opened.
`classnames.txt` has a name a line in that order, or lines of folder, tab and name. The latter may
list classes that have no folder here: then labels are line numbers, which is how ImageNet-R and
ImageNet-A keep ImageNet's labels. Without it folders are the names, and synsets of ImageNet's 1,000
classes have OpenAI's names.

Files are read in the order of their class folders, then of their names. What has no picture's
suffix is passed over.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from winnow.data.files import mendable
from winnow.data.tar import PICTURE_EXTENSIONS
from winnow.evaluation.sets.contents import SPLIT_NAMES, Contents, Sample, Splits
from winnow.evaluation.sets.imagenet_names import imagenet_names, is_synset
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
PICTURE_SUFFIXES = frozenset(f".{suffix}" for suffix in (*PICTURE_EXTENSIONS, "pgm"))


def splits(path: Path) -> Splits:
    """Those found in `path`; its one split where its folders hold pictures themselves."""
    if not path.is_dir():
        return {}
    folders = _folders(path)
    if any(_has_pictures(folder) for folder in folders):
        return {ONLY_SPLIT: partial(_open, path, path, (path,))}
    found = tuple(folder for folder in folders if any(map(_has_pictures, _folders(folder))))
    counted = tuple(folder for folder in found if folder.name in SPLIT_NAMES)
    return {folder.name: partial(_open, path, folder, counted) for folder in found}


def _open(path: Path, split: Path, counted: tuple[Path, ...]) -> Contents:
    label_of, classnames = _classes(path / CLASSNAMES_FILE, split, counted)
    pictures = tuple(
        (f"{folder.name}/{name}", label_of[folder.name])
        for folder in _folders(split)
        for name in _pictures(folder)
    )
    lists = [file for n in (CLASSNAMES_FILE, TEMPLATES_FILE) if (file := path / n).is_file()]
    has_templates = (path / TEMPLATES_FILE).is_file()
    # Another class there is another label here; a folder changes with the names of those in it.
    others = [str(folder) for folder in counted if folder != split]
    return Contents(
        folder=path,
        files=(*map(str, lists), *others, *(f"{split}/{key}" for key, _ in pictures)),
        read=partial(_read, split, pictures),
        num_samples=len(pictures),
        label_kind="single",
        classnames=classnames,
        templates=read_templates(path / TEMPLATES_FILE) if has_templates else DEFAULT_TEMPLATES,
    )


def _read(split: Path, pictures: tuple[tuple[str, int], ...]) -> Iterator[Sample]:
    for key, label in pictures:
        yield Sample(key, read_picture(f"{split}/{key}", where=str(split)), (label,))


def _classes(
    path: Path, split: Path, counted: tuple[Path, ...]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The label of every class folder, and the names in label order."""
    by_split = [{folder.name for folder in _folders(one)} for one in counted]
    shared = set().union(*by_split)
    own = {folder.name for folder in _folders(split)} - shared
    found = [*sorted(shared), *sorted(own)]
    lines = read_lines(path)
    if not lines:
        _warn_of_uneven(split, by_split)
        return {name: label for label, name in enumerate(found)}, _names_of_folders(path, found)
    if any("\t" in line for line in lines):
        return _listed_classes(path, lines, found)
    if len(lines) != len(found):
        raise InputError(
            f"{path} has {len(lines)} names for {len(found)} class folders: one a line in the "
            "order of the sorted folders, or lines of folder, tab and name"
        )
    return {name: label for label, name in enumerate(found)}, lines


def _warn_of_uneven(split: Path, by_split: list[set[str]]) -> None:
    everywhere = set.intersection(*by_split) if by_split else set()
    uneven = sorted(set().union(*by_split) - everywhere)
    if uneven:
        shown = ", ".join(map(repr, uneven[:4])) + (", ..." if len(uneven) > 4 else "")
        warnings.warn(
            f"{split.parent} has class folders that not every split has ({len(uneven)}: {shown}), "
            "and each counts as a class: mend those that are one class under two names",
            stacklevel=2,
        )


def _names_of_folders(path: Path, found: list[str]) -> tuple[str, ...]:
    if not all(map(is_synset, found)):
        return tuple(found)
    names = imagenet_names()
    unknown = [folder for folder in found if folder not in names]
    if unknown:
        raise InputError(
            f"{path} is missing, and class folders are called by synsets that are none of "
            f"ImageNet's 1,000, such as {unknown[0]!r}: list their names there, in lines of "
            "folder, tab and name"
        )
    warnings.warn(
        f"{path} is missing: the class folders are synsets of ImageNet's 1,000 classes, and are "
        "put into prompts by OpenAI's names of these",
        stacklevel=2,
    )
    return tuple(names[folder] for folder in found)


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
