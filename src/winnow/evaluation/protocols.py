"""The protocols: what each needs of a set, and how it is measured. One more is one more row here.

The measuring itself is in `without_fitting.py` and `probes.py`.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from winnow.evaluation.linear_probe import LinearProbe
from winnow.evaluation.outcome import Outcome
from winnow.evaluation.probes import FewShot, measure_few_shot, measure_linear_probe
from winnow.evaluation.subject import Presentation, Subject
from winnow.evaluation.without_fitting import (
    measure_multi_label,
    measure_retrieval,
    measure_statements,
    measure_zero_shot,
)
from winnow.types import InputError


@dataclass(frozen=True, kw_only=True)
class Protocols:
    """What is measured, and how."""

    names: tuple[str, ...] = ()
    """Of PROTOCOLS; none: all that fit nothing, where a set has what they need."""
    presentation: Presentation = field(default_factory=Presentation)
    linear_probe: LinearProbe = field(default_factory=LinearProbe)
    few_shot: FewShot = field(default_factory=FewShot)

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in PROTOCOLS]
        if unknown:
            raise InputError(
                f"there is no protocol {unknown[0]!r}; there are {', '.join(PROTOCOLS)}"
            )

    def fit(self) -> bool:
        """Whether any of them is fitted to a training split."""
        return any(PROTOCOLS[name].fits for name in self.names)

    def of(self, subject: Subject) -> tuple["Protocol", ...]:
        """Those to run on a set."""
        if self.names:
            return tuple(PROTOCOLS[name] for name in self.names)
        fit_nothing = (protocol for protocol in PROTOCOLS.values() if not protocol.fits)
        return tuple(protocol for protocol in fit_nothing if protocol.lacks(subject) is None)


class Protocol(NamedTuple):
    """One way to measure a model on a set."""

    name: str
    lacks: Callable[[Subject], str | None]
    """What it needs and the set has not; None where it can run."""
    needs: Callable[[Subject], Sequence[object]]
    """The features it needs beside those of the pictures that are measured on."""
    measure: Callable[[Subject, Protocols, str], Outcome]
    """Its numbers; ranks or fits on the device that is named."""
    words: Callable[[Subject], object]
    """What texts were put into; None where no text was, or none into another."""
    settings: Callable[[Protocols], LinearProbe | FewShot | None] = lambda asked: None
    """Where it fits something, on a training split: how."""
    fits: bool = False

    def embed(self, subject: Subject) -> None:
        """Have everything embedded that it needs, on all ranks in one order.

        Raises InputError for a picture that cannot be read.
        """
        if self.lacks(subject) is None:
            _ = subject.tested, self.needs(subject)

    def prompts(self, subject: Subject) -> str:
        """16 hex digits over `words`; empty where there are none."""
        words = self.words(subject)
        return "" if words is None else _digest(words)

    def asked(self, subject: Subject, protocols: Protocols) -> str:
        """16 hex digits over what its numbers depend on beside model, test pictures and prompts;
        empty where that is nothing."""
        settings = self.settings(protocols)
        if settings is None:
            return ""
        splits = (subject.train, subject.validation)
        return _digest((asdict(settings), [split.fingerprint for split in splits if split]))


def _digest(of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:16]


def _no_labels(subject: Subject) -> str | None:
    return "labels" if subject.test.label_kind == "none" else None


def _no_captions(subject: Subject) -> str | None:
    return None if subject.test.has_captions else "captions"


def _no_statements(subject: Subject) -> str | None:
    return None if subject.test.has_statements else "statements"


def _nothing_to_fit(subject: Subject) -> str | None:
    if subject.test.label_kind != "single":
        return "pictures with one label each"
    return None if subject.train is not None else "a split called train that is not measured on"


def _zero_shot(subject: Subject, asked: Protocols, device: str) -> Outcome:
    if subject.test.label_kind == "multi":
        return measure_multi_label(subject.tested, subject.class_KD, device=device)
    names = subject.test.classnames
    return measure_zero_shot(subject.tested, subject.class_KD, names, device=device)


def _retrieval(subject: Subject, asked: Protocols, device: str) -> Outcome:
    return measure_retrieval(subject.tested, subject.caption_MD, device=device)


def _statements(subject: Subject, asked: Protocols, device: str) -> Outcome:
    return measure_statements(subject.tested, subject.statement_MD, device=device)


def _linear_probe(subject: Subject, asked: Protocols, device: str) -> Outcome:
    return measure_linear_probe(subject, asked.linear_probe, device=device)


def _few_shot(subject: Subject, asked: Protocols, device: str) -> Outcome:
    return measure_few_shot(subject, asked.few_shot, device=device)


def _prompts(subject: Subject) -> object:
    return subject.test.classnames, subject.test.templates


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="zero-shot",
            lacks=_no_labels,
            needs=lambda subject: (subject.class_KD,),
            measure=_zero_shot,
            words=_prompts,
        ),
        Protocol(
            name="retrieval",
            lacks=_no_captions,
            needs=lambda subject: (subject.caption_MD,),
            measure=_retrieval,
            words=lambda subject: None if subject.caption == "{}" else subject.caption,
        ),
        Protocol(
            name="statements",
            lacks=_no_statements,
            needs=lambda subject: (subject.statement_MD,),
            measure=_statements,
            words=lambda subject: None,
        ),
        Protocol(
            name="linear-probe",
            lacks=_nothing_to_fit,
            needs=lambda subject: (subject.training, subject.validating),
            measure=_linear_probe,
            words=lambda subject: None,
            settings=lambda asked: asked.linear_probe,
            fits=True,
        ),
        Protocol(
            name="few-shot",
            lacks=_nothing_to_fit,
            needs=lambda subject: (subject.training, subject.class_KD),
            measure=_few_shot,
            words=_prompts,
            settings=lambda asked: asked.few_shot,
            fits=True,
        ),
    )
}
"""By name, in the order in which they are run."""
