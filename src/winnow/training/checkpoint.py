"""Checkpoints: atomic, verified, and read without unpickling.

`step-N.pt` is written first, `step-N.json` with its sha256 last; without a matching json a
checkpoint does not count. The newest whole one is resumed from; damaged ones are set aside, named.
"""

import json
from pathlib import Path
from typing import Any

import torch

from winnow.config import write_json
from winnow.data.files import sha256_of
from winnow.types import InputError


class Checkpoints:
    """The checkpoints of one run, the newest few of them kept."""

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        self._directory, self._keep = directory, keep

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state after `step` steps, then drop the oldest beyond `keep`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        final = self._directory / f"step-{step:08d}.pt"
        partial = final.with_suffix(".pt.partial")
        torch.save(state, partial)
        digest = sha256_of(partial)
        partial.replace(final)
        write_json(final.with_suffix(".json"), {"step": step, "sha256": digest})
        for old in self._declared()[: -self._keep]:
            old.with_suffix(".json").unlink()
            old.unlink(missing_ok=True)
        return final

    def load_newest(self) -> tuple[int, dict[str, Any], list[str]] | None:
        """(step, state, names of damaged newer ones) of the newest whole checkpoint.

        None where there never was one. The damaged ones no longer count. Tensors are on the CPU.
        Raises InputError where there are checkpoints and none is whole: starting over would throw
        the run's progress away without a word.
        """
        damaged: list[Path] = []
        for path in reversed(self._declared()):
            step = _whole(path)
            if step is not None:
                for bad in damaged:
                    bad.with_suffix(".json").unlink()
                names = [bad.name for bad in damaged]
                return step, torch.load(path, weights_only=True, map_location="cpu"), names
            damaged.append(path)
        if damaged:
            raise InputError(
                f"every checkpoint in {self._directory} is damaged ({damaged[0].name} is the "
                "newest): restore one, or remove that folder to start over"
            )
        return None

    def _declared(self) -> list[Path]:
        """Checkpoints whose json stands, oldest first."""
        found = sorted(self._directory.glob("step-*.json"))
        return [path.with_suffix(".pt") for path in found]


def _whole(path: Path) -> int | None:
    """The step of a checkpoint whose bytes are those that were written; None otherwise."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text())
        return facts["step"] if sha256_of(path) == facts["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
