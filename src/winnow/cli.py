"""The command line: one short function per verb, and nothing heavy until a verb asks for it."""

import importlib.metadata
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from winnow.types import InputError, Interrupted, OutOfTime, ToldByAnotherError

Options = TypeVar("Options")


def main() -> None:
    """The `winnow` command."""
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out one command; its exit status: 0, 2 for bad input, 128 + signal for a stop."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        print(f"winnow {importlib.metadata.version('winnow-clip')}")
        return 0
    verb = VERBS.get(arguments[0])
    if verb is None:
        return _complain(f"there is no command {arguments[0]!r}; there are {', '.join(VERBS)}", 2)
    try:
        verb(arguments[1:])
    except ToldByAnotherError:
        return 2
    except InputError as error:
        return _complain(str(error), 2)
    except OSError as error:
        return _complain(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), 2)
    except Interrupted as stop:
        return _stopped(stop)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on where it was", 130)
    return 0


def _stopped(stop: Interrupted) -> int:
    """Say it once, and end so that nothing starts again what was stopped on purpose."""
    if _is_first_process():
        _complain(str(stop), stop.status)
    # torchrun takes any other status for a crash, and would begin again where no time is left.
    is_under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    return 0 if is_under_torchrun and isinstance(stop, OutOfTime) else stop.status


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _stop(number: int, _: object) -> NoReturn:
    raise Interrupted("stopped; the same command goes on where it was", number)


def demo(arguments: list[str]) -> None:
    """Curate, train two models, evaluate and report on packaged real pictures, in minutes."""
    from rich.console import Console

    from winnow.recipes.demo import Demo, run_demo

    page = run_demo(_options(Demo, arguments, "demo"), say=Console(soft_wrap=True).print)
    print(f"report: {page}")


def curate(arguments: list[str]) -> None:
    """Annotate shards and select the pairs worth keeping, with a reason for every drop."""
    from rich.console import Console

    from winnow.recipes.data import Curate, funnel, run_curate

    options = _options(Curate, arguments, "curate")
    curated = run_curate(options, say=lambda line: print(f"winnow: {line}", file=sys.stderr))
    if curated is not None:
        Console().print(funnel(curated.summary))
        print(f"selection: {curated.folder}")


def sweep(arguments: list[str]) -> None:
    """What a curated selection would keep at other thresholds of one rule; no model runs."""
    from rich.console import Console

    from winnow.recipes.sweep import Sweep, run_sweep

    Console().print(run_sweep(_options(Sweep, arguments, "sweep")))


def explain(arguments: list[str]) -> None:
    """One pair: its parse, the text in its picture, every rule's value, and the verdict."""
    from rich.console import Console

    from winnow.recipes.explain import Explain, run_explain

    run_explain(_options(Explain, arguments, "explain"), say=Console(soft_wrap=True).print)


def materialise(arguments: list[str]) -> None:
    """Write the kept pairs of a selection as new tars, with a manifest."""
    from winnow.recipes.materialise import Materialise, run_materialise

    print(run_materialise(_options(Materialise, arguments, "materialise")))


def concepts(arguments: list[str]) -> None:
    """What a frozen teacher sees in every kept pair: targets for concept distillation."""
    from rich.console import Console

    from winnow.recipes.concepts import Concepts, run_concepts

    options = _options(Concepts, arguments, "concepts")
    print(f"targets: {run_concepts(options, say=Console(soft_wrap=True).print)}")


def train(arguments: list[str]) -> None:
    """Train a recipe on a selection or on raw shards; run again, it goes on where it was."""
    from winnow.recipes.train import Train, list_recipes, refuse_unknown_recipe, run_train
    from winnow.recipes.training import RECIPES

    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print("usage: winnow train RECIPE --data DIR --out RUN [--FIELD VALUE ...]\n")
        print(list_recipes(RECIPES))
        return
    refuse_unknown_recipe(name, RECIPES)
    if "--dry-run" in arguments:
        _dry_run(name, arguments[1:])
        return
    default = Train.of(RECIPES[name]())
    options = _options(Train, arguments[1:], f"train {name}", default=default)
    model = run_train(options)
    if _is_first_process():
        print(f"model: {model}")


def _dry_run(name: str, arguments: list[str]) -> None:
    from rich.console import Console

    from winnow.recipes.dry_run import run_dry
    from winnow.recipes.train import Train
    from winnow.recipes.training import RECIPES

    default = Train.without_data(RECIPES[name]())
    options = _options(Train, arguments, f"train {name}", default=default)
    run_dry(options.recipe, concepts=options.concepts, say=Console(soft_wrap=True).print)


def ablate(arguments: list[str]) -> None:
    """Methods side by side: several seeds, along axes of the data, compared in tables."""
    from rich.console import Console

    from winnow.recipes.ablations.command import Ablate, run_ablate
    from winnow.recipes.doctor import take_recipe_name
    from winnow.recipes.training import RECIPES

    name, others = take_recipe_name(arguments, RECIPES)
    options = _options(Ablate, others, "ablate", default=Ablate.of(RECIPES[name]()))
    run_ablate(options, say=Console(soft_wrap=True).print)


def doctor(arguments: list[str]) -> None:
    """Look at data, loader, model, memory and disk before a long run, and say what to change."""
    from rich.console import Console

    from winnow.recipes.doctor import Doctor, run_doctor, take_recipe_name
    from winnow.recipes.training import RECIPES

    name, others = take_recipe_name(arguments, RECIPES)
    options = _options(Doctor, others, "doctor", default=Doctor.of(RECIPES[name]()))
    run_doctor(options, name, say=Console(soft_wrap=True).print)


def evaluate(arguments: list[str]) -> None:
    """Zero-shot, retrieval, statements and probes of a model on evaluation sets."""
    from rich.console import Console

    from winnow.recipes.evaluate import Evaluate, run_evaluate

    run_evaluate(_options(Evaluate, arguments, "evaluate"), say=Console(soft_wrap=True).print)


def audit(arguments: list[str]) -> None:
    """The pairs a run's model does not believe, what it would rather say, and look-alikes."""
    from rich.console import Console

    from winnow.recipes.audit import Audit, run_audit

    options = _options(Audit, arguments, "audit")
    print(f"page: {run_audit(options, say=Console(soft_wrap=True).print)}")


def tasks(arguments: list[str]) -> None:
    """The papers' evaluation sets: how each is measured, which are here, how to get the others."""
    from rich.console import Console

    from winnow.recipes.tasks import Tasks, run_tasks

    run_tasks(_options(Tasks, arguments, "tasks"), say=Console(soft_wrap=True).print)


def compare(arguments: list[str]) -> None:
    """Two models on the same samples: differences, how sure they are, and who wins on how many."""
    from rich.console import Console

    from winnow.recipes.compare import Compare, run_compare

    run_compare(_options(Compare, arguments, "compare"), say=Console(soft_wrap=True).print)


def robustness(arguments: list[str]) -> None:
    """Effective robustness of models, against published lines or one through other models."""
    from rich.console import Console

    from winnow.recipes.robustness import Robustness, run_robustness

    run_robustness(_options(Robustness, arguments, "robustness"), say=Console(soft_wrap=True).print)


def export(arguments: list[str]) -> None:
    """A model as open_clip, transformers or ONNX have it, loaded back, compared, with a card."""
    from rich.console import Console

    from winnow.recipes.export import Export, run_export

    options = _options(Export, arguments, "export")
    print(f"export: {run_export(options, say=Console(soft_wrap=True).print)}")


def push(arguments: list[str]) -> None:
    """Upload an export to the Hugging Face Hub."""
    from winnow.recipes.push import Push, run_push

    print(f"uploaded: {run_push(_options(Push, arguments, 'push'))}")


def report(arguments: list[str]) -> None:
    """One self-contained html page of a curation and its runs."""
    from winnow.recipes.report import Report, run_report

    print(f"report: {run_report(_options(Report, arguments, 'report'))}")


def explore(arguments: list[str]) -> None:
    """A page on this machine over pairs and a model: search by text and by picture."""
    from winnow.recipes.explore import Explore, run_explore

    run_explore(
        _options(Explore, arguments, "explore"),
        ready=lambda address: print(address, flush=True),
        say=lambda line: print(f"winnow: {line}", file=sys.stderr),
    )


VERBS: dict[str, Callable[[list[str]], None]] = {
    "demo": demo,
    "curate": curate,
    "sweep": sweep,
    "explain": explain,
    "materialise": materialise,
    "concepts": concepts,
    "doctor": doctor,
    "train": train,
    "ablate": ablate,
    "evaluate": evaluate,
    "audit": audit,
    "tasks": tasks,
    "compare": compare,
    "robustness": robustness,
    "report": report,
    "explore": explore,
    "export": export,
    "push": push,
}


def _overview() -> str:
    verbs = [f"  {name:<13}{_first_line(verb)}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: winnow COMMAND ...",
            "",
            "Train better CLIP models from noisy image-text data.",
            "",
            *verbs,
            "",
            "`winnow COMMAND --help` says what a command takes.",
        ]
    )


def _first_line(described: Callable[..., object]) -> str:
    return (described.__doc__ or "").partition("\n")[0]


def _options(
    kind: type[Options], arguments: list[str], command: str, *, default: Any = None
) -> Options:
    import tyro

    return tyro.cli(
        kind,
        args=arguments,
        prog=f"winnow {command}",
        default=default,
        # A rule or a tower is chosen by name (`objective:hard-negative-nce`), and the fields of
        # the one in force can be set wherever they stand.
        config=(tyro.conf.CascadeSubcommandArgs,),
    )


def _complain(sentence: str, status: int) -> int:
    print(f"winnow: {sentence}", file=sys.stderr)
    return status
