import base64
import hashlib
import json
import re
from functools import partial
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import HOSTILE

from winnow.curation.truth import Share, TruthComparison
from winnow.data.audit import AUDIT_SCHEMA, NUMBERS
from winnow.evaluation.sets import open_set
from winnow.reports.hostile import visible
from winnow.reports.page import write_report
from winnow.types import InputError

VOID = {"meta", "img", "br", "link", "input"}
SELF_CLOSED = {"rect", "line", "path"}


class Page(HTMLParser):
    """Every tag with its attributes, all text, and the tags that were not closed."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text()
        self.tags, self.words, self.open, self.scripts = [], [], [], []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(" ".join(data.split()))

    @property
    def text(self):
        return " ".join(word for word in self.words if word)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def truth():
    return TruthComparison(
        recall={"filename": Share(count=2, of=2), HOSTILE: Share(count=0, of=1)},
        precision={},
        recall_overall=Share(count=2, of=3),
        precision_overall=Share(count=2, of=3),
        dropped={"caption-file-name": {"filename": 2}, "caption-repeated": {"sound": 1}},
    )


@pytest.fixture
def whole(tmp_path, selection, runs, tasks, truth):
    out = tmp_path / "pages" / "report.html"
    options = {"title": "A title", "notes": [HOSTILE], "truth": truth}
    assert write_report(out, selection=selection, runs=runs, tasks=tasks, **options) == out
    return Page(out)


def test_the_page_is_well_formed(whole):
    assert whole.open == []
    assert len(whole.of("section")) == 7
    # Concepts, whose page is in test_concepts_page.py, and protocols that were not asked for.
    assert [attributes.get("class") for attributes in whole.of("p")].count("missing") == 2


def test_the_page_loads_nothing(whole):
    assert {"link", "iframe", "object", "embed", "base"}.isdisjoint(dict(whole.tags))
    loading = ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "background")
    for _, attributes in whole.tags:
        for name in loading:
            assert attributes.get(name, "#").startswith(("data:", "#"))
    for forbidden in ("http://", "https://", "url(", "@import"):
        assert forbidden not in whole.source
    policies = [a["content"] for a in whole.of("meta") if "http-equiv" in a]
    (style,) = re.findall("<style>(.*?)</style>", whole.source, re.DOTALL)
    style, script = (
        base64.b64encode(hashlib.sha256(words.encode()).digest()).decode()
        for words in (style, whole.scripts[-1])
    )
    assert policies == [
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; "
        f"style-src-attr 'unsafe-inline'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    ]


def test_a_page_without_pairs_has_nothing_to_search_in(tmp_path, runs):
    page = Page(write_report(tmp_path / "p.html", selection=None, runs=runs, tasks={}, title="t"))
    assert page.of("script") == [{}]
    assert {"id": "search-area", "hidden": None} not in page.of("div")


def test_hostile_words_are_shown_and_never_run(whole):
    # Caption, detail of a reason, class name, caption of a query, note, recipe, kind of noise.
    assert whole.text.count("<script>alert(1)</script>") >= 7
    assert "{{ 7 * 7 }}" in whole.text
    # The pairs to search in, which are data, and the script that searches, which has none of them.
    assert whole.of("script") == [{"type": "application/json", "id": "pairs"}, {}]
    assert "alert" not in whole.scripts[1]
    assert HOSTILE in {caption for _, _, caption, _ in json.loads(whole.scripts[0])}
    assert "innerHTML" not in whole.source
    for _, attributes in whole.tags:
        assert not [name for name in attributes if name.startswith("on")]


def test_the_numbers_of_every_stage_are_on_the_page(whole, runs):
    assert "6 pairs seen in 1 shard" in whole.text
    assert "kept, 33.3 %" in whole.text
    assert "caption-file-name · 2 dropped" in whole.text
    assert "These rules dropped nothing: caption-url ." in whole.text
    assert "truncated · 1 that cannot be read" in whole.text
    assert "66.7 % was dropped (2 of 3)" in whole.text
    assert "100.0 72.2–100.0 · ×10" in whole.text
    assert "objective.kind InfoNCE <script>" in whole.text
    assert "batch_size 64 64" not in whole.text
    assert "400 25,600" in whole.text  # steps and samples of the last whole row


def test_pictures_are_inside(whole):
    pictures = [a["src"] for a in whole.of("img")]
    assert all(picture.startswith("data:image/webp;base64,") for picture in pictures)
    # 5 readable pairs of the selection, 4 of the task, 5 by each of 2 runs for 2 captions, 2 with
    # the captions found for them.
    assert len(pictures) == 5 + 4 + 2 * 2 * 5 + 2
    assert len(whole.source) < 3_000_000


def test_the_same_files_give_the_same_page(tmp_path, selection, runs, tasks, whole):
    again = write_report(
        tmp_path / "again.html", selection=selection, runs=runs, tasks=tasks, title="A title"
    )
    twice = write_report(
        tmp_path / "twice.html", selection=selection, runs=runs, tasks=tasks, title="A title"
    )
    assert again.read_bytes() == twice.read_bytes()


def test_with_nothing_at_all_the_page_says_what_is_missing(tmp_path):
    page = Page(write_report(tmp_path / "p.html", selection=None, runs=[], tasks={}, title="t"))
    assert [a.get("class") for a in page.of("p")].count("missing") == 7
    assert "No selection was given" in page.text
    assert "No run was evaluated" in page.text


def test_missing_files_leave_their_part_out_and_say_so(tmp_path, selection, runs, tasks):
    (runs[0] / "metrics.jsonl").unlink()
    (runs[1] / "recipe.json").unlink()
    (runs[0] / "evaluation" / "results.jsonl").unlink()
    for file in (runs[0] / "evaluation" / "predictions").iterdir():
        file.unlink()
    (tmp_path / "shards" / "0.tar").unlink()
    tasks["nowhere"] = partial(open_set, tmp_path / "nowhere")
    page = Page(
        write_report(tmp_path / "p.html", selection=selection, runs=runs, tasks=tasks, title="t")
    )
    assert "a has no metrics.jsonl" in page.text
    assert "Not everything is shown:" in page.text
    assert "No examples of nowhere: no run has predictions" in page.text
    assert "kept, 33.3 %" in page.text
    assert "100.0" in page.text
    assert page.open == []


def test_a_folder_of_results_alone_is_a_model_that_was_not_trained_here(tmp_path, runs, tasks):
    first = (runs[0] / "evaluation").rename(tmp_path / "vit")
    runs = [first, runs[1]]
    page = Page(
        write_report(tmp_path / "p.html", selection=None, runs=runs, tasks=tasks, title="t")
    )
    assert page.open == []
    assert "vit · b" in page.text
    assert "60.0 31.3–83.2" in page.text and "100.0 72.2–100.0" in page.text
    assert "vit has no metrics.jsonl, so no curve." in page.text
    # Its predictions are found: pictures that some model has right, and the difference of both.
    assert "No examples" not in page.text and "+40.0" in page.text
    # The other run has its colour in every part.
    assert re.findall(r'class="smooth (c\d) solid"', page.source) == ["c1"] * 4
    training = page.source.partition("<h2>Training</h2>")[2].partition("</section>")[0]
    assert re.findall(r'class="dot (c\d)"></i><bdi>(\w+)', training) == [("c1", "b")] * 2
    alone = write_report(tmp_path / "p.html", selection=None, runs=[first], tasks={}, title="t")
    assert "No run has a metrics.jsonl" in Page(alone).text


def test_a_selection_that_is_not_there_is_named(tmp_path):
    folder = tmp_path / "selections" / "none"
    with pytest.raises(InputError, match=r"holds no selection \(summary.json is missing\)"):
        write_report(tmp_path / "p.html", selection=folder, runs=[], tasks={}, title="t")


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError, match=r"is no run \(no recipe.json\), nor are there re"):
        write_report(tmp_path / "p.html", selection=None, runs=[tmp_path], tasks={}, title="t")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("recipe.json", "[]"),
        ("recipe.json", '{"objective": '),
        ("metrics.jsonl", '{"st\n{"step": 1}\n'),
        ("metrics.jsonl", '{"loss": 1}\n'),
        ("evaluation/results.jsonl", "{}\n"),
        ("evaluation/predictions/pixels-test-zero-shot.parquet", "PAR1"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(tmp_path, runs, tasks, file, content):
    (runs[0] / file).write_text(content)
    with pytest.raises(InputError, match=file):
        write_report(tmp_path / "p.html", selection=None, runs=runs, tasks=tasks, title="t")


@pytest.mark.parametrize("content", ["{}", "", "[1]"])
def test_a_damaged_summary_is_named(tmp_path, selection, content):
    (selection / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"summary\.json"):
        write_report(tmp_path / "p.html", selection=selection, runs=[], tasks={}, title="t")


def test_damaged_verdicts_leave_the_numbers_on_the_page(tmp_path, selection):
    (selection / "verdicts" / "00000.parquet").write_bytes(b"PAR1")
    out = tmp_path / "p.html"
    page = Page(write_report(out, selection=selection, runs=[], tasks={}, title="t"))
    assert "Not everything is shown:" in page.text
    assert "kept, 33.3 %" in page.text


def test_a_huge_caption_does_not_make_a_huge_page(tmp_path, selection, runs):
    path = selection.parent.parent / "ledger" / "00000.parquet"
    table = pq.read_table(path)
    index = table.schema.get_field_index("caption")
    pq.write_table(
        table.set_column(index, table.schema.field(index), [["x" * 1_000_000] * 6]), path
    )
    page = write_report(tmp_path / "p.html", selection=selection, runs=[], tasks={}, title="t")
    assert page.stat().st_size < 100_000


def test_half_a_letter_in_a_recipe_or_a_name_is_written_out(tmp_path, runs):
    (runs[1] / "recipe.json").write_text('{"objective": {"kind": "\\ud800\\u202e"}}')
    runs[1] = runs[1].rename(runs[1].with_name("b\udcff"))
    page = Page(write_report(tmp_path / "p.html", selection=None, runs=runs, tasks={}, title="t"))
    assert "a · b⟨U+DCFF⟩" in page.text
    assert "objective.kind InfoNCE ⟨U+D800⟩⟨U+202E⟩" in page.text
    assert '"kind": "⟨U+D800⟩⟨U+202E⟩"' in page.text


def test_a_megabyte_in_a_recipe_is_cut_and_counted(tmp_path, runs):
    (runs[1] / "recipe.json").write_text(json.dumps({"objective": {"kind": "y" * 1_000_000}}))
    out = write_report(tmp_path / "p.html", selection=None, runs=runs, tasks={}, title="t")
    assert out.stat().st_size < 500_000
    assert "y" * 1_000 + "… (+999,000 characters)" in out.read_text()
    assert "y" * 50_001 not in out.read_text()


@pytest.mark.parametrize("name", ["x" * 5_000, "nul\0", "a/../../b"])
def test_a_set_whose_name_no_file_can_have_is_shown_without_predictions(tmp_path, runs, name):
    path = runs[0] / "evaluation" / "results.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    path.write_text(path.read_text() + json.dumps(row | {"task": name}) + "\n")
    page = Page(write_report(tmp_path / "p.html", selection=None, runs=runs, tasks={}, title="t"))
    assert (visible(name, longest=60)) in page.text


def test_of_thousands_of_numbers_the_first_are_listed(tmp_path, runs):
    path = runs[0] / "evaluation" / "results.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    many = [json.dumps(row | {"metric": f"metric-{n}", "is_main": False}) for n in range(3_000)]
    before = path.read_text()
    path.write_text(before + "\n".join(many) + "\n")
    shown = 2_000 - before.count("\n")
    out = write_report(tmp_path / "p.html", selection=None, runs=runs[:1], tasks={}, title="t")
    text = Page(out).text
    assert f"metric-{shown - 1} " in text and f"metric-{shown} " not in text
    assert f"The first 2,000 of {5_000 - shown:,}; all are in results.jsonl of each run." in text
    assert out.stat().st_size < 1_500_000


def test_the_audit_of_a_run_stands_before_where_all_is_from(tmp_path, runs):
    rows = [
        {"uid": f"{n:032x}", "shard": "s", "key": "k", "caption": "c", "times": 1}
        | dict.fromkeys(NUMBERS, n / 9)
        for n in range(9)
    ]
    facts = {"fingerprint": "f", "steps": "400", "version": "0", "segments": "none"}
    metadata = {f"winnow.{name}": value for name, value in facts.items()}
    table = pa.Table.from_pylist(rows, AUDIT_SCHEMA).replace_schema_metadata(metadata)
    options = {"selection": None, "runs": runs, "tasks": {}, "title": "t"}
    for number, run in enumerate(runs):
        pq.write_table(table, run / "audit.parquet")
        page = Page(write_report(tmp_path / "p.html", **options))
        parts = re.findall(r"<h2>(.*?)</h2>", page.source)
        audits = [["Audit"], ["Audit of a", "Audit of b"]][number]
        assert parts[-2 - number :] == [*audits, "Provenance"]
        assert page.text.count("9 pairs, seen in 400 steps") == number + 1
        assert page.open == []
