"""What `winnow evaluate` takes and does: a model on evaluation sets."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from winnow.distributed import joined
from winnow.evaluation.clip_benchmark_json import write_clip_benchmark_json
from winnow.evaluation.embed import Embedder
from winnow.evaluation.evaluate import FIT_NOTHING, Evaluation, Protocols, Skipped, evaluate
from winnow.evaluation.linear_probe import LinearProbe
from winnow.evaluation.probes import FewShot
from winnow.evaluation.results import RESULTS_FILE
from winnow.evaluation.sets.text_files import read_classnames, read_templates
from winnow.evaluation.subject import Presentation
from winnow.evaluation.task_table import task_table
from winnow.models.devices import usable_device
from winnow.models.encoder import load_encoder
from winnow.recipes.packaged import PACKAGED
from winnow.recipes.results_tables import results_tables
from winnow.recipes.tasks import evaluation_root, how_to_get, resolve
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """A model on evaluation sets: zero-shot, retrieval, statements; probes where asked for."""

    model: tyro.conf.Positional[str]
    """The folder of a run; local-dir:PATH; an open_clip model as NAME:WEIGHTS; openai:FILE or
    diht:FILE for checkpoints of these."""
    tasks: tuple[str, ...] = (PACKAGED,)
    """Names of `winnow tasks` (tasks, sets, suites), or paths of sets in any layout that is known;
    `packaged` stands for the emoji vendors."""
    root: Path | None = None
    """The folder of the sets that are named. Default: $WINNOW_EVALUATION_SETS, else in the user's
    cache."""
    protocols: tuple[
        Literal["zero-shot", "retrieval", "statements", "linear-probe", "few-shot"], ...
    ] = ()
    """Default: all that fit nothing, as far as a set has what they need."""
    split: str | None = None
    """The split that is measured. Default: test, else the first that is held out for validation."""
    templates: Path | None = None
    """A file of prompts in place of each set's own: one a line, with {c} for the class."""
    classnames: Path | None = None
    """A file of class names in place of the set's own: one a line, in the order of its labels."""
    caption: str = "{}"
    """What captions are put into for retrieval; DiHT takes "a photo of {}."."""
    linear_probe: LinearProbe = field(default_factory=LinearProbe)
    few_shot: FewShot = field(default_factory=FewShot)
    out: Path | None = None
    """Where results.jsonl and the predictions go. Default: evaluation/ in the folder of the run."""
    cache: Path | None = None
    """Where features are kept, for any number of models and sets. Default: embeddings/ in OUT."""
    clip_benchmark_json: Path | None = None
    """A folder for the same numbers in CLIP_benchmark's files."""
    batch_size: int = 256
    """Pictures or texts embedded at once."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the model computes in."""
    device: str = "auto"
    """`cpu`, `cuda`, ...; `auto` takes a GPU where there is one."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; it must be at least 1")


def run_evaluate(options: Evaluate, *, say: Callable[..., None]) -> None:
    """Evaluate and say what came out; under torchrun, the first rank does."""
    out = options.out or _default_out(options.model)
    root = options.root or evaluation_root()
    device = usable_device(options.device)
    for folder in filter(None, (out, options.clip_benchmark_json)):
        # What cannot be written is said before hours of embedding.
        folder.mkdir(parents=True, exist_ok=True)
    with joined(device) as world:
        done = evaluate_model(
            options.model,
            resolve(options.tasks, root, must_exist=True),
            out=out,
            cache=options.cache,
            protocols=Protocols(
                names=options.protocols,
                presentation=_presentation(options),
                linear_probe=options.linear_probe,
                few_shot=options.few_shot,
            ),
            batch_size=options.batch_size,
            precision=options.precision,
            device=str(device),
        )
    if world.rank > 0:
        return
    if options.clip_benchmark_json is not None:
        write_clip_benchmark_json(options.clip_benchmark_json, done.results)
    broken = [_told(skipped, root) for skipped in done.skipped if skipped.is_broken]
    skipped = [_told(skipped, root) for skipped in done.skipped if not skipped.is_broken]
    if not done.results:
        why = "; ".join([*broken, *skipped]) or "no task was given"
        raise InputError(f"nothing was measured ({why})")
    for table in results_tables(done.results):
        say(table)
    for line in (*_what_was_there(done, out), *(f"skipped {line}" for line in skipped)):
        say(line, markup=False)
    if broken:
        raise InputError(f"all is measured but {'; '.join(broken)}")


def _presentation(options: Evaluate) -> Presentation:
    return Presentation(
        split=options.split,
        classnames=() if options.classnames is None else read_classnames(options.classnames),
        templates=() if options.templates is None else read_templates(options.templates),
        caption=options.caption,
    )


def evaluate_model(
    model: str,
    sets: Mapping[str, Path | str],
    *,
    out: Path,
    cache: Path | None = None,
    protocols: Protocols = FIT_NOTHING,
    batch_size: int = 256,
    precision: str = "fp32",
    device: str = "auto",
) -> Evaluation:
    """Evaluate a model by name; features are kept, under `out` unless said, and used again."""
    device = str(usable_device(device))
    embedder = Embedder(
        encoder=load_encoder(model, device=device, precision=precision),
        cache=cache or out / "embeddings",
        batch_size=batch_size,
    )
    return evaluate(embedder, sets, out, protocols=protocols, device=device)


def _what_was_there(done: Evaluation, out: Path) -> Iterator[str]:
    if done.known:
        yield (
            f"{done.known} numbers are of an earlier time, with the same model, pictures and "
            f"options: delete {out / RESULTS_FILE} to measure them again"
        )
    if done.replaced:
        of = dict.fromkeys(f"{row.task} {row.protocol}" for row in done.replaced)
        yield (
            f"{len(done.replaced)} earlier numbers went, of other weights, pictures, options or "
            "of an earlier winnow: "
            f"{', '.join(of)}"
        )


def _told(skipped: Skipped, root: Path) -> str:
    """What was skipped and why; for a set of the task table that is missing, how to get it."""
    is_known = bool(task_table().of_set(skipped.task))
    get = f"; get it: {how_to_get(skipped.task, root)}" if is_known and skipped.is_missing else ""
    return f"{skipped.task}: {skipped.why}{get}"


def _default_out(model: str) -> Path:
    if not (Path(model) / "recipe.json").is_file():
        raise InputError(f"{model} is not the folder of a run: say with --out where results go")
    return Path(model) / "evaluation"
