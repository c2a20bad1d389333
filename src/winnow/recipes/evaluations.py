"""Where the results of a model are: in a folder that `winnow evaluate` wrote, or in its run."""

from pathlib import Path

from winnow.evaluation.results import RESULTS_FILE
from winnow.types import InputError


def evaluation_folder(path: Path) -> Path:
    """The folder with the results of a run, or the one that `evaluate --out` was given.

    Raises InputError where there are none.
    """
    for folder in (path, path / "evaluation"):
        if (folder / RESULTS_FILE).is_file():
            return folder
    raise InputError(
        f"{path} holds no {RESULTS_FILE}, nor does its evaluation/: give a run or a folder that "
        "`winnow evaluate` has written to"
    )
