"""The audit's part of a page, from files alone: what is shown, escaped, missing or stale."""

import io
import tarfile
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from winnow.data.audit import AUDIT_SCHEMA
from winnow.data.sources import open_source
from winnow.reports.audit import (
    EXAMPLE_SHARE,
    audit_parts,
    commands,
    read_audit,
    write_audit_page,
)
from winnow.reports.audit_files import (
    CLUSTERS_FILE,
    CLUSTERS_SCHEMA,
    DOUBTS_FILE,
    DOUBTS_SCHEMA,
    RATHER_CAPTIONS,
    RATHER_PICTURES,
    AuditFacts,
    ClusterFacts,
    read_facts,
    write_table,
)
from winnow.reports.shell import Allowance
from winnow.types import InputError

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
CAPTIONS = [
    SCRIPT,
    "a \u202eright to left\u202c mark",
    "long " + "x" * 1_000_000,
    "nul \x00 and \x1b[31m red",
    "</script></td></table>",
    "an apple",
]
PRINT = "5" * 64


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def pairs(tmp_path):
    """PAIR of six pictures in a shard; the last one is cut short."""
    shard = tmp_path / "shards <b>" / "0.tar"
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as archive:
        for number in range(len(CAPTIONS)):
            data = png(number)[: 40 if number == 5 else None]
            for name, member in ((f"k{number}.png", data), (f"k{number}.txt", b"caption")):
                info = tarfile.TarInfo(name)
                info.size = len(member)
                archive.addfile(info, io.BytesIO(member))
    found = list(open_source(str(shard.parent)).scan(str(shard)))
    return [
        {"uid": f"{n:032x}", "shard": str(shard), "key": one.key, "caption": caption}
        | {"offset": one.offset, "size": one.size}
        for n, (one, caption) in enumerate(zip(found, CAPTIONS, strict=True))
    ]


FACTS = AuditFacts(
    model=f"run {SCRIPT}",
    model_fingerprint="1" * 16,
    precision="fp32",
    selections=("/data/cu rated/selections/clean",),
    pairs=6,
    captions=6,
    segments=PRINT,
    logit_scale=20.0,
    batch_size=256,
    objective="InfoNCE",
    same_caption=False,
    version="1",
    clusters={
        "caption": ClusterFacts(clusters=1, pairs=3, largest=3, per_batch=1.25),
        "picture": ClusterFacts(clusters=1, pairs=2, largest=2, per_batch=0.5),
    },
)


@pytest.fixture
def run(tmp_path, pairs):
    """A folder with all three files; five pairs are doubted, two groups of them are alike."""
    folder = tmp_path / "run & <i>"
    folder.mkdir()
    numbers = {
        "times": 4,
        "own_probability": 0.25,
        "own_probability_late": 0.125,
        "margin": -0.5,
        "not_first": 1.0,
        "target_other_mass": None,
    }
    rows = [{name: pair[name] for name in ("uid", "shard", "key", "caption")} for pair in pairs]
    rows = [row | numbers | {"own_probability_late": n / 8} for n, row in enumerate(rows)]
    metadata = {"winnow.fingerprint": "f", "winnow.steps": "77", "winnow.version": "1"}
    schema = AUDIT_SCHEMA.with_metadata(metadata | {"winnow.segments": PRINT})
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "audit.parquet")
    near = [pairs[n] | {"cosine": 0.5 - n / 10} for n in range(6)]
    asked = {"own_cosine": 0.0625, "caption_rank": 1234, "picture_rank": 5678}
    others = {name: near[5 - n] for n, name in enumerate(RATHER_CAPTIONS)}
    others |= {name: near[n] for n, name in enumerate(RATHER_PICTURES[:2])} | {"picture_3": None}
    doubts = [row | pair | asked | others for row, pair in zip(rows[:5], pairs, strict=False)]
    write_table(folder / DOUBTS_FILE, pa.Table.from_pylist(doubts, DOUBTS_SCHEMA), FACTS)
    facts = [("caption", 3, 2, 0.75, [0, 1, 2]), ("picture", 2, 2, 0.875, [3, 5])]
    clusters = [
        {"cluster": c, "kind": kind, "pairs": count, "items": items, "weakest": weakest} | pairs[n]
        for c, (kind, count, items, weakest, members) in enumerate(facts)
        for n in members
    ]
    write_table(folder / CLUSTERS_FILE, pa.Table.from_pylist(clusters, CLUSTERS_SCHEMA), FACTS)
    return folder


def section(run, *, pictures=1_000_000):
    """What a page of a run has of it."""
    parts = audit_parts(read_audit(run), Allowance(pictures))
    return "\n".join(part.body for part in parts)


class Page(HTMLParser):
    """What a browser would make of it."""

    VOID = ("img", "meta", "input", "br", "link", "hr")

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.words, self.pictures, self.cells = [], [], [], [], []
        self.isolated = []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert not any(name.startswith("on") for name in values)
        self.tags.append((tag, values))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(values)
        if tag == "tr":
            self.cells.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if "bdi" in self.open:
            self.isolated.append(data)
        if self.cells and ("td" in self.open or "th" in self.open):
            self.cells[-1].append(data.strip())

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_page_is_whole_and_its_tables_say_the_numbers(run):
    page = write_audit_page(run, run / "audit.html")
    html = page.read_text(encoding="utf-8")
    found = Page(html.replace("<!doctype html>", ""))
    assert len(html) < 5_000_000
    row = [cell for cell in found.cells[1] if cell]
    assert "0.00" in row and "-0.500" in row and "1,234" in row
    assert {"mean 25.00", "seen 4 ×", "cosine 0.062", "picture’s 5,678"} <= set(row)
    assert "77 steps" in found.text and "1.25 such pairs of pairs by caption" in found.text
    levels = [int(tag[1]) for tag, _ in found.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1 and levels.count(2) == 4 and 3 in levels
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(one["src"].startswith("data:image/webp;base64,") for one in found.pictures)
    assert all("alt" in one for one in found.pictures)
    heads = [values for tag, values in found.tags if tag == "th"]
    assert all(values.get("scope") in ("col", "row") for values in heads)
    assert not any("href" in v and not v["href"].startswith("#") for _, v in found.tags)


def test_hostile_words_stand_there_as_text(run):
    html = section(run)
    found = Page(html)
    assert not any(tag in ("script", "style", "i", "x") for tag, _ in found.tags)
    assert SCRIPT in found.text
    assert "49" not in found.text.replace("1,249", "")
    assert "⟨U+202E⟩right to left⟨U+202C⟩" in found.text
    assert "nul ⟨U+0000⟩ and ⟨U+001B⟩[31m red" in found.text
    assert "</script></td></table>" in found.text
    assert "\u202e" not in html and "\x00" not in html
    assert "x" * 200 not in html and "(+999,865 characters)" in found.text
    assert any("⟨U+202E⟩" in words for words in found.isolated)
    assert len(html) < 200_000


def test_doubts_come_as_they_are_stored_with_what_the_model_prefers(run):
    audit = read_audit(run)
    assert [doubt.pair.key for doubt in audit.doubts] == ["k0", "k1", "k2", "k3", "k4"]
    first = audit.doubts[0]
    assert [one.key for one in first.captions] == ["k5", "k4", "k3"]
    assert [one.cosine for one in first.captions] == pytest.approx([0.0, 0.1, 0.2])
    assert [one.key for one in first.pictures] == ["k0", "k1"]
    assert first.pair.picture.startswith("data:image/webp")
    assert first.captions[0].picture is None
    assert "not readable" in Page(section(run)).text


def test_clusters_name_their_captions_by_how_often_they_occur(run, pairs):
    again = [pairs[n] | {"caption": "dog"} for n in (0, 1)]
    rows = [
        {"cluster": 0, "kind": "caption", "pairs": 3, "items": 2, "weakest": 0.5} | one
        for one in (pairs[5], *again)
    ]
    write_table(run / CLUSTERS_FILE, pa.Table.from_pylist(rows, CLUSTERS_SCHEMA), FACTS)
    (cluster,) = read_audit(run).clusters
    assert cluster.captions == [("dog", 2), ("an apple", 1)]
    assert (cluster.pairs, cluster.items, cluster.weakest) == (3, 2, 0.5)
    assert "“dog” × 2" in Page(section(run)).text.replace("“ dog ”", "“dog”")


def test_the_histogram_marks_the_share_that_the_command_drops(run):
    numbers = read_audit(run).numbers
    late = np.arange(6) / 8
    assert numbers.column == "own_probability_late" and numbers.known == 6
    assert numbers.threshold == pytest.approx(np.quantile(late, EXAMPLE_SHARE))
    assert numbers.median == pytest.approx(np.median(late))
    assert numbers.never_first == 1.0
    # The 40 bars end at 1.05 times the highest: four have their middle below 0.0625.
    width = 1.05 * late[-1] / 40
    assert sum((n + 0.5) * width < 0.0625 for n in range(40)) == 4
    assert numbers.probabilities.count('class="dropped"') == 4
    assert 'class="limit"' in numbers.probabilities
    (command,) = commands(run, FACTS, numbers.column)
    assert command == (
        "winnow curate --out '/data/cu rated' --rules clean "
        f"'audit:file={run}/audit.parquet,column=own_probability_late,drop=0.1' "
        "--name audited-by-run-i-"
    )
    assert command in Page(section(run)).text


def test_without_a_late_half_the_mean_is_drawn(run):
    table = pq.read_table(run / "audit.parquet")
    place = table.schema.get_field_index("own_probability_late")
    nulls = pa.nulls(len(table), pa.float32())
    metadata = table.schema.metadata
    table = table.set_column(place, AUDIT_SCHEMA.field("own_probability_late"), nulls)
    pq.write_table(table.replace_schema_metadata(metadata), run / "audit.parquet")
    assert read_audit(run).numbers.column == "own_probability"
    assert "no pair was seen in the last half" in Page(section(run)).text


def test_a_run_without_an_audit_has_no_section_and_one_nobody_asked_has_numbers(run, tmp_path):
    assert read_audit(tmp_path) is None
    (run / DOUBTS_FILE).unlink()
    text = Page(section(run)).text
    assert "77 steps" in text and "winnow audit RUN" in text


def test_what_is_older_than_the_run_is_said(run):
    write_table(run / DOUBTS_FILE, DOUBTS_SCHEMA.empty_table(), replace(FACTS, segments="0" * 64))
    assert "run went on" in read_audit(run).problems[0]
    page = write_audit_page(run, run / "audit.html").read_text()
    assert "run went on" in Page(page.replace("<!doctype html>", "")).text


def test_a_shard_that_is_gone_costs_its_pictures_alone(run, pairs):
    tar = pq.read_table(run / DOUBTS_FILE)["shard"][0].as_py()
    Path(tar).unlink()
    audit = read_audit(run)
    assert len(audit.doubts) == 5 and audit.doubts[0].pair.picture is None
    (problem,) = audit.problems
    assert "0.tar" in problem


def test_pictures_have_an_allowance(run):
    few = Page(section(run, pictures=600))
    assert len(few.pictures) < len(Page(section(run)).pictures)
    assert "left out" in few.text


def test_damaged_files_are_named(run):
    (run / CLUSTERS_FILE).write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"clusters\.parquet is damaged"):
        read_audit(run)
    pq.write_table(pa.table({"uid": ["a"]}), run / DOUBTS_FILE)
    with pytest.raises(InputError, match=r"doubts\.parquet is damaged"):
        read_facts(run / DOUBTS_FILE)
