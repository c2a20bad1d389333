"""What a checkpoint is on disk: how it comes to count, how it is checked, and how it goes.

    checkpoints/
        step-00000100/            whole from the moment it has this name
            manifest.json         step, format, size and sha256 of every file beside it
            .metadata             where torch.distributed.checkpoint finds which tensor (a pickle)
            __0_0.distcp, ...     what each rank wrote
        step-00000200.partial/    being written or removed, or left so by a kill: never counts
        step-00000150.damaged/    set aside when a run went on from an older one
        pinned.json               the step that the policy never removes

Checkpoints are ordered by their step alone; no clock is read. Before anything in a checkpoint is
unpickled, its bytes are those that were written. That keeps out damage, not malice: whoever can
write into a run's folder can also write a manifest, so a run's folder is trusted as its code is.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow.config import read_json
from winnow.data.files import sha256_of
from winnow.data.folder import flush_folder
from winnow.types import InputError

MANIFEST = "manifest.json"
PINNED = "pinned.json"
FORMAT = 1
"""Of the manifest and of what it lists."""
_METADATA = ".metadata"
_NAME = re.compile(r"step-(?P<step>\d{8,})(?P<state>\.partial|\.damaged)?")
_HASHED_AT_ONCE = 4


def folder_of(directory: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps is, or will be."""
    return directory / f"step-{step:08d}"


def partial_of(directory: Path, step: int) -> Path:
    """Where it is as long as it does not count."""
    return directory / f"step-{step:08d}.partial"


def steps_in(directory: Path, state: str = "") -> list[int]:
    """The steps whose checkpoints are in this state ("", ".partial", ".damaged"), ascending."""
    names = (_NAME.fullmatch(path.name) for path in directory.glob("step-*") if path.is_dir())
    return sorted(int(name["step"]) for name in names if name and (name["state"] or "") == state)


def sweep(directory: Path) -> None:
    """Remove what killed writers left. Raises OSError."""
    for step in steps_in(directory, ".partial"):
        shutil.rmtree(partial_of(directory, step))


def declare(directory: Path, step: int, names: Iterable[str]) -> None:
    """Let the partial checkpoint of `step`, which is these files, count. Raises OSError."""
    partial, names = partial_of(directory, step), sorted({*names, _METADATA})
    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
        files = dict(
            zip(names, pool.map(lambda name: _facts_of(partial / name), names), strict=True)
        )
    _write_durably(partial / MANIFEST, {"format": FORMAT, "step": step, "files": files})
    flush_folder(partial)
    partial.rename(folder_of(directory, step))
    flush_folder(directory)


def remove(directory: Path, step: int) -> None:
    """Remove a checkpoint, which counts no longer from the first moment on. Raises OSError."""
    folder_of(directory, step).rename(partial_of(directory, step))
    shutil.rmtree(partial_of(directory, step))


def set_aside(directory: Path, step: int) -> None:
    """Let a damaged checkpoint count no longer, but keep it. Raises OSError."""
    aside = directory / f"step-{step:08d}.damaged"
    if aside.is_dir():  # of an earlier attempt at this step
        shutil.rmtree(aside)
    folder_of(directory, step).rename(aside)


def is_whole(directory: Path, step: int, *, part: int = 0, parts: int = 1) -> bool:
    """Whether the files of a checkpoint, or every `parts`-th from number `part` on, are as written.

    Raises InputError where it is of a newer format, or where there is no such folder.
    """
    folder = folder_of(directory, step)
    if not folder.is_dir():
        raise InputError(
            f"{folder} is there for some processes of this run and not for others: give the run a "
            "folder that all its machines share"
        )
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] > FORMAT:
            raise InputError(
                f"{folder} was written by a newer winnow (format {manifest['format']}, this one "
                f"reads {FORMAT}): go on with that version"
            )
        files = manifest["files"]
        complete = manifest["step"] == step and _METADATA in files
        mine = sorted(files)[part::parts]
        return complete and all(_facts_of(folder / name) == files[name] for name in mine)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        return False


def refuse_earlier_format(directory: Path) -> None:
    """Raise InputError where the checkpoints are single files, as winnow once wrote them."""
    files = sorted(path.name for path in directory.glob("step-*.pt"))
    if files:
        raise InputError(
            f"{directory} holds a checkpoint of an earlier winnow ({files[-1]}), which this one "
            "does not read: finish the run with the version that began it, or remove that folder "
            "to start over"
        )


def pin(directory: Path, step: int) -> None:
    """Note the step that is never removed. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f"{PINNED}.partial"
    try:
        _write_durably(partial, {"step": step})
        partial.replace(directory / PINNED)
    finally:
        partial.unlink(missing_ok=True)


def pinned(directory: Path) -> int | None:
    """The step that was pinned last. Raises InputError where the note is damaged."""
    path = directory / PINNED
    if not path.exists():
        return None
    note = read_json(path)
    if not (isinstance(note, dict) and isinstance(note.get("step"), int)):
        raise InputError(f"{path} does not name a step: remove it")
    return note["step"]


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Which checkpoints stay."""

    keep: int = 2
    """The newest so many, at least one."""
    keep_every: int | None = None
    """Also those after every so many steps."""

    def __post_init__(self) -> None:
        if self.keep < 1 or (self.keep_every is not None and self.keep_every < 1):
            raise InputError(
                f"keep {self.keep} and keep_every {self.keep_every} were asked for: for "
                "checkpoints, both must be at least 1"
            )

    def outdated(self, steps: list[int], pinned: int | None) -> list[int]:
        """Those of `steps`, which ascend, that go."""
        return [
            step
            for step in steps[: -self.keep]
            if step != pinned and not (self.keep_every and step % self.keep_every == 0)
        ]


@contextmanager
def told(path: Path, directory: Path) -> Iterator[None]:
    """Turn what the disk refuses into an InputError that says where, why and what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        refused = _os_error_behind(error)
        if refused is None:
            raise
        raise InputError(_refusal(path, directory, refused)) from error


def _facts_of(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _write_durably(path: Path, values: Any) -> None:
    """Write json, and return when it would outlast a power cut."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(values, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _os_error_behind(error: BaseException | None) -> OSError | None:
    """torch's archive writer covers what a stream raised with a RuntimeError of its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _refusal(path: Path, directory: Path, refused: OSError) -> str:
    where = refused.filename or path
    if isinstance(refused, FileNotFoundError):
        return (
            f"{where} is not there: give the run a folder that all its machines share, and leave "
            "it in place while the run is going on"
        )
    existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 1e9
    steps = steps_in(directory)
    goes_on = f"goes on from step {steps[-1]}" if steps else "starts from the first step"
    return (
        f"{where} cannot be used for a checkpoint: {refused.strerror or refused}, with {free:.1f} "
        f"GB free there; once that is mended, the same command {goes_on}"
    )
