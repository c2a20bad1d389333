import pyarrow.parquet as pq
import pytest
from colour_tasks import COLOURS, ColourEncoder, ConstantEncoder, picture, sample, write_task

from winnow.evaluation.evaluate import evaluate
from winnow.evaluation.results import predictions_path, read_results
from winnow.types import InputError


def run(encoder, tasks, tmp_path, **options):
    return evaluate(encoder, tasks, tmp_path / "out", cache=tmp_path / "cache", **options)


def values(evaluation):
    return {(r.protocol, r.metric): r.value for r in evaluation.results}


def test_a_known_model_scores_exactly_what_it_must(colours, tmp_path):
    # Two of 21 pictures show red and are labelled and captioned grey.
    measured = values(run(ColourEncoder(), {"colours": colours}, tmp_path))
    assert measured["zero-shot", "top1"] == pytest.approx(19 / 21)
    assert measured["zero-shot", "mean_per_class"] == pytest.approx((6 + 1 / 3) / 7)
    assert measured["retrieval", "image_to_text_recall@1"] == pytest.approx(19 / 21)
    # Each caption has a right picture nearest but "all red": two wrong pictures tie with its own.
    assert measured["retrieval", "text_to_image_recall@1"] == pytest.approx(6 / 7)
    assert measured["retrieval", "text_to_image_recall@5"] == 1.0
    assert ("retrieval", "image_to_text_recall@10") not in measured  # of 7 captions


def test_a_constant_model_scores_nothing(colours, tmp_path):
    assert set(values(run(ConstantEncoder(), {"colours": colours}, tmp_path)).values()) == {0.0}


def test_the_results_file_says_all_that_was_measured(colours, tmp_path):
    evaluation = run(ColourEncoder(), {"colours": colours}, tmp_path)
    assert tuple(read_results(tmp_path / "out")) == evaluation.results
    top1 = evaluation.results[0]
    assert (top1.model, top1.task, top1.n, top1.chance) == ("colour", "colours", 21, 1 / 7)
    assert (top1.num_classes, top1.precision) == (7, "fp32")
    assert evaluation.results[-1].num_classes is None


def test_measuring_again_leaves_the_same_rows(colours, tmp_path):
    first = run(ColourEncoder(), {"colours": colours}, tmp_path)
    run(ColourEncoder(), {"colours": colours}, tmp_path)
    assert len(read_results(tmp_path / "out")) == len(first.results)


def test_predictions_of_zero_shot_hold_every_picture(colours, tmp_path):
    run(ColourEncoder(), {"colours": colours}, tmp_path)
    rows = pq.read_table(predictions_path(tmp_path / "out", "colours", "zero-shot")).to_pylist()
    assert [row["key"] for row in rows] == [f"p{i:02}" for i in range(21)]
    assert rows[4]["label"] == rows[4]["top5"][0] == 1
    assert [row["rank"] > 1 for row in rows] == [False] * 19 + [True] * 2
    assert rows[20]["top5"][0] == list(COLOURS).index("red")
    assert rows[4]["scores"] == sorted(rows[4]["scores"], reverse=True)
    assert all(len(row["top5"]) == len(row["scores"]) == 5 for row in rows)


def test_predictions_of_retrieval_hold_every_query_both_ways(colours, tmp_path):
    run(ColourEncoder(), {"colours": colours}, tmp_path)
    rows = pq.read_table(predictions_path(tmp_path / "out", "colours", "retrieval")).to_pylist()
    assert [row["direction"] for row in rows] == ["image_to_text"] * 21 + ["text_to_image"] * 7
    assert (rows[4]["query"], rows[4]["top5"][0], rows[4]["rank"]) == ("p04", "all green", 1)
    green = rows[22]
    assert (green["query"], green["rank"]) == ("all green", 1)
    assert sorted(green["top5"][:3]) == ["p03", "p04", "p05"]


def test_a_missing_task_says_how_to_get_it_and_the_others_go_on(colours, tmp_path):
    tasks = {"nowhere": tmp_path / "nowhere", "colours": colours}
    evaluation = run(ColourEncoder(), tasks, tmp_path)
    assert [skipped.task for skipped in evaluation.skipped] == ["nowhere"]
    assert "winnow demo" in evaluation.skipped[0].why
    assert {result.task for result in evaluation.results} == {"colours"}


def test_a_broken_task_stops_before_the_model_runs(colours, tmp_path):
    broken = write_task(tmp_path / "broken", [[("a.png", picture("red")), ("a.cls", b"99")]])
    encoder = ColourEncoder()
    with pytest.raises(InputError, match="label '99'"):
        run(encoder, {"colours": colours, "broken": broken}, tmp_path)
    assert encoder.calls == 0


def test_a_protocol_without_its_data_is_skipped_and_says_why(tmp_path):
    unlabelled = [("a.png", picture("red")), ("a.txt", b"red"), ("b.png", picture("blue"))]
    tasks = {
        "captions": write_task(tmp_path / "a", [[*unlabelled, ("b.txt", b"blue")]], classes=()),
        "labels": write_task(tmp_path / "b", [sample("a", "red")]),
    }
    evaluation = run(ColourEncoder(), tasks, tmp_path)
    assert {(r.task, r.protocol) for r in evaluation.results} == {
        ("captions", "retrieval"),
        ("labels", "zero-shot"),
    }
    assert [(skipped.task, skipped.why) for skipped in evaluation.skipped] == [
        ("captions", "zero-shot needs labels (.cls)"),
        ("labels", "retrieval needs captions (.txt)"),
    ]


def test_an_unknown_protocol_is_refused(colours, tmp_path):
    with pytest.raises(InputError, match="'zeroshot': there are zero-shot, retrieval"):
        run(ColourEncoder(), {"colours": colours}, tmp_path, protocols=["zeroshot"])
