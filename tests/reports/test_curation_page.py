import hashlib
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import HOSTILE
from PIL import Image

from winnow.curation.annotations import file_schema
from winnow.curation.annotators.parse import SCHEMA as PARSED
from winnow.curation.verdicts import VERDICT_SCHEMA
from winnow.data.ledger import LEDGER_SCHEMA
from winnow.data.selection import write_selection
from winnow.data.sources import open_source
from winnow.reports.curation import read_curation
from winnow.reports.curation_concepts import read_concepts
from winnow.reports.curation_histograms import histograms
from winnow.reports.curation_sample import read_pairs, read_sample
from winnow.reports.marks import OFFENDING, OTHER, Box, draw_boxes, pieces
from winnow.reports.page import write_report

CODES = [f"caption-code-{n}" for n in range(12)]


def measure(values, least=None, most=None):
    return SimpleNamespace(
        rule="a-rule", name="a number", values=np.array(values, float), least=least, most=most
    )


def bars(chart):
    """Left end and width in percent, height in pixels, and whether it is beyond a threshold."""
    return [
        (
            float(rect.get("x").rstrip("%")),
            float(rect.get("width").rstrip("%")),
            float(rect.get("height")),
            rect.get("class") == "dropped",
        )
        for rect in ET.fromstring(chart).iter("rect")  # noqa: S314 - our own
    ]


def lines(chart):
    found = ET.fromstring(chart).iter("line")  # noqa: S314 - our own
    return [float(one.get("x1").rstrip("%")) for one in found if one.get("class") == "limit"]


def big_curation(folder, *, num_rows, num_shards=3, group=4_096):
    """A curated folder of random verdicts, whose pairs share 60 pictures of noise in one tar."""
    import tarfile

    random = np.random.default_rng(0)
    shard = folder / "0.tar"
    with tarfile.open(shard, "w") as archive:
        for number in range(60):
            file = io.BytesIO()
            noise = random.integers(0, 256, (200, 300, 3), dtype=np.uint8)
            Image.fromarray(noise).save(file, "jpeg")
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = len(file.getvalue())
            archive.addfile(info, io.BytesIO(file.getvalue()))
    addresses = [(s.key, s.offset, s.size) for s in open_source(str(shard)).scan(str(shard))]
    selection = folder / "out" / "selections" / "all"
    (selection / "verdicts").mkdir(parents=True)
    (folder / "out" / "ledger").mkdir()
    dropped, kept_rows, seen = Counter(), [], 0
    for number in range(num_shards):
        ledger, verdicts = [], []
        for row in range(num_rows // num_shards):
            uid = hashlib.sha256(b"%d %d" % (number, row)).hexdigest()[:32]
            key, offset, size = addresses[row % 60]
            chosen = random.integers(0, 2 * len(CODES))
            reason = CODES[chosen] + ": " + HOSTILE if chosen < len(CODES) else None
            seen += 1
            facts = {"uid": uid, "key": key, "offset": offset, "size": size}
            ledger.append(facts | {"caption": f"{HOSTILE} \u4e2d\u6587 {row} " * 20})
            verdicts.append(
                {"uid": uid, "key": key, "kept": reason is None, "reason": reason}
                | {"reasons": [reason] if reason else [], "error": None}
            )
            dropped[reason.partition(":")[0] if reason else "kept"] += 1
        for rows, schema, file in (
            (ledger, LEDGER_SCHEMA, folder / "out" / "ledger" / f"{number:05d}.parquet"),
            (verdicts, VERDICT_SCHEMA, selection / "verdicts" / f"{number:05d}.parquet"),
        ):
            pq.write_table(pa.Table.from_pylist(rows, schema), file, row_group_size=group)
        kept_rows.append(pa.Table.from_pylist(ledger[:1], LEDGER_SCHEMA))
    kept = dropped.pop("kept")
    summary = {
        "selection": "all",
        "seen": seen,
        "kept": kept,
        "errors": 0,
        "dropped": dropped,
        "fired": dropped,
        "only": dropped,
        "rules": [{"rule": "caption-length"}],
        "shards": [str(shard)] * num_shards,
    }
    (selection / "summary.json").write_text(json.dumps(summary))
    write_selection(selection, summary["shards"], kept_rows)
    return selection


@pytest.mark.slow
def test_a_page_over_many_pairs_stays_small(tmp_path):
    selection = big_curation(tmp_path, num_rows=99_999)
    page = write_report(tmp_path / "p.html", selection=selection, runs=[], tasks={}, title="t")
    assert page.stat().st_size < 3_000_000
    source = page.read_text()
    listed = json.loads(re.search(r'id="pairs">(.*?)</script>', source, re.DOTALL)[1])
    assert 1_000 < len(listed) <= 1_500
    assert source.count("data:image/webp") == 13 * 6
    assert f"In {len(listed):,} pairs of 99,999" in source
    assert "99,999 pairs in 3 of 3 shards" not in source  # nothing was measured without insight
    assert read_curation(selection).sample.measured.size == 20_000


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    return big_curation(tmp_path_factory.mktemp("some"), num_rows=600, group=64)


def test_the_sample_is_that_of_the_smallest_hashes(some):
    sample = read_sample(some, 3, codes=13)
    tables = [pq.read_table(path) for path in sorted((some / "verdicts").iterdir())]
    rows = [row for table in tables for row in table.to_pylist()]
    of_code = [row["uid"] for row in rows if (row["reason"] or "").startswith(CODES[0] + ":")]
    expected = sorted(of_code, key=lambda uid: hashlib.sha256(uid.encode()).digest())
    assert [row.uid for row in sample.rows[CODES[0]]] == expected[: 1_500 // 13]
    assert (sample.of, len(sample.measured), sample.kept.sum()) == (
        600,
        600,
        sum(row["kept"] for row in rows),
    )
    assert sample.measured.tolist() == [n << 32 | row for n in range(3) for row in range(200)]


def test_pairs_are_read_at_their_places(some):
    places = [1 << 32 | 70, 199, 1 << 32 | 3, 5 << 20]
    found = read_pairs(some, places)
    ledger = pq.read_table(some.parent.parent / "ledger" / "00001.parquet").to_pylist()
    assert found.keys() == {1 << 32 | 70, 199, 1 << 32 | 3}
    assert found[1 << 32 | 70][0] == tuple(ledger[70][name] for name in ("key", "offset", "size"))


def test_effects_are_the_counts_of_the_summary(selection):
    assert [tuple(effect) for effect in read_curation(selection).effects] == [
        ("caption-file-name", 2, 2, 2),
        ("caption-repeated", 1, 1, 1),
    ]


def test_coverage_adds_up_the_shards(selection):
    folder = selection.parent.parent / "annotations" / "parse"
    folder.mkdir(parents=True)
    for number in range(2):
        record = {"rows": 10, "computed": 7 + number, "errors": {"parse failed": number}}
        (folder / f"{number:05d}.json").write_text(json.dumps(record))
    (one,) = read_curation(selection).coverage
    assert tuple(one) == ("parse", 20, 15, 1)


def test_concepts_are_shares_of_the_captions_before_and_after(some):
    said = [["cat"], ["cat", "dog"], ["dog", "dog"], None]
    folder = some.parent.parent / "annotations" / "parse"
    folder.mkdir(parents=True)
    sample = read_sample(some, 3, codes=13)
    for number in range(3):
        rows = []
        for index in range(200):
            names = said[index % 4]
            objects = [
                {"text": name, "lemma": name, "attributes": ["red"] if name == "cat" else []}
                | {"start": 0, "end": 3}
                for name in names or ()
            ]
            parsed = {"computed": names is not None}
            rows.append(parsed if names is None else parsed | {"objects": objects})
        table = pa.Table.from_pylist(rows, file_schema(PARSED))
        pq.write_table(table, folder / f"{number:05d}.parquet", row_group_size=50)
    shift = read_concepts(some.parent.parent, sample)
    kept = [k for p, k in zip(sample.measured, sample.kept, strict=True) if p % 4 != 3]
    cats = [k for p, k in zip(sample.measured, sample.kept, strict=True) if p % 4 in (0, 1)]
    assert (shift.parsed, shift.kept) == (450, sum(kept))
    objects, attributes = shift.groups
    found = {one.name: one for one in objects.frequent}
    assert found.keys() == {"cat", "dog"}
    assert found["cat"].before == pytest.approx(300 / 450)
    assert found["cat"].after == pytest.approx(sum(cats) / sum(kept))
    assert [one.name for one in attributes.changed] == ["red"]


def test_a_histogram_holds_every_value_and_parts_them_at_the_threshold():
    (one,) = histograms([measure([0] * 30 + [1] * 20 + [2] * 10 + [math.nan], least=1)])
    found = bars(one.chart)
    assert [round(30 * height / found[0][2]) for *_, height, _ in found] == [30, 20, 10]
    assert [is_dropped for *_, is_dropped in found] == [True, False, False]
    assert lines(one.chart) == pytest.approx([found[1][0]], abs=0.02)
    assert (one.n, one.outside, one.limits, one.cut) == (60, 0.5, "kept from 1", False)


def test_a_far_tail_is_in_the_last_bar_and_said_to_be():
    values = np.concatenate([np.linspace(0, 1, 9_990), np.full(10, 1e6)])
    (one,) = histograms([measure(values, most=0.75)])
    found = bars(one.chart)
    assert len(found) in (40, 41)  # one more where the threshold is an edge
    assert one.cut
    assert one.outside == pytest.approx(0.25, abs=0.01)
    beyond = [left for left, *_, is_dropped in found if is_dropped]
    assert lines(one.chart)[0] == pytest.approx(min(beyond), abs=0.02)
    assert len(beyond) == pytest.approx(10, abs=1)


def test_a_threshold_far_from_all_values_is_told_at_the_side():
    (one,) = histograms([measure([3, 4, 5, 6], most=256)])
    assert lines(one.chart) == []
    assert "threshold →" in one.chart
    assert [is_dropped for *_, is_dropped in bars(one.chart)] == [False] * 4


def test_few_values_beyond_a_threshold_have_a_bar_beyond_it():
    (one,) = histograms([measure([2] * 3 + list(range(20, 90)) * 50, least=3)])
    found = bars(one.chart)
    assert found[0][3]
    assert found[0][2] > 0
    assert lines(one.chart)[0] > found[0][0]


@pytest.mark.parametrize(
    "values", [[5.0], [0.0, 0.0], [-1e-9, 1e-9], [1e12, -1e12], [0.25] * 3, [math.inf, 2.0]]
)
def test_any_numbers_make_a_chart(values):
    (one,) = histograms([measure(values, least=0.3, most=2.5)])
    assert sum(height > 0 for *_, height, _ in bars(one.chart)) in (1, 2)
    assert all(left >= 6.9 and left + width <= 98.1 for left, width, *_ in bars(one.chart))


def test_a_measure_of_nothing_is_no_chart():
    assert histograms([measure([]), measure([math.nan])]) == []


def test_pieces_are_the_caption_with_its_marks():
    caption = "see www.a.com and b.org now"
    parts = pieces(caption, [(4, 13), (18, 23)], longest=100)
    assert "".join(part.text for part in parts) == caption
    assert [part.text for part in parts if part.is_marked] == ["www.a.com", "b.org"]


def test_a_long_caption_is_shown_where_its_mark_is():
    caption = "a" * 5_000 + "MARK" + "b" * 5_000
    parts = pieces(caption, [(5_000, 5_004)], longest=100)
    assert [part.text for part in parts if part.is_marked] == ["MARK"]
    assert sum(len(part.text) for part in parts[:-1]) == 101
    assert (parts[0].text, parts[-1].text) == ("…", "… (+4,944 characters)")
    assert pieces("abc", [], longest=2)[-1].text == "… (+1 character)"
    assert pieces("abc", [], longest=3, length=1_000_000)[-1].text == "… (+999,997 characters)"
    assert pieces(caption, [(0, 10_004)], longest=10)[0].text == "a" * 10
    assert pieces("", [], longest=10) == []
    # Marks beyond the caption, and over each other, are of another caption: shown as far as goes.
    assert "".join(one.text for one in pieces("abc", [(1, 9), (0, 2)], longest=10)) == "abc"


def test_boxes_are_drawn_where_they_are():
    file = io.BytesIO()
    Image.new("RGB", (400, 200), "white").save(file, "png")
    boxes = [
        Box((100, 40, 300, 40, 300, 100, 100, 100)),
        Box((20, 150, 60, 150, 60, 190, 20, 190), is_offending=False),
    ]
    drawn = np.asarray(draw_boxes(file.getvalue(), boxes, longest=200))
    assert drawn.shape == (100, 200, 3)
    for colour, (left, top, right, bottom) in (
        (OFFENDING, (50, 20, 150, 50)),
        (OTHER, (10, 75, 30, 95)),
    ):
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        rows, columns = np.nonzero((drawn == rgb).all(axis=2))
        extent = [columns.min(), rows.min(), columns.max(), rows.max()]
        assert extent == pytest.approx([left, top, right, bottom], abs=1)
        assert not (drawn[top + 5 : bottom - 5, left + 5 : right - 5] == rgb).all(axis=2).any()


class Rules:
    """Insight that measures one number, and marks the first two letters of every caption."""

    def survey(self, places):
        return SimpleNamespace(
            measures=[measure(range(len(places)), least=2)],
            unmeasured={"duplicate-pair": "asks all pairs"},
            near_matches=(1, 2),
        )

    def marks(self, reasons):
        mark = SimpleNamespace(spans=[(0, 2)], boxes=[(2, 2, 20, 2, 20, 20, 2, 20)])
        return dict.fromkeys(reasons, mark)


class Broken(Rules):
    def survey(self, places):
        raise FileNotFoundError("no annotations")


def test_what_the_rules_measure_and_mark_is_on_the_page(tmp_path, selection):
    page = tmp_path / "p.html"
    options = {"runs": [], "tasks": {}, "title": "t", "selection": selection}
    source = write_report(page, insight=Rules(), **options).read_text()
    assert "kept from 2 · 40.0 % beyond · n = 5" in source
    assert 'class="limit"' in source
    assert "in 1 of 2 pairs" in source
    assert "No number here, since the rule asks all pairs: <bdi>duplicate-pair</bdi>." in source
    assert "<mark>IM</mark>G_1.png" in source
    assert "<mark>st</mark>ock" in source
    plain = write_report(page, **options).read_text()
    assert "<mark>" not in plain
    assert "The numbers behind the rules" not in plain


def test_rules_that_cannot_be_asked_leave_the_rest_and_say_so(selection):
    curation = read_curation(selection, Broken())
    assert "the rules&#39; numbers" not in curation.problem
    assert "the rules' numbers are not shown, no annotations" in curation.problem
    assert curation.measured.histograms == []
    assert curation.examples["caption-file-name"][0].pieces[0].is_marked


def test_beside_a_duplicate_stands_what_is_kept(selection):
    path = selection / "verdicts" / "00000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[4] |= {"reason": "duplicate-picture: of row 1 of 00000", "kept": False}
    rows[4]["reasons"] = [rows[4]["reason"]]
    pq.write_table(pa.Table.from_pylist(rows, VERDICT_SCHEMA), path)
    (example,) = read_curation(selection).examples["duplicate-picture"]
    assert example.instead.caption == HOSTILE
    assert example.instead.key == "k1"
    assert example.instead.picture.startswith("data:image/webp;base64,")
    assert example.instead.picture != example.picture
    assert example.detail == ""
