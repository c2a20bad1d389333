import hashlib
import io
import itertools

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from winnow.curation.annotate import annotate
from winnow.curation.select import select
from winnow.curation.selections import none
from winnow.data.sources import Columns, open_source
from winnow.reports.curation import read_curation
from winnow.reports.examples import read_examples
from winnow.reports.pictures import choose
from winnow.reports.runs import read_runs


def test_the_choice_is_by_hash_and_no_order_changes_it():
    names = [f"n{i}" for i in range(50)]
    expected = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:7]
    assert choose(names, 7) == choose(reversed(names), 7) == expected


def test_examples_say_what_the_predictions_say(runs, tasks):
    read = read_runs(runs)
    (examples,), problems = read_examples(read, tasks)
    assert problems == []
    assert (examples.n, examples.num_some_right) == (10, 10)
    assert examples.none_right == []
    rows = {row["key"]: row for row in read[1].predictions("pixels", "zero-shot").to_pylist()}
    expected = choose(rows, 4)
    assert [shown.title.split()[0] for shown in examples.some_right] == [
        f"c{rows[key]['label']}" for key in expected
    ]
    for shown in examples.some_right:
        first = shown.answers[1][0]  # of run b, which knows every picture
        assert first.is_right
        assert first.name == shown.title


def test_pictures_that_no_model_has_right_stand_apart(runs, tasks):
    (examples,), _ = read_examples(read_runs(runs[:1]), tasks)
    assert 0 < examples.num_some_right < 10
    assert all(shown.answers[0][0].is_right for shown in examples.some_right)
    assert not any(shown.answers[0][0].is_right for shown in examples.none_right)


def test_found_pictures_are_right_where_they_carry_the_caption(runs, tasks):
    (examples,), _ = read_examples(read_runs(runs[1:]), tasks)
    for query in examples.found:
        number = query.title.split()[0].removeprefix("c")
        assert [answer.name for answer in query.answers[0] if answer.is_right] == [f"p{number}"]
        assert query.answers[0][0].is_right


def test_pictures_are_shown_with_the_captions_found_for_them(runs, tasks):
    read = read_runs(runs)
    (examples,), _ = read_examples(read, tasks)
    rows = [
        row
        for row in read[1].predictions("pixels", "retrieval").to_pylist()
        if row["direction"] == "image_to_text"
    ]
    by_caption = {row["top5"][0]: row for row in rows}  # run b finds every picture's own caption
    assert len(by_caption) == 10
    assert len(examples.described) == 2
    for shown in examples.described:
        row = by_caption[shown.title]
        assert shown.picture.startswith("data:image/webp;base64,")
        assert [one.name for one in shown.answers[1]] == row["top5"]
        assert [one.score for one in shown.answers[1]] == row["scores"]
        assert [one.is_right for one in shown.answers[1]] == [True] + [False] * 4
        assert sum(one.is_right for one in shown.answers[0]) <= 1
    assert [row["query"] for row in map(by_caption.get, (s.title for s in examples.described))] == (
        choose([row["query"] for row in rows if row["rank"] <= 5], 2)
    )


def test_the_waterfall_ends_where_what_is_kept_begins(selection):
    steps = read_curation(selection).steps
    assert [(step.kind, step.count) for step in steps] == [
        ("seen", 6),
        ("error", 1),
        ("dropped", 2),
        ("dropped", 1),
        ("kept", 2),
    ]
    for before, after in itertools.pairwise(steps[1:-1]):
        assert abs(before.start - (after.start + after.share)) < 1e-12
    assert abs(steps[-2].start - steps[-1].share) < 1e-12


def test_examples_of_a_reason_are_pairs_that_it_dropped(selection):
    examples = read_curation(selection).examples
    assert list(examples) == ["caption-file-name", "caption-repeated", "kept", "truncated"]
    assert {example.caption for example in examples["caption-file-name"]} == {
        "IMG_1.png",
        "IMG_2.png",
    }
    assert examples["caption-repeated"][0].detail == "over 12 pictures"
    assert examples["caption-repeated"][0].picture.startswith("data:image/webp;base64,")
    assert examples["truncated"][0].picture is None


def png(seed):
    file = io.BytesIO()
    Image.new("RGB", (24, 24), (10 * seed, 0, 0)).save(file, "png")
    return file.getvalue()


def curated_parquets(folder):
    """Two parquet shards whose pictures stand in a column that is not detected, all kept."""
    for number in range(2):
        pictures = [png(10 * number + index) for index in range(2)]
        table = pa.table({"photo": pictures, "caption": [f"a{number}", f"b{number}"]})
        folder.mkdir(exist_ok=True)
        pq.write_table(table, folder / f"{number}.parquet")
    out = folder / "curated"
    annotate(open_source(str(folder), columns=Columns(image="photo")), out, workers=1)
    select(out, none(), name="none")
    return out / "selections" / "none"


def test_pictures_come_from_the_columns_that_curation_was_told(tmp_path):
    curation = read_curation(curated_parquets(tmp_path / "raw"))
    assert curation.problem is None
    assert len([e for e in curation.examples["kept"] if e.picture]) == 4


def test_an_unreadable_shard_does_not_blank_the_others(tmp_path):
    selection = curated_parquets(tmp_path / "raw")
    (tmp_path / "raw" / "0.parquet").write_bytes(b"broken")
    curation = read_curation(selection)
    assert "0.parquet" in curation.problem
    shown = {example.caption: example.picture is not None for example in curation.examples["kept"]}
    assert shown == {"a0": False, "b0": False, "a1": True, "b1": True}
