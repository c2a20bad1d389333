"""What a run's folder tells of the model in it: recipe, data with its funnel, and results.

A model may also come from elsewhere; then nothing is known of it but its results, where there are
some.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow.config import read_json
from winnow.curation.summary import SUMMARY_FILE, Summary
from winnow.data.selection import FACTS_FILE, Selection
from winnow.evaluation.results import RESULTS_FILE, Result, read_results
from winnow.training.refusals import DATA_FILE, RECIPE_FILE
from winnow.types import InputError

_MODEL_FILE = "open_clip_config.json"
_CAPTIONS = 32


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """One selection that a run was trained on."""

    name: str
    """The name of its folder."""
    pairs: int | None
    """How many pairs of it there were, as the run wrote it down."""
    selection: Selection | None
    """None where it is gone, or another by now."""
    summary: Summary | None
    """Its account; None where there is no selection, or it was not curated."""


def run_folder(model: str) -> Path | None:
    """The folder of the run that `model` is of, by itself or by the folder of its weights."""
    folder = Path(model.removeprefix("local-dir:"))
    if (folder / RECIPE_FILE).is_file():
        return folder
    parent = folder.absolute().parent
    inside = (folder / _MODEL_FILE).is_file() and (parent / RECIPE_FILE).is_file()
    return parent if inside else None


def part_of(run: Path, model: str) -> str | None:
    """The name of the folder in `run` that `model` is; None where it is what the run ended with."""
    name = Path(model.removeprefix("local-dir:")).absolute().name
    return None if name in (run.absolute().name, "model") else name


def recipe_of(run: Path) -> dict[str, Any]:
    """The run's recipe as json has it. Raises InputError where it is damaged."""
    recipe = read_json(run / RECIPE_FILE)
    if not isinstance(recipe, dict):
        raise InputError(f"{run / RECIPE_FILE} is no recipe: restore the one that training wrote")
    return recipe


def data_of(run: Path) -> list[TrainedOn]:
    """The selections that the run was trained on, as far as they are still there unchanged."""
    path = run / DATA_FILE
    return [_opened(*found) for found in _selections(read_json(path))] if path.is_file() else []


def captions_of(data: list[TrainedOn]) -> list[str]:
    """The first captions of each selection that is there."""
    tables = [one.selection.table for one in data if one.selection is not None]
    return [caption for one in tables for caption in one["caption"][:_CAPTIONS].to_pylist()]


def results_of(folder: Path, fingerprint: str) -> tuple[list[Result], int]:
    """The numbers in `folder` that were measured of these weights, and how many were of others.

    Few-shot numbers are the means over their subsets. Raises InputError where a row is damaged.
    """
    if not (folder / RESULTS_FILE).is_file():
        return [], 0
    rows = [row for row in read_results(folder) if row.subset is None]
    own = [row for row in rows if row.model_fingerprint == fingerprint]
    return own, len(rows) - len(own)


def _selections(data: Any) -> Iterator[tuple[str, Path, str, int | None]]:
    """Name, place, fingerprint and size of whatever in a run's data.json is a selection."""
    if isinstance(data, dict) and data.get("sources"):
        data = data["sources"]  # of a mixture, which is no folder itself
    if isinstance(data, list):
        for one in data:
            yield from _selections(one)
    if isinstance(data, dict):
        place, fingerprint, pairs = (data.get(key) for key in ("selection", "fingerprint", "pairs"))
        if isinstance(place, str) and isinstance(fingerprint, str):
            yield Path(place).name, Path(place), fingerprint, pairs
        for one in data.values():
            yield from _selections(one)


def _opened(name: str, place: Path, fingerprint: str, pairs: int | None) -> TrainedOn:
    selection = summary = None
    if (place / FACTS_FILE).is_file():
        found = Selection.open(place)
        selection = found if found.fingerprint == fingerprint else None
    if selection is not None and (place / SUMMARY_FILE).is_file():
        summary = Summary.read(place)
    return TrainedOn(name=name, pairs=pairs, selection=selection, summary=summary)
