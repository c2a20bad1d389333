"""Examples of every kind of set, from predictions that are written out."""

import io
import re
from typing import NamedTuple

import pyarrow as pa
import pytest
from hostile import HOSTILE
from PIL import Image
from result_rows import measured
from test_page import Page

from winnow.evaluation.results import write_results
from winnow.reports import pictures
from winnow.reports.examples import MAX_TASKS, SHOWN, ShownSet, read_examples
from winnow.reports.page import write_report
from winnow.reports.pictures import choose
from winnow.reports.runs import read_runs
from winnow.types import InputError


class Sample(NamedTuple):
    key: str
    image: bytes
    captions: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()


def png(value):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value % 256, 0, 0)).save(file, "png")
    return file.getvalue()


class Samples:
    """A set that says how far it was read."""

    def __init__(self, samples, *, classnames=()):
        self.samples, self.classnames = samples, classnames
        self.passes, self.given = 0, 0

    def open(self):
        return ShownSet(classnames=self.classnames, read=self.read)

    def read(self):
        self.passes += 1
        for sample in self.samples:
            self.given += 1
            yield sample


@pytest.fixture
def run(tmp_path):
    """Makes a run from its predictions: (task, protocol) -> columns."""

    def make(name, predictions):
        folder = tmp_path / name / "evaluation"
        folder.mkdir(parents=True)
        (tmp_path / name / "recipe.json").write_text("{}")
        for (task, protocol), columns in predictions.items():
            row = measured(name, task=task, protocol=protocol)
            write_results(folder, [row], predictions=pa.table(columns))
        return tmp_path / name

    return make


def labelled(keys, *, label=0, nearest=0):
    """Zero-shot predictions: every picture has one label, and one class comes first."""
    top = [nearest, *[n for n in range(5) if n != nearest]]
    return {
        "key": keys,
        "label": [label] * len(keys),
        "rank": [top.index(label) + 1] * len(keys),
        "top5": [top] * len(keys),
        "scores": [[0.5, 0.4, 0.3, 0.2, 0.1]] * len(keys),
    }


NAMES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")


def only(examples):
    (found,), problems = examples
    assert problems == []
    return found


def test_a_set_of_several_labels_shows_them_all_and_the_five_nearest(run):
    columns = {
        "key": ["p", "q", "r", "s"],
        "labels": [[0, 6], [2], [], [1]],
        "class_scores": [
            [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
            [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
            [0.9, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
            [0.7, 0.7, 0.3, 0.4, 0.5, 0.6, 0.1],  # a tie is not right
        ],
    }
    samples = Samples([Sample(key, png(1)) for key in "pqrs"], classnames=NAMES)
    runs = read_runs([run("a", {("tags", "zero-shot"): columns})])
    found = only(read_examples(runs, {"tags": samples.open}))
    assert (found.n, found.num_some_right) == (4, 1)
    (shown,) = found.some_right
    assert shown.title == "ant, gnu"
    (answers,) = shown.answers
    assert [(one.name, one.is_right) for one in answers] == [
        ("gnu", True),
        ("fox", False),
        ("elk", False),
        ("dog", False),
        ("cat", False),
    ]
    assert [one.score for one in answers] == pytest.approx([0.7, 0.6, 0.5, 0.4, 0.3])
    wrong = {shown.title: shown.answers[0] for shown in found.none_right}
    assert wrong.keys() == {"cat", "none of the classes", "bee"}
    assert [one.is_right for one in wrong["cat"]] == [False] * 4 + [True]
    assert [one.name for one in wrong["bee"][:2]] == ["ant", "bee"]


def test_statements_are_those_of_their_picture_in_the_order_of_each_run(run):
    samples = Samples(
        [
            Sample("q1", png(1), statements=("a hat", "no hat", "two hats")),
            Sample("q2", png(2), statements=("rain", HOSTILE)),
        ]
    )

    def asked(rank, scores):
        return {"key": ["q1", "q2"], "answer": [2, 1], "rank": rank, "scores": scores}

    runs = [
        run("a", {("vqa", "statements"): asked([1, 2], [[0.1, 0.2, 0.3], [0.5, 0.4]])}),
        run("b", {("vqa", "statements"): asked([3, 2], [[0.3, 0.2, 0.1], [0.5, 0.5]])}),
    ]
    found = only(read_examples(read_runs(runs), {"vqa": samples.open}))
    assert (found.n, found.num_some_right) == (2, 1)
    (right,), (wrong,) = found.some_right, found.none_right
    assert (right.title, wrong.title) == ("two hats", HOSTILE)
    by_run = [[(one.name, one.is_right) for one in answers] for answers in right.answers]
    assert by_run[0] == [("two hats", True), ("no hat", False), ("a hat", False)]
    assert by_run[1] == by_run[0][::-1]
    assert [one.name for one in wrong.answers[1]] == ["rain", HOSTILE]
    page = runs[0].parent / "p.html"
    write_report(page, selection=None, runs=runs, tasks={"vqa": samples.open}, title="t")
    assert Page(page).of("script") == [{}]
    assert Page(page).text.count(HOSTILE) == 3


def test_a_set_is_read_once_and_only_what_is_shown_is_decoded(run, monkeypatch):
    keys = [f"p{n}" for n in range(300)]
    samples = Samples([Sample(key, png(n)) for n, key in enumerate(keys)], classnames=NAMES)
    decoded = []
    honest = pictures.thumbnail
    monkeypatch.setattr(pictures, "thumbnail", lambda data: decoded.append(1) or honest(data))
    runs = read_runs([run("a", {("s", "zero-shot"): labelled(keys)})])
    found = only(read_examples(runs, {"s": samples.open}))
    chosen = choose(keys, SHOWN)
    last = max(int(key.removeprefix("p")) for key in chosen)
    assert (samples.passes, samples.given, len(decoded)) == (1, last + 1, SHOWN)
    assert (found.n, found.num_some_right, len(found.some_right)) == (300, 300, SHOWN)
    assert all(shown.picture.startswith("data:image/webp") for shown in found.some_right)


def broken():
    yield Sample("p0", png(0))
    raise InputError("0.tar is not whole")


@pytest.mark.parametrize(
    ("columns", "samples", "says"),
    [
        (labelled(["p0", "p1"]), [Sample("p0", png(0))], r"picture 'p1' is not in it"),
        (labelled(["p0"], label=9, nearest=9), [Sample("p0", png(0))], "have answer 9, and .* 7"),
        ({"key": ["p0"], "rank": [1]}, [Sample("p0", png(0))], "predictions of a lack columns"),
        (labelled(["p0", "p1"]), broken(), "0.tar is not whole"),
    ],
)
def test_what_cannot_be_shown_is_a_line_and_the_other_sets_are_shown(run, columns, samples, says):
    good = Samples([Sample("p0", png(0))], classnames=NAMES)
    predictions = {("bad", "zero-shot"): columns, ("good", "zero-shot"): labelled(["p0"])}
    tasks = {"bad": Samples(samples, classnames=NAMES).open, "good": good.open}
    (found,), (problem,) = read_examples(read_runs([run("a", predictions)]), tasks)
    assert found.task == "good"
    assert re.match(f"No examples of bad: .*{says}", problem)


def test_runs_on_different_pictures_have_no_examples_together(run):
    runs = [run(name, {("s", "zero-shot"): labelled([name])}) for name in "ab"]
    samples = Samples([Sample(name, png(0)) for name in "ab"], classnames=NAMES)
    found, (problem,) = read_examples(read_runs(runs), {"s": samples.open})
    assert (found, samples.passes) == ([], 0)
    assert "measured on different pictures" in problem


def test_sets_without_predictions_are_not_opened_and_take_no_place(run):
    names = [f"s{n}" for n in range(MAX_TASKS + 2)]
    sets = {name: Samples([Sample("p0", png(0))], classnames=NAMES) for name in names}
    predictions = {(name, "zero-shot"): labelled(["p0"]) for name in names[1:]}
    predictions[names[0], "few-shot"] = {"key": ["p0"], "label": [0], "predicted": [0]}
    runs = read_runs([run("a", predictions)])
    found, problems = read_examples(runs, {name: one.open for name, one in sets.items()})
    assert [one.task for one in found] == names[1 : MAX_TASKS + 1]
    assert [one.passes for one in sets.values()] == [0] + [1] * MAX_TASKS + [0]
    assert problems == [
        "No examples of s0: no run has predictions; measure with `winnow evaluate`",
        f"Of {MAX_TASKS + 2} tasks, the first {MAX_TASKS} with examples are shown.",
    ]


def test_a_run_without_predictions_leaves_its_place_empty(run):
    runs = [run("a", {}), run("b", {("s", "zero-shot"): labelled(["p0"], label=1, nearest=2)})]
    samples = Samples([Sample("p0", b"no picture")], classnames=NAMES)
    (shown,) = only(read_examples(read_runs(runs), {"s": samples.open})).none_right
    assert (shown.title, shown.picture, shown.answers[0]) == ("bee", None, [])
    assert [one.name for one in shown.answers[1] if one.is_right] == ["bee"]
