"""Concepts on the page: what the caption names, what the teacher sees, what students have learned.

The classes above `arrange` are what a page is given, plain values that no file of the page's has:
vocabularies, teachers and heads are of another room. `arrange` brings them into the page's form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from winnow.reports.charts import Bar, BarGroup, Dot, agreement_chart, bar_chart
from winnow.reports.pictures import shorten, thumbnail

TOP = 5
"""Most probable concepts of the teacher and of each student that a pair's table has."""

MAX_NAMED = 12
"""Concepts of the caption that a pair's table has where no model names them."""

LISTED = 30
"""Concepts of each list of a vocabulary that are shown."""


class ConceptShare(NamedTuple):
    """How much of the picture a model thinks is this concept."""

    concept: str
    share: float
    """A probability or a mass, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class SampleHead:
    """One head's concepts of one pair."""

    head: str
    """objects or attributes."""
    caption: tuple[str, ...]
    """What the caption names, as far as the vocabulary has it."""
    teacher: tuple[ConceptShare, ...]
    """The target: its k most probable concepts, adding up to 1."""
    students: Mapping[str, tuple[ConceptShare, ...]]
    """By run, named as on the page: the most probable of all concepts, and those of caption and
    teacher as far as they are known. A run without heads is left out."""


@dataclass(frozen=True, kw_only=True)
class ConceptSample:
    """One pair."""

    caption: str
    image: bytes
    """The picture as it is encoded."""
    key: str
    shard: str
    heads: tuple[SampleHead, ...]


@dataclass(frozen=True, kw_only=True)
class ConceptCount:
    """A concept of a vocabulary."""

    concept: str
    count: int
    """Pairs that name it."""
    example: str = ""
    """A caption that does."""


@dataclass(frozen=True, kw_only=True)
class StoppedConcept:
    """A concept that the stop list took."""

    concept: str
    count: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Recall:
    """How many of a caption's concepts are among the k most probable; shares are 0 to 1."""

    k: int
    value: float
    low: float
    """Of the 95 % interval, as `high`."""
    high: float
    majority: float
    """What naming the k most frequent concepts of the training pairs would score."""


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """Probabilities of like size."""

    probability: float
    """Their mean."""
    mass: float
    """The mean of the captions' own: 1/m for each of the m concepts of a caption, else 0."""
    count: int


@dataclass(frozen=True, kw_only=True)
class HeadMeasures:
    """What a head is worth on pictures held out of its training."""

    num_held_out: int
    """Pairs with a concept of this head."""
    recall: tuple[Recall, ...]
    cross_entropy: float
    """Nats, as the next."""
    cross_entropy_of_frequencies: float
    """That of the training pairs' frequencies, the same for every picture."""
    calibration: tuple[CalibrationBin, ...]
    calibration_error: float
    """Sum over bins of |mean probability - mean target| x count / pairs, 0 to 2."""


@dataclass(frozen=True, kw_only=True)
class HeadFacts:
    """One head: its vocabulary, and what it is worth."""

    head: str
    """objects or attributes."""
    size: int
    """Concepts of the vocabulary."""
    min_count: int
    """Pairs that a concept must be in."""
    pairs_with: float
    """Share of the pairs that name one, 0 to 1."""
    most_frequent: tuple[ConceptCount, ...]
    """The most frequent first; the page shows the first LISTED, as of the next two."""
    rarest: tuple[ConceptCount, ...]
    stopped: tuple[StoppedConcept, ...]
    measures: HeadMeasures | None
    """None where there are no heads beside the targets."""


@dataclass(frozen=True, kw_only=True)
class ConceptSection:
    """All that a page shows of concepts."""

    selection: str
    teacher: str
    teacher_identity: str
    vocabulary: str
    """Its fingerprint."""
    k: int
    """Concepts of each head that a target keeps."""
    heads: tuple[HeadFacts, ...]
    samples: tuple[ConceptSample, ...]
    """Some two dozen; all are shown."""
    chosen: str
    """How the samples were chosen, a sentence."""
    problems: tuple[str, ...] = ()
    """What is missing and why, a sentence each."""


class Student(NamedTuple):
    """A run whose heads have a column in the tables."""

    name: str
    colour: int
    """As in the page's other charts."""


class Row(NamedTuple):
    """One concept of one pair."""

    concept: str
    is_named: bool
    """By the caption."""
    teacher: float | None
    students: list[float | None]
    """In order of the columns; None where it is not known."""


class Rows(NamedTuple):
    """One head's concepts of one pair."""

    head: str
    rows: list[Row]
    """The teacher's most probable first."""
    num_more: int
    """Concepts of the caption that are not shown."""


class Sample(NamedTuple):
    """One pair."""

    caption: str
    key: str
    shard: str
    picture: str | None
    heads: list[Rows]


class Head(NamedTuple):
    """One head and its charts; None where there is nothing to draw."""

    facts: HeadFacts
    recall: Markup | None
    calibration: Markup | None


@dataclass(frozen=True, kw_only=True)
class Concepts:
    """The section in the page's form."""

    section: ConceptSection
    heads: list[Head]
    students: list[Student]
    samples: list[Sample]


def arrange(section: ConceptSection, runs: Sequence[str]) -> Concepts:
    """Charts, thumbnails and tables; a student takes the colour of its place in `runs`."""
    heads = [head for sample in section.samples for head in sample.heads]
    with_heads = dict.fromkeys(name for head in heads for name in head.students)
    places = {name: place for place, name in enumerate(dict.fromkeys([*runs, *with_heads]))}
    students = [Student(name, places[name]) for name in places if name in with_heads]
    return Concepts(
        section=section,
        heads=[_head(facts) for facts in section.heads],
        students=students,
        samples=[_sample(sample, students) for sample in section.samples],
    )


def _head(facts: HeadFacts) -> Head:
    if facts.measures is None:
        return Head(facts, None, None)
    groups = [
        BarGroup(f"recall@{one.k}", [Bar(one.value, one.low, one.high)], one.majority)
        for one in facts.measures.recall
    ]
    dots = [
        Dot(
            one.probability, one.mass, f"{one.probability:.2g} to {one.mass:.2g}, n = {one.count:,}"
        )
        for one in facts.measures.calibration
    ]
    return Head(
        facts,
        bar_chart(groups) if groups else None,
        agreement_chart(dots, x_label="mean probability") if dots else None,
    )


def _sample(sample: ConceptSample, students: Sequence[Student]) -> Sample:
    return Sample(
        caption=shorten(sample.caption),
        key=sample.key,
        shard=sample.shard,
        picture=thumbnail(sample.image),
        heads=[_rows(head, students) for head in sample.heads],
    )


def _rows(head: SampleHead, students: Sequence[Student]) -> Rows:
    """The union of what the caption names and of everybody's most probable concepts."""
    teacher = dict(head.teacher)
    learned = [dict(head.students.get(student.name, ())) for student in students]
    tops = dict.fromkeys(concept for shares in (teacher, *learned) for concept in _top(shares))
    named = dict.fromkeys(head.caption)
    others = [concept for concept in named if concept not in tops]
    rows = [
        Row(concept, concept in named, teacher.get(concept), [one.get(concept) for one in learned])
        for concept in (*tops, *others[:MAX_NAMED])
    ]
    return Rows(head.head, sorted(rows, key=_order), len(others[MAX_NAMED:]))


def _order(row: Row) -> tuple[float, float, str]:
    """The teacher's share, then the largest of a student, then the alphabet."""
    known = [share for share in row.students if share is not None]
    return -(row.teacher or 0.0), -max(known, default=0.0), row.concept


def _top(shares: Mapping[str, float]) -> list[str]:
    return sorted(shares, key=lambda concept: (-shares[concept], concept))[:TOP]
