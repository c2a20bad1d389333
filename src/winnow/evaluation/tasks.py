"""A task: one evaluation set on disk, in the webdataset layout of clip-benchmark.

    FOLDER/classnames.txt                        one class a line, in label order
    FOLDER/zeroshot_classification_templates.txt one prompt a line, "{c}" stands for the class
    FOLDER/test/nshards.txt                      how many tars
    FOLDER/test/0.tar ...                        KEY.png|jpg|jpeg|webp, KEY.cls (the label, as
                                                 text), KEY.txt (captions, one a line)

`KEY.cls` with the two lists makes zero-shot possible, `KEY.txt` makes retrieval possible; a task
has either or both, for all its pictures. A task is read through once when it is opened, so that
whatever is wrong with it is known before a model runs.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from winnow.types import InputError

CLASSNAMES_FILE = "classnames.txt"
TEMPLATES_FILE = "zeroshot_classification_templates.txt"
SHARDS_FILE = "test/nshards.txt"
PLACEHOLDER = "{c}"
IMAGE_SUFFIXES = frozenset({"png", "jpg", "jpeg", "webp"})


class MissingTaskError(InputError):
    """There is no evaluation set at the given place."""


class Sample(NamedTuple):
    """One picture of a task."""

    key: str
    image: bytes
    label: int | None
    captions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One evaluation set; `Task.open` makes it."""

    name: str
    folder: Path
    classnames: tuple[str, ...]
    """In label order; empty for a task without labels."""
    templates: tuple[str, ...]
    has_captions: bool
    num_samples: int
    fingerprint: str
    """sha256 over class names, templates, and every sample's key, picture, label and captions, in
    order: the same however the samples are spread over tars."""

    @classmethod
    def open(cls, folder: Path, *, name: str | None = None) -> "Task":
        """Read and check the evaluation set in `folder`; `name` defaults to the folder's.

        Raises MissingTaskError where there is none, and InputError for one that is not whole.
        """
        if not (folder / SHARDS_FILE).is_file():
            raise MissingTaskError(
                f"{folder} holds no evaluation set ({SHARDS_FILE} is missing): `winnow demo` "
                "builds the packaged ones; others are the data sets `clip-benchmark/wds_*` of the "
                "Hugging Face hub, each downloaded whole into a folder"
            )
        classnames = _lines(folder / CLASSNAMES_FILE)
        templates = _templates(folder / TEMPLATES_FILE) if classnames else ()
        digest, num_samples, num_captioned = hashlib.sha256(), 0, 0
        digest.update(repr((classnames, templates)).encode())
        for sample in read_samples(folder, num_classes=len(classnames)):
            content = hashlib.sha256(sample.image).hexdigest()
            digest.update(repr((sample.key, content, sample.label, sample.captions)).encode())
            num_samples += 1
            num_captioned += bool(sample.captions)
        _check_whole(folder, num_samples, num_captioned, num_classes=len(classnames))
        return cls(
            name=name or folder.name,
            folder=folder,
            classnames=classnames,
            templates=templates,
            has_captions=num_captioned > 0,
            num_samples=num_samples,
            fingerprint=digest.hexdigest(),
        )

    @property
    def chance(self) -> float:
        """Top-1 accuracy of a guess; for a task with labels."""
        return 1 / len(self.classnames)

    def samples(self) -> Iterator[Sample]:
        """Every picture, tar by tar in their order."""
        return read_samples(self.folder, num_classes=len(self.classnames))


def read_samples(folder: Path, *, num_classes: int) -> Iterator[Sample]:
    """Every picture of the tars in `folder`, each checked; raises InputError naming tar and key."""
    for shard in _shards(folder):
        for key, parts in _groups(shard):
            where = f"{shard}, sample {key}"
            image = next((data for suffix, data in parts.items() if suffix in IMAGE_SUFFIXES), None)
            if image is None:
                raise InputError(f"{where} has no picture (png, jpg, jpeg or webp)")
            label = _label(parts.get("cls"), num_classes=num_classes, where=where)
            yield Sample(key, image, label, _captions(parts.get("txt", b""), where=where))


def _shards(folder: Path) -> list[Path]:
    text = _read_text(folder / SHARDS_FILE).strip()
    if not text.isdecimal() or int(text) == 0:
        raise InputError(f"{folder / SHARDS_FILE} should hold the number of tars, not {text!r}")
    shards = [folder / "test" / f"{number}.tar" for number in range(int(text))]
    for shard in shards:
        if not shard.is_file():
            raise InputError(f"{shard} is missing: {SHARDS_FILE} counts {text} tars")
    return shards


def _groups(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Members of one sample stand together in the tar: (key, bytes by suffix in lower case)."""
    seen: set[str] = set()
    key, parts = "", dict[str, bytes]()
    _check_end(shard)
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if not member.isfile() or member.issparse():
                    continue
                folder, slash, file = member.name.rpartition("/")
                stem, _, suffix = file.partition(".")
                if folder + slash + stem != key:
                    if parts:
                        yield key, parts
                    key, parts = folder + slash + stem, {}
                    if key in seen:
                        raise InputError(f"{shard}, sample {key} occurs twice, or not in one piece")
                    seen.add(key)
                data = archive.extractfile(member)
                parts[suffix.lower()] = data.read() if data else b""
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{shard} is not a whole, uncompressed tar: {error}") from error
    if parts:
        yield key, parts


def _check_end(shard: Path) -> None:
    """A tar ends in two blocks of zeros; nothing else tells one that is cut between samples."""
    with shard.open("rb") as file:
        file.seek(-min(file.seek(0, 2), 2 * tarfile.BLOCKSIZE), 2)
        if file.read() != bytes(2 * tarfile.BLOCKSIZE):
            raise InputError(f"{shard} is not a whole, uncompressed tar: its end is missing")


def _label(text: bytes | None, *, num_classes: int, where: str) -> int | None:
    if text is None:
        if num_classes:
            raise InputError(f"{where} has no label (.cls), but {CLASSNAMES_FILE} lists classes")
        return None
    if not num_classes:
        raise InputError(f"{where} has a label (.cls), but {CLASSNAMES_FILE} is missing or empty")
    word = text.decode(errors="replace").strip()
    if not word.isdecimal() or int(word) >= num_classes:
        raise InputError(
            f"{where} has label {word[:20]!r}, which is none of the {num_classes} classes that "
            f"{CLASSNAMES_FILE} lists (counted from 0)"
        )
    return int(word)


def _captions(text: bytes, *, where: str) -> tuple[str, ...]:
    try:
        lines = text.decode().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{where} has a caption (.txt) that is not UTF-8: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    # Only trailing blank lines are dropped: a blank class name in between keeps later labels right.
    return tuple(line.strip() for line in _read_text(path).rstrip().split("\n"))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}): save it again as UTF-8") from error


def _templates(path: Path) -> tuple[str, ...]:
    templates = _lines(path)
    if not any(templates):
        raise InputError(
            f"{path} is missing or empty: one prompt a line, such as 'a photo of {{c}}.'"
        )
    for number, template in enumerate(templates, start=1):
        if PLACEHOLDER not in template:
            raise InputError(f"{path} line {number} has no {PLACEHOLDER}: {template!r}")
    return templates


def _check_whole(folder: Path, num_samples: int, num_captioned: int, *, num_classes: int) -> None:
    if num_samples == 0:
        raise InputError(f"{folder} holds no picture")
    if num_captioned not in (0, num_samples):
        raise InputError(
            f"{folder}: only {num_captioned} of {num_samples} pictures have a caption (.txt); "
            "retrieval needs one for each, zero-shot needs none"
        )
    if not num_classes and not num_captioned:
        raise InputError(f"{folder} has neither labels (.cls) nor captions (.txt)")
