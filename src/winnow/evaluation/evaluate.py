"""Measure a model on evaluation sets: embed each once, run the protocols, write what came out.

Under torchrun all ranks embed, each its share; the first alone measures and writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from winnow.distributed import on_every_rank, world
from winnow.evaluation.embed import Embedder
from winnow.evaluation.measuring import Measuring
from winnow.evaluation.protocols import Protocol, Protocols
from winnow.evaluation.results import RESULTS_FILE, Result, check_folder, read_results
from winnow.evaluation.shifts import refresh_robustness, unlike_imagenet
from winnow.evaluation.subject import Subject, UnsuitableError, open_subjects
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something that was asked for and not measured."""

    task: str
    why: str
    """One sentence, with what to do about it."""
    is_missing: bool = False
    """Whether the set itself is not there."""
    is_broken: bool = False
    """Whether the set is not whole, which is only seen when its pictures are decoded."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one call of `evaluate` measured, and what it did not."""

    results: tuple[Result, ...]
    skipped: tuple[Skipped, ...]
    known: int = 0
    """How many of the results had been measured before, and were read."""
    replaced: tuple[Result, ...] = ()
    """What was in the folder and went: of other weights, or of the set in another presentation."""


FIT_NOTHING = Protocols()
"""All that fit nothing, where a set has what they need."""


def evaluate(
    embedder: Embedder,
    sets: Mapping[str, Path | str],
    out: Path,
    *,
    protocols: Protocols = FIT_NOTHING,
    device: str = "cpu",
) -> Evaluation:
    """Measure a model on every set (name -> place) and write into the folder `out`.

    A set that is not there is skipped and the others go on; one that is there but not whole raises
    InputError before the model runs on any, as far as that can be seen without decoding: a picture
    that cannot be decoded only ends its own set. Results are written set by set, and what `out` has
    of the same model, pictures, prompts and options is read instead of measured. Ranking and
    fitting happen on `device`.
    """
    encoder = embedder.encoder
    # What they cannot be added to is said before hours of embedding.
    check_folder(out, model=encoder.name, fingerprint=encoder.fingerprint)
    subjects, missing = open_subjects(
        sets,
        embedder=embedder,
        with_training=protocols.fit(),
        presentation=protocols.presentation,
    )
    measuring = Measuring(out=out, protocols=protocols, device=device)
    plan = {
        f"{subject.test.name} {protocol.name}": (subject, protocol)
        for subject in subjects
        for protocol in protocols.of(subject)
    }
    there = read_results(out) if (out / RESULTS_FILE).exists() else []
    known = {name: rows for name, one in plan.items() if (rows := measuring.known(*one, there))}
    alike = on_every_rank(known)
    # All is embedded together before one rank goes on alone.
    broken = _embed_together({name: one for name, one in plan.items() if name not in alike})
    if world().rank > 0:
        return Evaluation(results=(), skipped=())
    results, replaced = list[Result](), list[Result]()
    skipped = [Skipped(task=task, why=why, is_missing=True) for task, why in missing.items()]
    for name, (subject, protocol) in plan.items():
        try:
            if name in broken:
                raise broken[name]
            found, gone = (
                (known[name], []) if name in alike else measuring.measure(subject, protocol)
            )
            results += found
            replaced += gone
        except UnsuitableError as error:
            why = f"{protocol.name} needs {error}"
            skipped.append(Skipped(task=subject.test.name, why=why))
        except InputError as error:
            skipped.append(Skipped(task=subject.test.name, why=str(error), is_broken=True))
    if results:
        skipped += [Skipped(task=task, why=why) for task, why in unlike_imagenet(results)]
        results += refresh_robustness(out)
    return Evaluation(
        results=tuple(results),
        # A picture that cannot be read stands in the way of every protocol.
        skipped=tuple(dict.fromkeys(skipped)),
        known=sum(len(known[name]) for name in alike),
        replaced=tuple(replaced),
    )


def _embed_together(plan: Mapping[str, tuple[Subject, Protocol]]) -> dict[str, InputError]:
    """Where there are several ranks; what is broken, by its name in the plan."""
    broken = {}
    if world().size > 1:
        for name, (subject, protocol) in plan.items():
            try:
                protocol.embed(subject)
            except InputError as error:
                broken[name] = error
    return broken
