from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from curation_samples import picture, write_shard

from winnow.curation.annotate import annotate
from winnow.curation.annotators.annotator import ERROR, Annotate, Annotator
from winnow.curation.annotators.parse import SCHEMA as PARSED
from winnow.curation.annotators.spotting import SPOTTED
from winnow.curation.explain import (
    explain,
    graph_of,
    kept_instead,
    lines_seen,
    looked_at,
    loose_pair,
    pairs_at,
    read_summary,
    selections_of,
    stored_verdict,
)
from winnow.curation.insight import Insight
from winnow.curation.ledger_files import PLACE, Ledger, describe_place
from winnow.curation.lookup import find_places, rows_at
from winnow.curation.offending import offending
from winnow.curation.rules.caption_file_name import CaptionFileName
from winnow.curation.rules.caption_markup import CaptionMarkup
from winnow.curation.rules.caption_placeholder import CaptionPlaceholder
from winnow.curation.rules.caption_url import CaptionUrl
from winnow.curation.rules.complexity import Complexity
from winnow.curation.rules.text_spotting import TextSpotting
from winnow.curation.select import select
from winnow.curation.selections import clean
from winnow.curation.stages import plan_stages
from winnow.data.folder import Folder
from winnow.data.sources import open_source
from winnow.types import InputError

RULES = (*clean(), Complexity(least=4))


@dataclass(frozen=True, kw_only=True)
class CountWords(Annotator):
    """As complex as it has words; a caption with "unlucky" fails."""

    @property
    def name(self) -> str:
        return "words"

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([("complexity", pa.int32())])

    def identity(self) -> str:
        return "words 1"

    def open(self) -> Annotate:
        def annotate(rows: pa.RecordBatch, _: Iterable[bytes]) -> pa.RecordBatch:
            found = [
                {"error": "parse failed: by design"}
                if "unlucky" in caption
                else {"complexity": len(caption.split())}
                for caption in rows["caption"].to_pylist()
            ]
            return pa.RecordBatch.from_pylist(found, schema=self.schema.append(ERROR))

        return annotate


@dataclass(frozen=True, kw_only=True)
class Absent(CountWords):
    def open(self) -> Annotate:
        raise InputError("its model is not installed")


@dataclass(frozen=True, kw_only=True)
class ReadSign(Annotator):
    """Sees the same two lines in every picture."""

    reads_pictures = True

    @property
    def name(self) -> str:
        return "spotting"

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([("spotted", SPOTTED)])

    def identity(self) -> str:
        return "sign 1"

    def open(self) -> Annotate:
        def annotate(rows: pa.RecordBatch, pictures: Iterable[bytes]) -> pa.RecordBatch:
            lines = [
                {"text": "SUMMER SALE", "confidence": 0.97, "box": [8, 4, 40, 4, 40, 14, 8, 14]},
                {"text": "winter", "confidence": 0.7, "box": [8, 20, 30, 20, 30, 30, 8, 30]},
            ]
            found = [{"spotted": lines} for data in pictures if data]
            return pa.RecordBatch.from_pylist(found, schema=self.schema.append(ERROR))

        return annotate


@pytest.fixture
def ledger(shards, tmp_path):
    """The shards of conftest, annotated and selected by RULES under "strict"."""
    write_shard(shards / "003.tar", [(picture(7), "an unlucky caption of five words")])
    source, out = open_source(str(shards)), tmp_path / "curated"
    annotate(source, out, workers=1, stages=plan_stages(RULES, [CountWords()]))
    # Every shard has a row that fails, or the selection would refuse.
    select(out, RULES, name="strict")
    return Ledger.open(Folder.at(out))


def all_pairs(ledger):
    places = [n << 32 | row for n, stats in enumerate(ledger.stats) for row in range(stats.rows)]
    return list(pairs_at(ledger, places))


def only(ledger, key):
    (pair,) = pairs_at(ledger, find_places(ledger, key))
    return pair


def line_of(lines, rule):
    return next(line for line in lines if line.rule.name() == rule)


def test_what_is_explained_is_what_the_selection_wrote_down(ledger):
    pairs = all_pairs(ledger)
    assert len(pairs) == 22
    for pair in pairs:
        stored = stored_verdict(ledger, "strict", pair)
        if pair.error is not None or stored.error is not None:
            assert not stored.kept
            continue
        # Nothing more was looked at, so nothing more can be said.
        lines = explain(pair, RULES, stored)
        assert [line.reason for line in lines if line.reason] == list(stored.reasons)
        assert stored.kept == (not stored.reasons)


def test_a_pair_is_found_by_key_and_by_uid(ledger):
    for pair in all_pairs(ledger)[:3]:
        for name in (pair.row["key"][0].as_py(), pair.row["uid"][0].as_py().upper()):
            assert pair.place in find_places(ledger, name)


def test_all_pairs_of_one_key_are_found(tmp_path):
    for name in ("a", "b"):
        write_shard(tmp_path / name / "0.tar", [(picture(1), "a red apple")] * 2)
    annotate(open_source([str(tmp_path / "a"), str(tmp_path / "b")]), tmp_path / "out", workers=1)
    ledger = Ledger.open(Folder.at(tmp_path / "out"))
    assert find_places(ledger, "00000") == [0, 1 << 32]
    uid = next(pairs_at(ledger, [0])).row["uid"][0].as_py()
    assert find_places(ledger, uid) == [0, 1, 1 << 32, 1 << 32 | 1]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("0010001x", "'0010001', '0010002'"),
        ("-", "'0000000'"),
        ("zebra", "'0030000'"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_its_neighbours(ledger, name, near):
    with pytest.raises(InputError, match=f"no pair with the uid or key '{name}'.* {near}$"):
        find_places(ledger, name)


def test_rows_are_read_at_their_places_alone(ledger):
    places = [2 << 32 | 5, 3, 2 << 32 | 11, 1 << 32]
    rows = [
        place for batch in rows_at(ledger.out, (), places) for place in batch[PLACE].to_pylist()
    ]
    assert rows == sorted(places)


def test_what_the_gate_kept_from_an_annotator_is_looked_at_now(ledger):
    pair = only(ledger, "0000000")  # IMG_2041.JPG: dropped before the words were counted
    stored = stored_verdict(ledger, "strict", pair)
    assert stored.reason == "caption-file-name"
    assert not any(reason.startswith("caption-not-complex") for reason in stored.reasons)
    blind = line_of(explain(pair, RULES, stored), "complexity")
    assert (blind.reason, blind.unjudged) == (None, "complexity is not computed")

    seen = looked_at(pair, [CountWords()])
    line = line_of(explain(seen, RULES, stored), "complexity")
    assert seen.now == ("words",)
    assert (line.reason, line.now) == ("caption-not-complex: 1", True)
    (measure,) = line.measures
    assert (measure.values.to_pylist(), measure.least) == ([1], 4)


def test_what_was_looked_at_is_not_looked_at_again(ledger):
    pair = only(ledger, "0000001")  # a red apple on a table
    assert looked_at(pair, [Absent()]) is pair
    line = line_of(explain(pair, RULES, None), "complexity")
    assert (line.reason, line.now, line.measures[0].values.to_pylist()) == (None, False, [6])


def test_a_missing_model_is_named_where_its_number_is_missing(ledger):
    pair = looked_at(only(ledger, "0000000"), [Absent()])
    assert pair.absent == {"words": "its model is not installed"}
    line = line_of(explain(pair, RULES, None), "complexity")
    assert line.unjudged == "complexity is not computed; words: its model is not installed"


def test_a_failed_annotation_is_an_error_and_no_drop(ledger):
    pair = only(ledger, "0030000")
    stored = stored_verdict(ledger, "strict", pair)
    assert (stored.kept, stored.reason, stored.error) == (False, None, "parse failed: by design")
    assert line_of(explain(pair, RULES, stored), "complexity").unjudged == "parse failed: by design"


def test_no_rule_judges_a_pair_that_cannot_be_read(ledger):
    pair = looked_at(only(ledger, "0000003"), [CountWords()])
    assert pair.error.startswith("truncated picture")
    assert (pair.picture, pair.now) == (None, ())
    assert {line.unjudged for line in explain(pair, RULES, None)} == {"the pair cannot be read"}


def test_a_duplicate_names_the_pair_that_is_kept(ledger):
    pair = only(ledger, "0010000")  # A red apple  on a table
    reasons = stored_verdict(ledger, "strict", pair).reasons
    assert reasons[0].startswith("duplicate-pair")
    other = kept_instead(ledger, reasons[0])
    assert other.row["caption"][0].as_py() == "a red apple on a table"
    assert stored_verdict(ledger, "strict", other).kept
    assert other.picture == picture(1)
    assert kept_instead(ledger, "caption-too-short: of 2 words") is None


@pytest.mark.parametrize("place", [0, 4, 2 << 32 | 11])
def test_a_place_is_read_as_it_is_written(ledger, place):
    reason = f"near-duplicate: of {describe_place(place)}, uid 00, 2 of 64 bits differ"
    assert kept_instead(ledger, reason).place == place
    assert kept_instead(ledger, f"near-duplicate: of {describe_place(9 << 32)}") is None


def test_a_picture_that_is_gone_is_told(ledger, shards):
    (shards / "002.tar").unlink()
    pair = looked_at(only(ledger, "0020011"), [ReadSign()])
    assert "002.tar" in pair.absent["the picture"]
    assert pair.absent["spotting"] == "the picture cannot be read"


def test_verdicts_on_other_rows_are_not_shown(ledger, shards):
    pair = only(ledger, "0020011")
    write_shard(shards / "002.tar", [(picture(n), f"other {n}") for n in range(12)])
    annotate(open_source(str(shards)), ledger.out, workers=1)
    changed = only(Ledger.open(ledger.out), "0020011")
    assert changed.row["uid"] != pair.row["uid"]
    assert stored_verdict(ledger, "strict", changed) is None
    assert changed.annotations == ()  # they are of the old rows


def test_a_selection_that_is_not_there_is_named(ledger):
    assert selections_of(ledger.out) == ["strict"]
    assert read_summary(ledger.out, "strict").rules[-1] == {"rule": "complexity", "least": 4}
    with pytest.raises(InputError, match="no selection 'cat': take one of these: strict"):
        read_summary(ledger.out, "cat")


def test_a_loose_pair_is_judged_by_what_needs_no_other(ledger):
    pair = loose_pair(picture(3), "Great summer sale today", name="sign.png")
    pair = looked_at(pair, [ReadSign(), CountWords()])
    lines = explain(pair, (*RULES, TextSpotting()), None)
    assert line_of(lines, "duplicate-pair").unjudged.startswith("it asks all pairs")
    assert line_of(lines, "complexity").reason is None
    spotted = line_of(lines, "text-spotting")
    assert spotted.reason == 'text-in-caption: "summer sale" (0.97)'
    ((start, stop),) = spotted.marks.spans
    assert "Great summer sale today"[start:stop] == "summer sale"
    assert spotted.marks.boxes == ((8, 4, 40, 4, 40, 14, 8, 14),)
    assert [line["text"] for line in lines_seen(pair)] == ["SUMMER SALE", "winter"]
    assert graph_of(pair) is None


def test_a_loose_picture_that_cannot_be_read_is_an_error():
    pair = looked_at(loose_pair(b"no picture", "a caption", name="x"), [ReadSign()])
    assert pair.error.startswith("unknown picture format")
    assert lines_seen(pair) is None


def test_a_stored_parse_is_a_graph_again():
    pair = loose_pair(picture(1), "red apple", name="x")
    parsed = {
        "objects": [
            {"text": "apple", "lemma": "apple", "attributes": ["red"], "start": 4, "end": 9}
        ],
        "actions": [],
        "relations": [],
        "complexity": 1,
    }
    found = pa.RecordBatch.from_pylist([parsed], schema=PARSED)
    row = pair.row
    for name in found.schema.names:
        row = row.append_column(name, found[name])
    graph = graph_of(type(pair)(shard="x", row=row, annotations=(), picture=None))
    assert (graph.complexity, graph.objects[0].attributes, graph.foreign) == (1, ("red",), None)


@pytest.mark.parametrize(
    ("rule", "caption", "marked"),
    [
        (CaptionUrl(), "see www.example.com/a now", ["www.example.com/a"]),
        (CaptionUrl(), "mail a@b.org or visit b.org", ["a@b.org", "b.org"]),
        (CaptionMarkup(), "red <b>apple</b> here", ["<b>apple</b>"]),
        (CaptionMarkup(), 'an <img src="a.png" > here', ['an <img src="a.png" > here']),
        (CaptionPlaceholder(), "Click to enlarge", ["Click to enlarge"]),
        (CaptionFileName(), "IMG_2041.JPG", ["IMG_2041.JPG"]),
        (CaptionFileName(), "IMG 2041", ["IMG 2041"]),
    ],
)
def test_the_words_that_offend_are_marked(rule, caption, marked):
    row = loose_pair(picture(1), caption, name="x").row
    spans = offending(rule, row).spans
    assert [caption[start:stop] for start, stop in spans] == marked


def test_a_survey_holds_the_numbers_of_every_readable_pair(ledger):
    places = [pair.place for pair in all_pairs(ledger)]
    insight = Insight(ledger.out, read_summary(ledger.out, "strict"))
    survey = insight.survey(places)
    (words,) = [one for one in survey.measures if one.rule == "complexity"]
    counted = [
        len(pair.row["caption"][0].as_py().split())
        for pair in all_pairs(ledger)
        if pair.row["words: computed"][0].as_py() and pair.row["words: error"][0].as_py() is None
    ]
    assert len(counted) > 10
    assert words.values.tolist() == counted
    assert (words.least, words.most, words.values.dtype) == (4, None, np.float64)
    assert survey.unmeasured["duplicate-pair"] == "asks all pairs"
    assert survey.near_matches is None


def test_marks_are_of_the_rule_that_gave_the_reason(ledger):
    insight = Insight(ledger.out, read_summary(ledger.out, "strict"))
    pair = only(ledger, "0000000")
    marks = insight.marks({pair.place: "caption-file-name", 1: "caption-file-name"})
    assert {place: one.spans for place, one in marks.items()} == {pair.place: ((0, 12),)}
