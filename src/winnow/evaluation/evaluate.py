"""Measure a model on evaluation sets: embed each once, run the protocols, write what came out.

Under torchrun all ranks embed, each its share; the first alone measures and writes.
"""

import datetime
import importlib.metadata
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from winnow.distributed import world
from winnow.evaluation.embed import Embedder
from winnow.evaluation.linear_probe import LinearProbe
from winnow.evaluation.outcome import Outcome, Scored
from winnow.evaluation.probes import FewShot, measure_few_shot, measure_linear_probe
from winnow.evaluation.protocols import (
    measure_multi_label,
    measure_retrieval,
    measure_statements,
    measure_zero_shot,
)
from winnow.evaluation.results import (
    Result,
    check_folder,
    read_results,
    write_predictions,
    write_results,
)
from winnow.evaluation.shifts import effective_robustness_rows, measure_on_subsets
from winnow.evaluation.subject import (
    PROBES,
    PROTOCOLS,
    Subject,
    UnsuitableError,
    open_subjects,
)
from winnow.evaluation.task_table import task_table
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something that was asked for and not measured."""

    task: str
    why: str
    """One sentence, with what to do about it."""
    is_missing: bool = False
    """Whether the set itself is not there."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one call of `evaluate` measured, and what it did not."""

    results: tuple[Result, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, kw_only=True)
class Protocols:
    """What is measured, and how."""

    names: tuple[str, ...] = ()
    """Of PROTOCOLS; none: all that fit nothing, where a set has what they need."""
    caption: str = "{}"
    """What a caption is put into before it is embedded for retrieval."""
    linear_probe: LinearProbe = field(default_factory=LinearProbe)
    few_shot: FewShot = field(default_factory=FewShot)

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in PROTOCOLS]
        if unknown:
            raise InputError(
                f"there is no protocol {unknown[0]!r}; there are {', '.join(PROTOCOLS)}"
            )
        if "{}" not in self.caption:
            raise InputError(f"the caption template {self.caption!r} has no {{}} for the caption")

    def of(self, subject: Subject) -> tuple[str, ...]:
        """Those to run on a set."""
        if self.names:
            return self.names
        fit_nothing = [name for name in PROTOCOLS if name not in PROBES]
        return tuple(name for name in fit_nothing if subject.lacks(name) is None)


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
    InputError before the model runs on any. Results are written set by set. Ranking and fitting
    happen on `device`.
    """
    encoder = embedder.encoder
    # What they cannot be added to is said before hours of embedding.
    check_folder(out, model=encoder.name, fingerprint=encoder.fingerprint)
    subjects, missing = open_subjects(
        sets, protocols.names, embedder=embedder, caption=protocols.caption
    )
    skipped = [Skipped(task=task, why=why, is_missing=True) for task, why in missing.items()]
    if world().size > 1:
        # All is embedded together before one rank goes on alone.
        for subject in subjects:
            subject.embed(protocols.of(subject))
    if world().rank > 0:
        return Evaluation(results=(), skipped=())
    results: list[Result] = []
    for subject in subjects:
        for protocol in protocols.of(subject):
            try:
                results += _measure(subject, protocol, protocols, out, device=device)
            except UnsuitableError as error:
                why = f"{protocol} needs {error}"
                skipped.append(Skipped(task=subject.test.name, why=why))
    if results:
        results += _robustness(out)
    return Evaluation(results=tuple(results), skipped=tuple(skipped))


def _measure(
    subject: Subject, protocol: str, protocols: Protocols, out: Path, *, device: str
) -> list[Result]:
    """The numbers of one protocol on one set, written. Raises UnsuitableError where it has none."""
    lacking = subject.lacks(protocol)
    if lacking is not None:
        raise UnsuitableError(lacking)
    subject.embed([protocol])
    started = time.monotonic()
    outcome = _RUN[protocol](subject, protocols, device)
    seconds = time.monotonic() - started
    write_predictions(out, subject.test.name, protocol, outcome.predictions)
    results = [_result(subject, protocol, scored, seconds) for scored in outcome.scored]
    results.sort(key=lambda row: row.metric not in _main_metrics(subject.test.name, protocol))
    if protocol == "zero-shot":
        for scored in measure_on_subsets(subject, device=device):
            results.append(_result(subject, "robustness", scored, seconds))
    write_results(out, results)
    return results


def _main_metrics(name: str, protocol: str) -> set[str]:
    """Those by which the papers measure a set; whoever reads the results finds them first."""
    return {task.metric for task in task_table().of_set(name) if task.protocol == protocol}


def _zero_shot(subject: Subject, protocols: Protocols, device: str) -> Outcome:
    if subject.test.label_kind == "multi":
        return measure_multi_label(subject.tested, subject.class_KD, device=device)
    names = subject.test.classnames
    return measure_zero_shot(subject.tested, subject.class_KD, names, device=device)


def _retrieval(subject: Subject, protocols: Protocols, device: str) -> Outcome:
    return measure_retrieval(subject.tested, subject.caption_MD, device=device)


def _statements(subject: Subject, protocols: Protocols, device: str) -> Outcome:
    return measure_statements(subject.tested, subject.statement_MD, device=device)


def _linear_probe(subject: Subject, protocols: Protocols, device: str) -> Outcome:
    return measure_linear_probe(subject, protocols.linear_probe, device=device)


def _few_shot(subject: Subject, protocols: Protocols, device: str) -> Outcome:
    return measure_few_shot(subject, protocols.few_shot, device=device)


_RUN: dict[str, Callable[[Subject, Protocols, str], Outcome]] = {
    "zero-shot": _zero_shot,
    "retrieval": _retrieval,
    "statements": _statements,
    "linear-probe": _linear_probe,
    "few-shot": _few_shot,
}


def _robustness(out: Path) -> list[Result]:
    """Effective robustness against the published lines, of all that `out` has."""
    results = effective_robustness_rows(read_results(out))
    if results:
        write_results(out, results)
    return results


def _result(subject: Subject, protocol: str, scored: Scored, seconds: float) -> Result:
    test, encoder = subject.test, subject.embedder.encoder
    return Result(
        model=encoder.name,
        model_fingerprint=encoder.fingerprint,
        task=test.name,
        dataset_fingerprint=test.fingerprint,
        split=test.split,
        protocol=protocol,
        method=scored.method,
        shots=scored.shots,
        subset=scored.subset,
        num_classes=len(test.classnames) or None,
        precision=encoder.precision,
        prompts=subject.prompts(protocol),
        settings=scored.settings or {},
        seconds=round(seconds, 3),
        version=importlib.metadata.version("winnow-clip"),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **scored.measure._asdict(),
    )
