import io
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from colour_tasks import (
    COLOURS,
    ColourEncoder,
    ConstantEncoder,
    picture,
    sample,
    write_tar,
    write_task,
)

from winnow.evaluation.clip_benchmark_json import write_clip_benchmark_json
from winnow.evaluation.embed import Embedder
from winnow.evaluation.evaluate import Protocols, evaluate
from winnow.evaluation.probes import FewShot
from winnow.evaluation.results import read_results
from winnow.evaluation.subject import Presentation
from winnow.predictions import predictions_file
from winnow.types import InputError


def run(encoder, sets, tmp_path, *protocols, **options):
    embedder = Embedder(encoder=encoder, cache=tmp_path / "cache")
    chosen = Protocols(names=protocols, **options)
    return evaluate(embedder, sets, tmp_path / "out", protocols=chosen)


def predicted(tmp_path, task, protocol):
    return predictions_file(tmp_path / "out", task=task, split="test", protocol=protocol)


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
    measured = values(run(ConstantEncoder(), {"colours": colours}, tmp_path))
    ranks = {name: measured.pop(("retrieval", name)) for _, name in [*measured] if "rank" in name}
    assert ranks == {"image_to_text_median_rank": 7, "text_to_image_median_rank": 19}
    assert set(measured.values()) == {0.0}


def test_the_results_file_says_all_that_was_measured(colours, tmp_path):
    evaluation = run(ColourEncoder(), {"colours": colours}, tmp_path)
    assert tuple(read_results(tmp_path / "out")) == evaluation.results
    top1 = evaluation.results[0]
    assert (top1.model, top1.task, top1.n, top1.chance) == ("colour", "colours", 21, 1 / 7)
    assert (top1.num_classes, top1.precision, top1.split) == (7, "fp32", "test")
    assert (top1.interval, top1.low < top1.value < top1.high) == ("wilson", True)
    assert len(top1.prompts) == 16
    retrieval = evaluation.results[-1]
    assert (retrieval.protocol, retrieval.prompts) == ("retrieval", "")


def test_measuring_again_leaves_the_same_rows(colours, tmp_path):
    first = run(ColourEncoder(), {"colours": colours}, tmp_path)
    run(ColourEncoder(), {"colours": colours}, tmp_path)
    assert len(read_results(tmp_path / "out")) == len(first.results)


def test_predictions_of_zero_shot_hold_every_picture(colours, tmp_path):
    run(ColourEncoder(), {"colours": colours}, tmp_path)
    rows = pq.read_table(predicted(tmp_path, "colours", "zero-shot")).to_pylist()
    assert [row["key"] for row in rows] == [f"p{i:02}" for i in range(21)]
    assert rows[4]["label"] == rows[4]["top5"][0] == 1
    assert [row["rank"] > 1 for row in rows] == [False] * 19 + [True] * 2
    assert rows[20]["top5"][0] == list(COLOURS).index("red")
    assert rows[4]["scores"] == sorted(rows[4]["scores"], reverse=True)
    assert all(len(row["top5"]) == len(row["scores"]) == 5 for row in rows)


def test_predictions_of_retrieval_hold_every_query_both_ways(colours, tmp_path):
    run(ColourEncoder(), {"colours": colours}, tmp_path)
    rows = pq.read_table(predicted(tmp_path, "colours", "retrieval")).to_pylist()
    assert [row["direction"] for row in rows] == ["image_to_text"] * 21 + ["text_to_image"] * 7
    assert (rows[4]["query"], rows[4]["top5"][0], rows[4]["rank"]) == ("p04", "all green", 1)
    green = rows[22]
    assert (green["query"], green["rank"]) == ("all green", 1)
    assert sorted(green["top5"][:3]) == ["p03", "p04", "p05"]


def test_a_missing_task_says_how_to_get_it_and_the_others_go_on(colours, tmp_path):
    tasks = {"nowhere": tmp_path / "nowhere", "colours": colours}
    evaluation = run(ColourEncoder(), tasks, tmp_path)
    assert [skipped.task for skipped in evaluation.skipped] == ["nowhere"]
    assert "nowhere does not exist: mend the path" in evaluation.skipped[0].why
    assert {result.task for result in evaluation.results} == {"colours"}


def test_a_broken_task_stops_before_the_model_runs(colours, tmp_path):
    broken = write_task(tmp_path / "broken", [[("a.png", picture("red")), ("a.cls", b"99")]])
    encoder = ColourEncoder()
    with pytest.raises(InputError, match="label '99'"):
        run(encoder, {"colours": colours, "broken": broken}, tmp_path)
    assert encoder.calls == 0


def unlabelled(folder):
    members = [("a.png", picture("red")), ("a.txt", b"red"), ("b.png", picture("blue"))]
    return write_task(folder, [[*members, ("b.txt", b"blue")]], classes=())


def test_what_a_set_has_no_data_for_is_left_out(tmp_path):
    sets = {
        "captions": unlabelled(tmp_path / "a"),
        "labels": write_task(tmp_path / "b", [sample("a", "red")]),
    }
    evaluation = run(ColourEncoder(), sets, tmp_path)
    assert {(r.task, r.protocol) for r in evaluation.results} == {
        ("captions", "retrieval"),
        ("labels", "zero-shot"),
    }
    assert evaluation.skipped == ()


def test_a_protocol_that_is_asked_for_and_lacks_its_data_says_what(colours, tmp_path):
    sets = {"captions": unlabelled(tmp_path / "a"), "colours": colours}
    asked = ("zero-shot", "linear-probe")
    evaluation = run(ColourEncoder(), sets, tmp_path, *asked)
    assert {(r.task, r.protocol) for r in evaluation.results} == {("colours", "zero-shot")}
    assert [(skipped.task, skipped.why) for skipped in evaluation.skipped] == [
        ("captions", "zero-shot needs labels"),
        ("captions", "linear-probe needs pictures with one label each"),
        ("colours", "linear-probe needs a split called train that is not measured on"),
    ]


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InputError, match="no protocol 'zeroshot'; there are zero-shot, retrieval"):
        Protocols(names=("zeroshot",))


def test_captions_are_put_into_what_is_asked_for(colours, tmp_path):
    texts = []

    class Remembering(ColourEncoder):
        def encode_text(self, names):
            texts.extend(names)
            return super().encode_text(names)

    sets = {"colours": colours}
    words = Presentation(caption="a photo of {}.")
    evaluation = run(Remembering(), sets, tmp_path, "retrieval", presentation=words)
    assert texts == [f"a photo of all {name}." for name in COLOURS]
    assert len(evaluation.results[0].prompts) == 16
    with pytest.raises(InputError, match=r"no \{\} for the caption"):
        Presentation(caption="a photo")


def test_class_names_and_prompts_of_ones_own_take_the_place_of_the_sets(colours, tmp_path):
    texts = []

    class Remembering(ColourEncoder):
        def encode_text(self, names):
            texts.extend(names)
            return super().encode_text([name.removeprefix("paint: ") for name in names])

    turned = (*list(COLOURS)[1:], "red")
    words = Presentation(classnames=turned, templates=("paint: {c}",))
    sets = {"colours": colours}
    own = run(ColourEncoder(), sets, tmp_path, "zero-shot").results[0]
    (tmp_path / "out" / "results.jsonl").unlink()
    found = run(Remembering(), sets, tmp_path, "zero-shot", presentation=words).results[0]
    assert texts == [f"paint: {name}" for name in turned]
    assert found.prompts != own.prompts
    assert found.dataset_fingerprint == own.dataset_fingerprint
    # Every name stands at the label before its own, and red's at grey's: right are the two
    # pictures that show red and are labelled grey.
    assert found.value == pytest.approx(2 / 21)
    with pytest.raises(
        InputError, match=r"has 7 classes, and the class names .* are 2: one a line"
    ):
        run(ColourEncoder(), sets, tmp_path, presentation=Presentation(classnames=("a", "b")))


def test_the_split_that_is_asked_for_is_measured(tmp_path):
    folder = write_task(tmp_path / "c", [sample("s0", "red")])
    (folder / "test").rename(folder / "val")
    write_task(folder, [[*sample("s1", "blue"), *sample("s2", "grey")]])
    on_test = run(ColourEncoder(), {"c": folder}, tmp_path, "zero-shot")
    presentation = Presentation(split="val")
    on_val = run(ColourEncoder(), {"c": folder}, tmp_path, "zero-shot", presentation=presentation)
    assert [(row.split, row.n) for row in (on_test.results[0], on_val.results[0])] == [
        ("test", 2),
        ("val", 1),
    ]
    presentation = Presentation(split="dev")
    missing = run(ColourEncoder(), {"c": folder}, tmp_path, presentation=presentation)
    assert "has no split 'dev': it has test, val" in missing.skipped[0].why


def test_statements_are_answered_picture_by_picture(tmp_path):
    folder = tmp_path / "asked"
    folder.mkdir()
    rows = []
    for name, answer in [("red", 1), ("blue", 0), ("grey", 1)]:
        (folder / f"{name}.png").write_bytes(picture(name))
        statements = ["it is blue", f"it is {name}" if answer else "it is red", "it is green"]
        rows.append({"image": f"{name}.png", "statements": statements, "answer": answer})
    rows[2]["answer"] = 0  # false: the model will say so
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = run(ColourEncoder(), {"asked": folder}, tmp_path)
    (top1,) = evaluation.results
    assert (top1.protocol, top1.value, top1.chance) == ("statements", 2 / 3, 1 / 3)
    rows = pq.read_table(predicted(tmp_path, "asked", "statements")).to_pylist()
    assert [row["rank"] for row in rows] == [1, 1, 2]
    assert [len(row["scores"]) for row in rows] == [3, 3, 3]


def test_pictures_in_pairs_get_the_scores_of_winoground(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = []
    for first, second, shown in [("red", "blue", "blue"), ("green", "cyan", "green")]:
        # The second pair shows green twice: its second caption is true of a picture it is not near.
        statements = [f"it is {first}", f"it is {second}"]
        for answer, colour in enumerate((first, shown)):
            name = f"{first}{answer}.png"
            (folder / name).write_bytes(picture(colour))
            rows.append({"image": name, "statements": statements, "answer": answer})
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    measured = values(run(ColourEncoder(), {"pairs": folder}, tmp_path))
    assert measured["statements", "top1"] == 3 / 4
    for score in ("text_score", "image_score", "group_score"):
        assert measured["statements", score] == 1 / 2


def with_training(folder, colours):
    """Ten pictures of each colour to fit on; in the test, the last two show red."""
    names = [name for name in COLOURS for _ in range(10)]
    members = [sample(f"t{index:02}", name) for index, name in enumerate(names)]
    shutil.copytree(colours, folder)
    write_tar(folder / "train" / "0.tar", [member for one in members for member in one])
    (folder / "train" / "nshards.txt").write_text("1\n")
    return folder


def test_probes_are_fitted_on_the_training_split(colours, tmp_path):
    folder = with_training(tmp_path / "with-training", colours)
    few = FewShot(shots=(1, 2), subsets=2, methods=("zero-shot", "text-initialised", "from-zero"))
    evaluation = run(
        ColourEncoder(), {"c": folder}, tmp_path, "linear-probe", "few-shot", few_shot=few
    )
    top1 = [r for r in evaluation.results if r.metric == "top1"]
    # Two test pictures show red and are labelled grey, which is near the origin.
    assert {r.value for r in top1 if r.method == "zero-shot"} == {19 / 21}
    assert all(0.7 < r.value <= 19 / 21 for r in top1)
    few_shot = [r for r in evaluation.results if r.protocol == "few-shot"]
    # zero-shot: one subset and its mean; two methods: two numbers of shots, two subsets, a mean.
    assert len(few_shot) == 2 + 2 * 2 * 3
    means = {(r.method, r.shots): r for r in few_shot if r.subset is None}
    fitted_on = {"train_fingerprint", "validation_fingerprint"}
    short = {"short_classes", "absent_classes"}
    assert means["from-zero", 2].settings.keys() == {"subsets", *short, *fitted_on}
    assert means["zero-shot", 0].settings.keys() == {"subsets", *fitted_on}
    assert all(r.settings.keys() >= fitted_on for r in top1)
    assert means["zero-shot", 0].value == 19 / 21
    table = pq.read_table(predicted(tmp_path, "c", "few-shot"))
    assert table.num_rows == 21 * (1 + 2 * 2 * 2)
    rows = pq.read_table(predicted(tmp_path, "c", "linear-probe")).to_pylist()
    assert [row["rank"] == 1 for row in rows[:18] + rows[19:]] == [True] * 18 + [False] * 2


def test_a_mean_says_how_many_classes_have_fewer_pictures_than_shots(colours, tmp_path):
    folder = with_training(tmp_path / "with-training", colours)
    few = FewShot(shots=(10, 11), subsets=2, methods=("tip-adapter",))
    evaluation = run(ColourEncoder(), {"c": folder}, tmp_path, "few-shot", few_shot=few)
    short = {
        r.shots: (r.settings["short_classes"], r.settings["absent_classes"])
        for r in evaluation.results
        if r.subset is None
    }
    assert short == {10: (0, 0), 11: (len(COLOURS), 0)}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"shots": ()}, r"shots are \(\); give numbers from 1"),
        ({"shots": (0, 1)}, r"shots are \(0, 1\)"),
        ({"shots": (1, 1)}, "each once"),
        ({"subsets": 0}, "subsets is 0"),
        ({"methods": ("nope",)}, "give some of zero-shot, text-initialised"),
    ],
)
def test_few_shot_probes_that_cannot_be_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        FewShot(**wrong)


def test_a_set_whose_pictures_have_no_label_at_all_is_skipped(tmp_path):
    file = io.BytesIO()
    np.save(file, np.zeros(7, dtype=np.uint8))
    folder = write_task(
        tmp_path / "multi", [[("a.png", picture("red")), ("a.npy", file.getvalue())]]
    )
    (folder / "dataset_type.txt").write_text("multilabel")
    evaluation = run(ColourEncoder(), {"multi": folder}, tmp_path)
    assert [skipped.why for skipped in evaluation.skipped] == [
        "zero-shot needs a picture with a label"
    ]


def test_captions_say_of_which_picture_they_are(colours, tmp_path):
    run(ColourEncoder(), {"colours": colours}, tmp_path, "retrieval")
    rows = pq.read_table(predicted(tmp_path, "colours", "retrieval")).to_pylist()
    assert [row["picture"] for row in rows[:21]] == [row["query"] for row in rows[:21]]
    assert [row["picture"] for row in rows[21:]] == [f"p{3 * i:02}" for i in range(7)]


def test_a_training_split_that_no_probe_can_be_fitted_to_is_skipped(colours, tmp_path):
    write_tar(colours / "train" / "0.tar", [*sample("a", "red"), *sample("b", "red")])
    (colours / "train" / "nshards.txt").write_text("1")
    evaluation = run(ColourEncoder(), {"colours": colours}, tmp_path, "linear-probe", "zero-shot")
    assert {r.protocol for r in evaluation.results} == {"zero-shot"}
    assert [skipped.why for skipped in evaluation.skipped] == [
        "linear-probe needs training pictures of two classes or more"
    ]


def test_several_labels_a_picture_give_average_precision(tmp_path):
    hot = np.eye(7, dtype=np.uint8)
    members = []
    for label, name in enumerate(COLOURS):
        file = io.BytesIO()
        np.save(file, hot[label])
        members += [(f"{name}.png", picture(name)), (f"{name}.npy", file.getvalue())]
    folder = write_task(tmp_path / "multi", [members])
    (folder / "dataset_type.txt").write_text("multilabel")
    measured = values(run(ColourEncoder(), {"multi": folder}, tmp_path))
    assert measured == {("zero-shot", "map"): 1.0, ("zero-shot", "map_11_point"): 1.0}


def test_two_classes_give_roc_auc_and_scores(tmp_path):
    classes = ("red", "green")
    members = [m for i in range(4) for m in sample(f"{i}", classes[i % 2])]
    folder = write_task(tmp_path / "two", [members], classes=classes)
    measured = values(run(ColourEncoder(), {"two": folder}, tmp_path))
    assert measured["zero-shot", "roc_auc"] == 1.0
    rows = pq.read_table(predicted(tmp_path, "two", "zero-shot")).to_pylist()
    assert rows[0]["labels"] == [0]
    assert rows[0]["class_scores"][0] == pytest.approx(1.0)


def test_the_numbers_can_be_had_in_clip_benchmark_s_files(colours, tmp_path):
    evaluation = run(ColourEncoder(), {"colours": colours}, tmp_path)
    paths = write_clip_benchmark_json(tmp_path / "json", evaluation.results)
    contents = {path.name: json.loads(path.read_text()) for path in paths}
    zero_shot = contents["colours__colour_en_zeroshot_classification.json"]
    assert zero_shot["metrics"].keys() == {"acc1", "acc5", "mean_per_class_recall"}
    assert zero_shot["metrics"]["acc1"] == pytest.approx(19 / 21)
    retrieval = contents["colours__colour_en_zeroshot_retrieval.json"]["metrics"]
    assert retrieval["image_retrieval_recall@5"] == 1.0
    assert "text_retrieval_recall@1" in retrieval
