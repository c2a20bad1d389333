"""What `winnow evaluate` takes and does: a model on evaluation sets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from winnow.evaluation.evaluate import Evaluation, evaluate
from winnow.evaluation.results import Result
from winnow.models.devices import usable_device
from winnow.models.encoder import load_encoder
from winnow.recipes.packaged import PACKAGED, named_tasks
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Zero-shot accuracy and retrieval of a model on evaluation sets."""

    model: tyro.conf.Positional[str]
    """The folder of a run, local-dir:PATH, or an open_clip model as NAME:WEIGHTS."""
    tasks: tuple[str, ...] = (PACKAGED,)
    """Folders in the clip-benchmark webdataset layout; `packaged` stands for the emoji vendors."""
    out: Path | None = None
    """Where results.jsonl and the predictions go. Default: evaluation/ in the folder of the run."""
    batch_size: int = 256
    """Pictures embedded at once."""
    device: str = "auto"
    """`cpu`, `cuda`, ...; `auto` takes a GPU where there is one."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; it must be at least 1")


def run_evaluate(options: Evaluate, *, say: Callable[..., None]) -> None:
    """Evaluate and say what came out."""
    done = evaluate_model(
        options.model,
        named_tasks(options.tasks),
        out=options.out or _default_out(options.model),
        batch_size=options.batch_size,
        device=options.device,
    )
    if not done.results:
        reasons = "; ".join(f"{skipped.task}: {skipped.why}" for skipped in done.skipped)
        raise InputError(f"nothing was measured ({reasons or 'no task was given'})")
    say(results_table(done.results))
    for skipped in done.skipped:
        say(f"skipped {skipped.task}: {skipped.why}", markup=False)


def evaluate_model(
    model: str, tasks: dict[str, Path], *, out: Path, batch_size: int = 256, device: str = "auto"
) -> Evaluation:
    """Evaluate a model by name; embeddings are kept under `out` and used again."""
    encoder = load_encoder(model, device=str(usable_device(device)))
    return evaluate(encoder, tasks, out, cache=out / "embeddings", batch_size=batch_size)


def results_table(results: tuple[Result, ...]) -> object:
    """Every number with its standard error, n and chance, for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title="results in %", title_justify="left", box=SIMPLE_HEAD)
    for name in ("task", "protocol", "metric"):
        table.add_column(name, no_wrap=True)
    for name in ("value", "± s.e.", "chance", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        numbers = (result.value, result.standard_error, result.chance)
        percent = [f"{100 * number:.2f}" for number in numbers]
        words = [Text(word) for word in (result.task, result.protocol, result.metric)]
        table.add_row(*words, *percent, f"{result.n:,}")
    return table


def _default_out(model: str) -> Path:
    if not (Path(model) / "recipe.json").is_file():
        raise InputError(f"{model} is not the folder of a run: say with --out where results go")
    return Path(model) / "evaluation"
