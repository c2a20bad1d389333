"""Checkpoints: atomic, verified, and read without unpickling.

`step-N.pt` is written first, `step-N.json` with its sha256 last; without a matching json a
checkpoint does not count. The newest whole one is resumed from; a damaged one is passed over and
named.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from winnow.config import write_json


class Checkpoints:
    """The checkpoints of one run, the newest few of them kept."""

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        self._directory, self._keep = directory, keep
        self.passed_over: list[str] = []
        """Damaged checkpoints met by `load_newest`, one sentence each."""

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state after `step` steps, then drop the oldest beyond `keep`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        final = self._directory / f"step-{step:08d}.pt"
        partial = final.with_suffix(".pt.partial")
        torch.save(state, partial)
        digest = _sha256(partial)
        partial.replace(final)
        write_json(final.with_suffix(".json"), {"step": step, "sha256": digest})
        for old in self._steps()[: -self._keep]:
            old.with_suffix(".json").unlink()
            old.unlink(missing_ok=True)
        return final

    def load_newest(self) -> tuple[int, dict[str, Any]] | None:
        """(step, state) of the newest whole checkpoint, or None where there is none."""
        for path in reversed(self._steps()):
            facts = json.loads(path.with_suffix(".json").read_text())
            if path.is_file() and _sha256(path) == facts["sha256"]:
                return facts["step"], torch.load(path, weights_only=True)
            self.passed_over.append(f"checkpoint {path} is damaged; an older one is used")
        return None

    def _steps(self) -> list[Path]:
        """Checkpoints whose json stands, oldest first."""
        found = sorted(self._directory.glob("step-*.json"))
        return [path.with_suffix(".pt") for path in found]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
