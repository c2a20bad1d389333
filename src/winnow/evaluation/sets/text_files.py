"""Small files of evaluation sets: lists of class names and prompts; pictures that a text names."""

from pathlib import Path, PurePosixPath

from winnow.data.files import mendable, read_whole
from winnow.data.sample import MAX_PICTURE_BYTES
from winnow.types import InputError

CLASSNAMES_FILE = "classnames.txt"
TEMPLATES_FILE = "zeroshot_classification_templates.txt"
PLACEHOLDER = "{c}"


def read_text(path: Path) -> str:
    """What is in a text file. Raises InputError where it is not UTF-8."""
    try:
        with mendable(str(path)):
            return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}): save it again as UTF-8") from error


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a list, stripped; none where there is no file."""
    if not path.is_file():
        return ()
    # Only trailing blank lines are dropped: a blank class name in between keeps later labels right.
    text = read_text(path).rstrip()
    return tuple(line.strip() for line in text.split("\n")) if text else ()


def read_templates(path: Path) -> tuple[str, ...]:
    """The prompts in `path`. Raises InputError where there is none, or one without a class."""
    templates = read_lines(path)
    if not templates:
        raise InputError(
            f"{path} is missing or empty: one prompt a line, such as 'a photo of {{c}}.'"
        )
    for number, template in enumerate(templates, start=1):
        if PLACEHOLDER not in template:
            raise InputError(f"{path} line {number} has no {PLACEHOLDER}: {template!r}")
    return templates


def read_classnames(path: Path) -> tuple[str, ...]:
    """The class names in `path`, in label order. Raises InputError where there is none."""
    classnames = read_lines(path)
    if not classnames:
        raise InputError(f"{path} is missing or empty: one class name a line, in label order")
    return classnames


def inside(given: str, *, where: str) -> str:
    """`given`, a path in a text file, if it stays in the set's folder.

    Raises InputError where it does not: a downloaded list must not make winnow read other files of
    this machine.
    """
    path = PurePosixPath(given)
    if not given or path.is_absolute() or ".." in path.parts or "\0" in given:
        raise InputError(f"{where} names the picture {given!r}, which is no path inside the set")
    return given


def read_picture(path: str, *, where: str) -> bytes:
    """The bytes of a picture that `where` names. Raises InputError where it cannot be read."""
    try:
        data = read_whole(path, limit=MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{where} names the picture {path}, which cannot be read "
            f"({error.strerror or error}): put it there, or take it off the list"
        ) from error
    check_size(len(data), where=where)
    return data


def check_size(size: int, *, where: str) -> None:
    """Raise InputError for a file too large to be one picture."""
    if size > MAX_PICTURE_BYTES:
        raise InputError(
            f"{where} has a picture of more than {MAX_PICTURE_BYTES} bytes: no picture is that "
            "large, so take it out or replace it"
        )
