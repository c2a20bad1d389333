"""What became of every pair: counts from seen to kept, and a sample of pairs to look at.

Reasons and errors are "code: detail"; counts go by code. The counts are of all pairs; what is
measured, pictured and listed is of a sample (`curation_sample`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from winnow.config import read_json
from winnow.reports.curation_concepts import ConceptShift, read_concepts
from winnow.reports.curation_gallery import Example, listed, read_gallery
from winnow.reports.curation_histograms import Histogram, histograms
from winnow.reports.curation_sample import KEPT, UNREADABLE, Row, Sample, read_sample
from winnow.reports.insight import Insight
from winnow.types import InputError

_SUMMARY_FIELDS = {
    *("selection", "seen", "kept", "errors", "dropped", "fired", "only", "rules", "shards"),
}
_RECORD_FIELDS = {"rows", "computed", "errors"}


class Share(Protocol):
    """How many of how many."""

    @property
    def count(self) -> int: ...  # noqa: D102

    @property
    def of(self) -> int: ...  # noqa: D102

    @property
    def value(self) -> float: ...  # noqa: D102


class Truth(Protocol):
    """A selection against planted noise: winnow.curation's TruthComparison."""

    @property
    def recall(self) -> Mapping[str, Share]: ...  # noqa: D102

    @property
    def recall_overall(self) -> Share: ...  # noqa: D102

    @property
    def precision_overall(self) -> Share: ...  # noqa: D102

    @property
    def dropped(self) -> Mapping[str, Mapping[str, int]]: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Step:
    """One bar of the waterfall; the first is all that was seen, the last is what was kept."""

    label: str
    count: int
    kind: str
    """"seen", "dropped", "error" or "kept"."""
    start: float
    """Where the bar begins, as a share of all seen; `share` is its length."""
    share: float


class Effect(NamedTuple):
    """What one code accounts for, in pairs."""

    code: str
    first: int
    """Dropped with it as the first reason."""
    alone: int
    """Dropped if its rule were the only one, as far as it saw them."""
    only: int
    """Kept if its rule were left out, as far as is known."""


class Coverage(NamedTuple):
    """What an annotator looked at."""

    annotator: str
    rows: int
    computed: int
    errors: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the rules measure of the sample."""

    histograms: list[Histogram] = field(default_factory=list)
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    """Rules without a number, and why."""
    near_matches: tuple[int, int] | None = None
    """Pairs whose picture almost spells out the caption, of so many; None where unknown."""


@dataclass(frozen=True, kw_only=True)
class Curation:
    """A selection, as the page shows it."""

    name: str
    summary: dict[str, Any]
    steps: list[Step]
    effects: list[Effect]
    sample: Sample
    examples: dict[str, list[Example]]
    """By code of the first reason in the order of the rules, then of errors, and "kept"."""
    listed: list[list[Any]]
    """Pairs to search in."""
    measured: Measured
    concepts: ConceptShift | None
    coverage: list[Coverage]
    error_counts: dict[str, int]
    problem: str | None
    """Why some of it is missing."""


def read_curation(selection: Path, insight: Insight | None = None) -> Curation:
    """The selection in `selection`; without `insight`, nothing is measured and nothing marked.

    Raises InputError where there is none, or a damaged one.
    """
    selection = selection.absolute()  # what is beside it is found by its parents
    summary = _read_summary(selection)
    curated, shards = selection.parent.parent, summary["shards"]
    codes = sum(count > 0 for count in summary["dropped"].values())
    sample = read_sample(selection, len(shards), codes=codes + 2)
    in_order = _in_order(summary, sample)
    examples, problems = read_gallery(selection, in_order, shards, insight)
    measured, more = _measured(sample, insight)
    concepts, even_more = _concepts(curated, sample)
    problems = [*sample.problems, *problems, *more, *even_more]
    return Curation(
        name=summary["selection"],
        summary=summary,
        steps=_steps(summary),
        effects=_effects(summary),
        sample=sample,
        examples=examples,
        listed=listed(in_order),
        measured=measured,
        concepts=concepts,
        coverage=_coverages(curated / "annotations"),
        error_counts=summary.get("errors_by_code", {}),
        problem="; ".join(dict.fromkeys(problems)) or None,
    )


def _read_summary(selection: Path) -> dict[str, Any]:
    path = selection / "summary.json"
    if not path.is_file():
        raise InputError(
            f"{selection} holds no selection ({path.name} is missing): make one with "
            "`winnow curate`"
        )
    summary = read_json(path)
    if not isinstance(summary, dict) or not summary.keys() >= _SUMMARY_FIELDS:
        raise InputError(f"{path} is no account of a selection: make it again with `winnow curate`")
    return summary


def _in_order(summary: Mapping[str, Any], sample: Sample) -> dict[str, list[Row]]:
    """The sample's rows, dropped ones in the order of the rules, then kept ones and errors."""
    dropped = [code for code in summary["dropped"] if code in sample.rows]
    others = sorted(sample.rows.keys() - set(dropped) - {KEPT})
    kept = [KEPT] if KEPT in sample.rows else []
    return {code: sample.rows[code] for code in [*dropped, *kept, *others]}


def _measured(sample: Sample, insight: Insight | None) -> tuple[Measured, list[str]]:
    if insight is None or not len(sample.measured):
        return Measured(), []
    try:
        survey = insight.survey(sample.measured.tolist())
    except UNREADABLE as error:
        return Measured(), [f"the rules' numbers are not shown, {error}"]
    measured = Measured(
        histograms=histograms(survey.measures),
        unmeasured=survey.unmeasured,
        near_matches=survey.near_matches,
    )
    return measured, []


def _concepts(curated: Path, sample: Sample) -> tuple[ConceptShift | None, list[str]]:
    try:
        return read_concepts(curated, sample), []
    except UNREADABLE as error:
        return None, [f"concepts are not counted, {error}"]


def _coverages(folder: Path) -> list[Coverage]:
    found = [_coverage(one) for one in sorted(folder.glob("*/"))]
    return [one for one in found if one.rows]


def _coverage(folder: Path) -> Coverage:
    """Of one annotator's folder, what the records of its shards say."""
    records = [read_json(path) for path in sorted(folder.glob("*.json"))]
    sound = [one for one in records if isinstance(one, dict) and one.keys() >= _RECORD_FIELDS]
    return Coverage(
        annotator=folder.name,
        rows=sum(record["rows"] for record in sound),
        computed=sum(record["computed"] for record in sound),
        errors=sum(sum(record["errors"].values()) for record in sound),
    )


def _effects(summary: Mapping[str, Any]) -> list[Effect]:
    effects = [
        Effect(code, first, summary["fired"].get(code, 0), summary["only"].get(code, 0))
        for code, first in summary["dropped"].items()
    ]
    return [effect for effect in effects if effect.alone]


def _steps(summary: Mapping[str, Any]) -> list[Step]:
    seen = summary["seen"]
    steps = [_step("seen", seen, "seen", seen=seen)]
    remaining = seen
    falls = [(code, count, "dropped") for code, count in summary["dropped"].items()]
    for label, count, kind in [("cannot be read", summary["errors"], "error"), *falls]:
        if count:
            remaining -= count
            steps.append(_step(label, count, kind, seen=seen, start=remaining))
    return [*steps, _step(KEPT, summary["kept"], "kept", seen=seen)]


def _step(label: str, count: int, kind: str, *, seen: int, start: int = 0) -> Step:
    whole = max(seen, 1)
    return Step(label=label, count=count, kind=kind, start=start / whole, share=count / whole)
