"""A folder of an export: it appears whole or not at all, and says itself what is in it.

`winnow_export.json` lists every file with its size and hash. A folder is replaced only where that
list covers all that is in it, unchanged: nobody's own file goes.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from winnow.config import as_dict, load, write_json
from winnow.data.files import sha256_of
from winnow.data.folder import is_abandoned, partial_name
from winnow.types import InputError

LIST_FILE, CARD_FILE = "winnow_export.json", "README.md"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One file of an export."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ExportList:
    """What an export holds; written last."""

    winnow: str
    """The version that wrote it."""
    formats: tuple[str, ...]
    differences: dict[str, dict[str, float]]
    """By format, how far it was from the model when it was loaded back."""
    files: dict[str, Listed]
    """By path within the folder, with slashes; not the list itself."""


@contextmanager
def writing_export(out: Path) -> Iterator[Path]:
    """A new folder beside `out`: its successor when the block ends well, else removed.

    Raises InputError where `out` is something that no export wrote, or was changed since.
    """
    refuse_others_folder(out)
    out = Path(os.path.abspath(out))  # noqa: PTH100 - resolves `..`, leaves links alone
    out.parent.mkdir(parents=True, exist_ok=True)
    for stray in out.parent.glob(f".{out.name}.*.partial"):
        if is_abandoned(stray):
            shutil.rmtree(stray, ignore_errors=True)
    new = out.with_name(partial_name(out.name))
    try:
        new.mkdir()
        yield new
        # Somebody may have put a file there meanwhile.
        refuse_others_folder(out)
        _swap(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def list_files(
    folder: Path, *, version: str, differences: dict[str, dict[str, float]]
) -> ExportList:
    """Write the list of all files in `folder`, its card among them; it is whole from then on."""
    for _, path in _all(folder):
        # safetensors makes files that only their owner may read.
        path.chmod((folder / CARD_FILE).stat().st_mode)
    files = {
        name: Listed(bytes=path.stat().st_size, sha256=sha256_of(path))
        for name, path in _all(folder)
    }
    listed = ExportList(
        winnow=version, formats=tuple(differences), differences=differences, files=files
    )
    write_json(folder / LIST_FILE, as_dict(listed))
    return listed


def whole_export(folder: Path) -> ExportList:
    """The list of an export, all of whose files are there as they were; the card may be edited.

    Raises InputError where it is none, or not whole.
    """
    if not (folder / LIST_FILE).is_file():
        raise InputError(
            f"{folder} is no export ({LIST_FILE} is missing): make one with `winnow export RUN "
            "--out DIR`"
        )
    listed = load(ExportList, folder / LIST_FILE)
    wrong = [name for name, facts in listed.files.items() if not _is_there(folder, name, facts)]
    if wrong:
        raise InputError(
            f"{folder} is not a whole export: {wrong[0]} is missing or not as it was written; "
            "export the model again"
        )
    return listed


def refuse_others_folder(out: Path) -> None:
    """Raise InputError where `out` holds anything but an export as it was written."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise InputError(f"{out} is no folder: choose another --out")
    there = dict(_all(out))
    if not there and not (out / LIST_FILE).exists():
        return
    if not (out / LIST_FILE).is_file():
        raise InputError(
            f"{out} holds something that no export wrote ({min(there)}): choose another --out"
        )
    listed = load(ExportList, out / LIST_FILE)
    own = {
        name
        for name, facts in listed.files.items()
        if name in there and sha256_of(there[name]) == facts.sha256
    }
    others = sorted(there.keys() - own)
    if others:
        raise InputError(
            f"{others[0]} in {out} was changed or put there after the export: move it away, or "
            "choose another --out"
        )


def _all(folder: Path) -> list[tuple[str, Path]]:
    """Every file below `folder` by its name in it, sorted, but for the list."""
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    named = [(path.relative_to(folder).as_posix(), path) for path in paths]
    return [(name, path) for name, path in named if name != LIST_FILE]


def _is_there(folder: Path, name: str, facts: Listed) -> bool:
    path = folder / name
    inside = path.resolve().is_relative_to(folder.resolve())
    if not inside or not path.is_file():
        return False
    if name == CARD_FILE:
        return True
    return path.stat().st_size == facts.bytes and sha256_of(path) == facts.sha256


def _swap(new: Path, out: Path) -> None:
    """Put `new` in the place of `out`; for a moment there is none, never half of one."""
    old = out.with_name(partial_name(out.name))
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
