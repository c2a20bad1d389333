import json
import math

import numpy as np
import pyarrow as pa
import pytest
from study_folders import accuracy, cell_folder, hits, probe, write_cell, write_facts

from winnow.evaluation.crossed import crossed_mean
from winnow.evaluation.study.axes import SLOPES_AND_PICTURES
from winnow.evaluation.study.estimates import BOTH
from winnow.evaluation.study.pictures import Pair, PictureScores
from winnow.evaluation.study.reading import Quantity, read_study
from winnow.evaluation.study.tables import (
    as_json,
    markdown,
    rich_tables,
    study_tables,
    write_study_tables,
)
from winnow.types import InputError

SIZES = {"size": {"levels": ["small", "all"], "values": [None, None], "base": "all"}}
T2 = 4.302652729911275


def only(rows, **wanted):
    (row,) = [one for one in rows if all(getattr(one, k) == v for k, v in wanted.items())]
    return row


@pytest.fixture
def gained(tmp_path):
    """PSD has 2, 3 and 4 points more in one set, 1 point less in the other, always."""
    study = write_facts(tmp_path / "study")
    for seed, more in enumerate((0.02, 0.03, 0.04)):
        level = 0.4 + 0.1 * seed
        rows = [accuracy(level), accuracy(0.5, "others")]
        write_cell(study, "clip", seed, rows, seconds_per_step=0.1, alone=True)
        rows = [accuracy(level + more), accuracy(0.49, "others")]
        seconds = 0.1 * (1.01 + 0.001 * seed)
        write_cell(study, "psd", seed, rows, seconds_per_step=seconds, alone=True)
    return study


def test_differences_are_taken_seed_by_seed(gained):
    """The seeds themselves lie 10 points apart, and that is in neither interval."""
    answers = study_tables(gained).answers
    row = only(
        answers.tasks,
        method="psd",
        quantity=Quantity("things", "test", "zero-shot", "", None, "top1"),
    )
    half = T2 * 0.01 / math.sqrt(3)
    assert row.mean.value == pytest.approx(0.53)
    assert row.over_seeds.value == pytest.approx(0.03)
    assert (row.over_seeds.low, row.over_seeds.high) == pytest.approx((0.03 - half, 0.03 + half))
    assert row.over_both is None
    assert row.note == "over seeds alone: the predictions are missing"
    assert (row.outcome, row.adjusted_p) == ("win", pytest.approx(1 - math.sqrt(27 / 29)))
    equal = only(answers.tasks, method="psd", quantity=row.quantity._replace(task="others"))
    assert (equal.over_seeds.low, equal.outcome) == (None, "unresolved")
    macro = only(answers.macros, method="psd")
    assert (macro.tasks, macro.wins, macro.losses, macro.unresolved) == (2, 1, 0, 1)
    # The mean of both: 0.5, 1 and 1.5 points.
    assert macro.over_seeds.value == pytest.approx(0.01)
    assert macro.over_seeds.high - 0.01 == pytest.approx(half / 2)


def test_a_win_has_to_outlast_the_correction(tmp_path):
    """One p of 0.035 stands alone; of two such numbers neither does."""
    study = write_facts(tmp_path / "study")
    for seed, more in enumerate((0.02, 0.03, 0.04)):
        write_cell(study, "clip", seed, [accuracy(0.5), accuracy(0.5, "others")])
        rows = [accuracy(0.5 + more), accuracy(0.5 - more, "others")]
        write_cell(study, "psd", seed, rows)
    answers = study_tables(study).answers
    adjusted = {row.adjusted_p for row in answers.tasks if row.method == "psd"}
    assert [*adjusted] == pytest.approx([2 * (1 - math.sqrt(27 / 29))] * len(adjusted))
    macro = only(answers.macros, method="psd")
    assert (macro.wins, macro.losses, macro.unresolved) == (0, 0, 2)


@pytest.fixture
def with_pictures(tmp_path):
    study = write_facts(tmp_path / "study")
    random = np.random.default_rng(5)
    right = {}
    for seed in range(3):
        for method, share in (("clip", 0.4), ("psd", 0.6)):
            right[method, seed] = random.random((2, 40)) < share
            rows = [
                hits(one.tolist(), task)
                for one, task in zip(right[method, seed], ("a", "b"), strict=True)
            ]
            write_cell(study, method, seed, rows)
    return study, right


def test_the_second_interval_holds_seeds_and_pictures(with_pictures):
    study, right = with_pictures
    gain_S2N = np.stack([right["psd", s] * 1.0 - right["clip", s] for s in range(3)])
    answers = study_tables(study).answers
    row = only(
        answers.tasks, method="psd", quantity=Quantity("a", "test", "zero-shot", "", None, "top1")
    )
    crossed = crossed_mean(gain_S2N[:, 0])
    assert row.over_both.value == pytest.approx(gain_S2N[:, 0].mean())
    assert row.over_both.high - row.over_both.value == pytest.approx(crossed.half_width)
    assert row.over_both.p_value == pytest.approx(crossed.p_value)
    assert row.decides is row.over_both
    assert row.note == ""
    # Sets of their own vary by themselves: a quarter of the sum of their variances.
    macro = only(answers.macros, method="psd")
    by_seed = gain_S2N.mean(axis=(1, 2))
    of_seeds = by_seed.var(ddof=1) / 3
    of_pictures = [gain_S2N[:, task].mean(axis=0).var(ddof=1) / 40 / 4 for task in (0, 1)]
    parts = [(of_seeds, 2), *((part, 39) for part in of_pictures)]
    total = sum(part for part, _ in parts)
    assert macro.over_both.freedom == int(total**2 / sum(p**2 / n for p, n in parts))
    assert macro.over_both.value == pytest.approx(by_seed.mean())
    assert macro.over_both.high > macro.over_seeds.value


def test_predictions_have_to_give_the_number(with_pictures):
    study, _ = with_pictures
    path = cell_folder(study, "psd", 1) / "run/evaluation/results.jsonl"
    first, *rest = path.read_text().splitlines()
    row = json.loads(first) | {"value": 0.001}
    path.write_text("\n".join([json.dumps(row), *rest]) + "\n")
    found = [one for one in study_tables(study).answers.tasks if one.method == "psd"]
    assert [one.note for one in found if one.quantity.task == row["task"]] == [
        "over seeds alone: the predictions do not give the number that was recorded"
    ]


def test_predictions_of_other_pictures_are_not_paired(with_pictures):
    study, _ = with_pictures
    (path,) = (cell_folder(study, "psd", 1) / "run/evaluation/predictions").glob("b-*")
    path.write_bytes(b"no parquet")
    row = only(
        study_tables(study).answers.tasks,
        method="psd",
        quantity=Quantity("b", "test", "zero-shot", "", None, "top1"),
    )
    assert row.over_both is None
    assert "damaged" in row.note
    assert row.decides is row.over_seeds


def captions(ranks_by_picture, task="pairs"):
    """Retrieval from text to image: one rank a caption."""
    rows = [
        {"direction": "text_to_image", "query": f"{p} {q}", "picture": f"p{p}", "rank": rank}
        for p, ranks in enumerate(ranks_by_picture)
        for q, rank in enumerate(ranks)
    ]
    found = [row["rank"] == 1 for row in rows]
    return accuracy(
        sum(found) / len(found),
        task,
        protocol="retrieval",
        metric="text_to_image_recall@1",
        n=len(found),
        predictions=pa.Table.from_pylist(rows),
    )


def test_captions_vary_with_their_picture(tmp_path):
    """Pictures of 1, 2 and 3 captions: gains of 1, 0 and 1 of 6 captions, so d = 1/3.

    3 h / 6 less 1/3 of (3 q / 6 - 1): 1/2 + 1/6, 0 - 0, and 1/2 - 1/6.
    """
    study = write_facts(tmp_path / "study")
    write_cell(study, "clip", 0, [captions([[2], [1, 2], [2, 2, 2]])])
    write_cell(study, "psd", 0, [captions([[1], [1, 2], [1, 2, 2]])])
    cells = read_study(study).cells
    pair = Pair(*(cells[method, "base", "base", 0] for method in ("clip", "psd")))
    (quantity,) = pair.first.numbers
    (gain_N,) = PictureScores().gains(quantity, [pair])
    assert gain_N == pytest.approx([2 / 3, 0, 1 / 3])
    assert gain_N.mean() == pytest.approx(1 / 3)


def test_a_few_shot_score_is_the_share_of_subsets(tmp_path):
    study = write_facts(tmp_path / "study")
    right = [[True, False, True], [True, False, False]]
    rows = [
        {
            "method": "text-initialised",
            "shots": 4,
            "subset": s,
            "key": f"p{n}",
            "label": 1,
            "predicted": int(hit),
        }
        for s, hits_of in enumerate(right)
        for n, hit in enumerate(hits_of)
    ]
    row = probe(0.5, 4) | {"predictions": pa.Table.from_pylist(rows), "n": 3}
    write_cell(study, "clip", 0, [row])
    (cell,) = read_study(study).cells.values()
    (quantity,) = cell.numbers
    assert PictureScores().of(cell, quantity).score_C == pytest.approx([1, 0, 0.5])


def test_growth_is_per_tenfold_of_the_pairs(tmp_path):
    """1 point more with a tenth of the pairs, 3, 4 and 5 points with all."""
    study = write_facts(tmp_path / "study", axes=SIZES)
    for seed, more in enumerate((0.03, 0.04, 0.05)):
        for axis, level, pairs, gain in (
            ("base", "base", 10_000, more),
            ("size", "small", 1_000, 0.01),
        ):
            given = {"axis": axis, "level": level, "pairs": pairs}
            write_cell(study, "clip", seed, [accuracy(0.3)], **given)
            write_cell(study, "psd", seed, [accuracy(0.3 + gain)], **given)
    answers = study_tables(study).answers
    (growth,) = answers.growths
    assert growth.estimate.value == pytest.approx(0.03)
    assert growth.estimate.high - 0.03 == pytest.approx(T2 * 0.01 / math.sqrt(3))
    small = only(answers.levels, level="small", method="psd")
    assert (small.pairs, small.place) == (1_000, pytest.approx(3))
    assert small.difference.value == pytest.approx(0.01)
    assert small.to_base_level.value == pytest.approx(-0.03)
    assert only(answers.levels, level="all", method="clip").difference is None


def test_a_level_is_compared_over_seeds_and_pictures(tmp_path):
    """What all seeds say alike of these pictures says little of others: 3 seeds, 20 pictures."""
    study = write_facts(tmp_path / "study", axes=SIZES)
    random = np.random.default_rng(1)
    right = {}
    for seed in range(3):
        for method in ("clip", "psd"):
            for axis, level, pairs in (("base", "base", 10_000), ("size", "small", 1_000)):
                share = 0.3 + 0.3 * (method == "psd") * (axis == "base")
                right[method, level, seed] = one = random.random(20) < share
                given = {"axis": axis, "level": level, "pairs": pairs}
                write_cell(study, method, seed, [hits(one.tolist())], **given)
    gain = {
        (method, level): np.stack([right[method, level, seed] * 1.0 for seed in range(3)])
        for method in ("clip", "psd")
        for level in ("base", "small")
    }
    answers = study_tables(study).answers
    small = only(answers.levels, level="small", method="psd")
    to_clip = crossed_mean(gain["psd", "small"] - gain["clip", "small"])
    to_own = crossed_mean(gain["psd", "small"] - gain["psd", "base"])
    for found, crossed in ((small.difference, to_clip), (small.to_base_level, to_own)):
        assert (found.freedom, found.how) == (crossed.freedom, BOTH)
        assert found.high - found.value == pytest.approx(crossed.half_width)
    # The base and its level are the same cells, so the same interval.
    macro = only(answers.macros, method="psd")
    assert only(answers.levels, level="all", method="psd").difference == macro.over_both
    # Of two places a tenfold apart the slope is the one gain less the other.
    (growth,) = answers.growths
    by_level = [gain["psd", level] - gain["clip", level] for level in ("base", "small")]
    crossed = crossed_mean(by_level[0] - by_level[1])
    assert (growth.estimate.freedom, growth.estimate.how) == (crossed.freedom, SLOPES_AND_PICTURES)
    assert growth.estimate.high - growth.estimate.value == pytest.approx(crossed.half_width)


def test_sets_that_do_not_count_are_in_no_mean_but_under_their_shift(tmp_path):
    """`emoji` is within `things`: PSD gains 6 points there, and 2 in what counts."""
    study = write_facts(
        tmp_path / "study",
        shifts={"emoji": "seen emoji"},
        counted=["things"],
    )
    for seed in range(3):
        for method, gain in (("clip", 0.0), ("psd", 0.02 + 0.01 * seed)):
            level = 0.4 + 0.05 * seed
            rows = [accuracy(level + gain), accuracy(level, "seen emoji")]
            rows += [accuracy(level / 2 + 0.06 * (method == "psd"), "emoji")]
            few = [probe(level + gain, 4, "probed"), probe(level, 0, "probed", "zero-shot")]
            write_cell(study, method, seed, rows + few)
    tables = study_tables(study)
    macro = only(tables.answers.macros, method="psd", family="zero-shot")
    assert (macro.tasks, macro.wins, macro.losses, macro.unresolved) == (1, 1, 0, 0)
    assert macro.over_seeds.value == pytest.approx(0.03)
    assert {row.quantity.task for row in tables.answers.tasks} == {"things", "probed"}
    assert only(tables.answers.robustness, method="psd").difference.value == pytest.approx(0.06)
    (words,) = [table for table in tables.words if table.key == "tasks"]
    assert words.note.endswith("Measured for effective robustness alone: emoji, seen emoji.")


def logit(p):
    return math.log(p / (1 - p))


def test_robustness_is_above_the_line_of_the_baseline_s_cells(tmp_path):
    """The baseline lies on logit y = logit x - 1 exactly, PSD 5, 6 and 7 points above it."""
    study = write_facts(tmp_path / "study", shifts={"emoji": "icons"})
    for seed in range(3):
        for method, above in (("clip", 0.0), ("psd", 0.05 + 0.01 * seed)):
            x = 0.3 + 0.1 * seed
            y = 1 / (1 + math.exp(1 - logit(x))) + above
            write_cell(study, method, seed, [accuracy(x, "icons"), accuracy(y, "emoji")])
    answers = study_tables(study).answers
    (table,) = answers.shifts
    assert (table.slope, table.intercept) == pytest.approx((1, -1))
    psd = only(answers.robustness, method="psd")
    assert psd.difference.value == pytest.approx(0.06)
    assert psd.mean.high - 0.06 == pytest.approx(T2 * 0.01 / math.sqrt(3))
    assert only(answers.robustness, method="clip").mean.value == pytest.approx(0)
    assert {cell.method for cell in table.cells} == {"clip", "psd"}


def test_what_a_seed_does_to_both_is_in_no_difference(tmp_path):
    study = write_facts(tmp_path / "study", shifts={"emoji": "icons"})
    for seed, off in enumerate((0.0, 0.06, -0.02)):
        for method, above in (("clip", 0.0), ("psd", 0.05 + 0.01 * seed)):
            x = 0.3 + 0.1 * seed
            y = 0.2 + 0.1 * seed + off + above
            write_cell(study, method, seed, [accuracy(x, "icons"), accuracy(y, "emoji")])
    psd = only(study_tables(study).answers.robustness, method="psd")
    half = T2 * 0.01 / math.sqrt(3)
    assert (psd.difference.value, psd.difference.high) == pytest.approx((0.06, 0.06 + half))
    assert psd.mean.high - psd.mean.value > 2 * half


def test_each_shift_is_relative_to_its_own_set(tmp_path):
    """Two lines through different sets; the mean is over what lies above both."""
    study = write_facts(tmp_path / "study", shifts={"emoji": "icons", "drawn": "photos"})
    for seed in range(3):
        for method, above in (("clip", 0.0), ("psd", 0.05)):
            x, other = 0.3 + 0.1 * seed, 0.7 - 0.1 * seed
            y, z = (1 / (1 + math.exp(1 - logit(one))) for one in (x, other))
            rows = [accuracy(x, "icons"), accuracy(y + above, "emoji"), accuracy(other, "photos")]
            write_cell(study, method, seed, [*rows, accuracy(z - above / 5, "drawn")])
    tables = study_tables(study)
    rows = [row for row in tables.answers.robustness if row.method == "psd"]
    assert [(row.shift, row.in_distribution) for row in rows] == [
        ("emoji", "icons"),
        ("drawn", "photos"),
        ("mean", ""),
    ]
    assert [row.difference.value for row in rows] == pytest.approx([0.05, -0.01, 0.02])
    assert [table.in_distribution for table in tables.answers.shifts] == ["icons", "photos"]
    (words,) = [table for table in tables.words if table.key == "robustness"]
    assert words.rows[1][:4] == ("emoji", "icons", "psd", "3")


NOISES = {"noise": {"levels": ["none", "some", "much"], "values": [0, 0.2, 0.4], "base": "none"}}


def write_shifted(study, seed, above, *, level="base", x):
    """The baseline on logit y = logit x - 1, PSD so much above it."""
    axis = "base" if level == "base" else "noise"
    for method, more in (("clip", 0.0), ("psd", above)):
        y = 1 / (1 + math.exp(1 - logit(x))) + more
        rows = [accuracy(x, "icons"), accuracy(y, "emoji")]
        write_cell(study, method, seed, rows, axis=axis, level=level)


def test_seeds_are_averaged_over_the_levels_that_all_have(tmp_path):
    """4, 5 and 6 points at the base; the noise that two seeds have takes 8 more and is left out."""
    study = write_facts(tmp_path / "study", axes=NOISES, shifts={"emoji": "icons"})
    for seed in range(3):
        write_shifted(study, seed, 0.04 + 0.01 * seed, x=0.5 + 0.05 * seed)
    for seed in range(2):
        write_shifted(study, seed, -0.04 + 0.01 * seed, level="some", x=0.3 + 0.05 * seed)
    psd = only(study_tables(study).answers.robustness, method="psd")
    half = T2 * 0.01 / math.sqrt(3)
    assert (psd.difference.value, psd.difference.high) == pytest.approx((0.05, 0.05 + half))
    assert psd.cells == 3
    assert psd.note == "2 of 5 cells left out: not all seeds have their levels"


def test_seeds_that_share_no_level_have_no_robustness(tmp_path):
    study = write_facts(tmp_path / "study", axes=NOISES, shifts={"emoji": "icons"})
    for seed, level in enumerate(("base", "some", "much")):
        write_shifted(study, seed, 0.05, level=level, x=0.5 + 0.05 * seed)
    tables = study_tables(study)
    psd = only(tables.answers.robustness, method="psd")
    assert (psd.cells, psd.mean, psd.difference) == (0, None, None)
    assert psd.note == "not measured: its seeds share no level"
    assert {one.name: one.verdict for one in tables.verdicts}["psd-robustness"] == "not tried"
    assert "its seeds share no level" in markdown(tables)


def test_a_line_needs_three_cells_of_the_baseline(gained):
    facts = json.loads((gained / "study.json").read_text())
    write_facts(gained, **facts | {"shifts": {"things": "others"}})
    answers = study_tables(gained).answers
    assert answers.robustness == []
    assert answers.shifts[0].note.startswith("not measured: the line needs 3 baseline cells")


def test_cost_is_a_ratio_by_seed(gained):
    row = only(study_tables(gained).answers.cost, method="psd")
    assert row.time_ratio.value == pytest.approx((1.01 * 1.011 * 1.012) ** (1 / 3))
    assert row.median_time_ratio == pytest.approx(1.011)
    assert row.time_ratio.high < 1.02
    assert (row.memory, row.memory_ratio) == (None, None)


def test_cost_is_of_cells_that_ran_alone(gained):
    """With seed 2 psd ran beside another cell, with seed 1 the baseline did."""
    for method, seed in (("psd", 2), ("clip", 1)):
        path = cell_folder(gained, method, seed) / "cell.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"alone": False}))
    rows = study_tables(gained).answers.cost
    psd = only(rows, method="psd")
    assert (psd.time_ratio.value, psd.time_ratio.seeds) == (pytest.approx(1.01), 1)
    assert psd.seconds == pytest.approx(0.1 * 1.0105)
    assert psd.note == "of the 1 of 3 seeds whose cells ran alone"
    for seed in range(3):
        path = cell_folder(gained, "psd", seed) / "cell.json"
        facts = json.loads(path.read_text())
        del facts["alone"]
        path.write_text(json.dumps(facts))
    psd = only(study_tables(gained).answers.cost, method="psd")
    assert (psd.time_ratio, psd.median_time_ratio) == (None, None)
    assert (psd.seconds, psd.note) == (pytest.approx(0.1011), "cells ran beside each other")


def test_few_shot_probes_against_none_and_the_plain_one(tmp_path):
    study = write_facts(tmp_path / "study")
    for seed in range(2):
        for method, level in (("clip", 0.4), ("psd", 0.5)):
            rows = [accuracy(level), probe(level, 0, method="zero-shot")]
            for shots, more in ((1, 0.01 * (seed + 1)), (16, 0.2)):
                rows += [
                    probe(level + more, shots),
                    probe(level + 2 * more, shots, method="from-zero"),
                ]
            write_cell(study, method, seed, rows)
    rows = study_tables(study).answers.few_shot
    one = only(rows, method="clip", shots=1)
    assert one.over_zero_shot.value == pytest.approx(0.015)
    assert one.over_plain.value == pytest.approx(-0.015)
    every = only(rows, method="all methods", shots=16)
    assert every.accuracy.value == pytest.approx(0.65)
    assert every.zero_shot.value == pytest.approx(0.45)
    macro = only(study_tables(study).answers.macros, method="psd", family="few-shot")
    assert macro.tasks == 2


def test_what_is_missing_is_said_and_nothing_invented(tmp_path):
    """PSD lacks a seed and a set; hn_nce has one seed; cd none; nothing else was asked for."""
    study = write_facts(
        tmp_path / "study",
        methods=["clip", "psd", "hn_nce", "cd"],
        axes=SIZES,
        cells=[
            "base-clip-seed0",
            "base-clip-seed1",
            "base-clip-seed2",
            "base-psd-seed0",
            "base-psd-seed1",
            "base-cd-seed0",
            "base-hn_nce-seed0",
        ],
    )
    for seed in range(3):
        write_cell(study, "clip", seed, [accuracy(0.5 + 0.01 * seed), accuracy(0.5, "others")])
    write_cell(study, "psd", 0, [accuracy(0.52), accuracy(0.5, "others")])
    write_cell(study, "psd", 1, [accuracy(0.54)])
    write_cell(study, "hn_nce", 0, [accuracy(0.6), accuracy(0.5, "others")])
    tables = study_tables(study)
    assert tables.problems == ["the cell base-cd-seed0 is not done"]
    macros = {row.method: row for row in tables.answers.macros}
    assert macros["psd"].over_seeds.seeds == 2
    assert (macros["psd"].tasks, macros["psd"].note) == (
        1,
        "not in every cell, left out: others; over seeds alone: the predictions are missing",
    )
    assert macros["hn_nce"].over_seeds.how.startswith("one seed")
    assert (macros["cd"].mean, macros["cd"].note) == (None, "not measured")
    assert (tables.answers.growths, tables.answers.shifts) == ([], [])
    verdicts = {one.name: one.verdict for one in tables.verdicts}
    assert verdicts["hn-nce-zero-shot"] == "unresolved"
    assert verdicts["cd-zero-shot"] == "not tried"
    assert verdicts["psd-growth"] == "not tried"
    assert "needs 2 seeds or more" in markdown(tables)


def test_an_empty_study_is_tables_without_numbers(tmp_path):
    study = write_facts(tmp_path / "study")
    tables = study_tables(study)
    assert tables.cells == 0
    assert {one.verdict for one in tables.verdicts} == {"not tried"}
    assert [table.key for table in tables.words] == ["verdicts"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            '"dataset_fingerprint": "things"',
            '"dataset_fingerprint": "x"',
            "pictures, labels or captions",
        ),
        ('"prompts": ""', '"prompts": "x"', "class names or prompts"),
    ],
)
def test_other_pictures_or_prompts_are_no_comparison(gained, before, after, said):
    path = cell_folder(gained, "psd", 1) / "run/evaluation/results.jsonl"
    things, others = path.read_text().splitlines()
    path.write_text(f"{things.replace(before, after)}\n{others}\n")
    tables = study_tables(gained)
    assert tables.problems == [
        f"the cell base-psd-seed1: things (zero-shot) is left out: its {said} are not those of the "
        "first cell"
    ]
    row = only(
        tables.answers.tasks,
        method="psd",
        quantity=Quantity("things", "test", "zero-shot", "", None, "top1"),
    )
    assert row.over_seeds.seeds == 2


def test_tables_become_json_markdown_and_text(gained, tmp_path):
    tables = study_tables(gained)
    out = write_study_tables(tables, tmp_path / "tables.json")
    assert json.loads(out.read_text()) == json.loads(json.dumps(as_json(tables), allow_nan=False))
    assert as_json(tables)["answers"]["tasks"][0]["quantity"]["task"] == "things"
    text = markdown(tables)
    assert "| zero-shot | psd | 51.0 ± 13.7 | +1.0 (−0.2 to +2.2) |" in text
    assert len(rich_tables(tables)) == len(tables.words)
    for table in tables.words:
        assert {len(row) for row in table.rows} == {len(table.head)}


def test_names_are_no_markup(tmp_path):
    study = write_facts(tmp_path / "study")
    write_cell(
        study,
        "clip",
        0,
        [
            accuracy(0.5, "a|b <i>"),
        ],
    )
    write_cell(study, "psd", 0, [accuracy(0.5, "a|b <i>")])
    assert "a\\|b &lt;i&gt;" in markdown(study_tables(study))


@pytest.mark.parametrize(
    ("file", "words", "said"),
    [
        ("study.json", "{", "study.json"),
        ("study.json", '{"methods": ["psd"], "baseline": "clip", "axes": {}}', "the baseline clip"),
        (
            "study.json",
            '{"methods": ["m"], "baseline": "m", "axes": {}, "shifts": ["a"]}',
            "shifts",
        ),
        (
            "study.json",
            '{"methods": ["m"], "baseline": "m", "axes": {"a": {"levels": ["b"], "values": []}}}',
            "one value",
        ),
        ("cells/base-psd-seed0/cell.json", "[]", "base-psd-seed0/cell.json"),
        ("cells/base-psd-seed0/cell.json", '{"name": "x"}', "method"),
        ("cells/base-psd-seed0/run/evaluation/results.jsonl", "{\n", "line 1 is not a result"),
    ],
)
def test_a_damaged_file_is_named(gained, file, words, said):
    (gained / file).write_text(words)
    with pytest.raises(InputError, match=said):
        study_tables(gained)


def test_a_cell_that_is_not_done_or_of_another_study_does_not_count(gained):
    (cell_folder(gained, "psd", 2) / "cell.json").unlink()
    write_cell(gained, "psd", 5, [accuracy(0.9)], axis="noise", level="20")
    write_cell(gained, "siglip", 0, [accuracy(0.9)])
    tables = study_tables(gained)
    assert tables.problems == [
        "the cell base-siglip-seed0 is left out: the study has no method siglip",
        "the cell noise-20-psd-seed5 is left out: the study has no axis noise",
    ]
    assert only(tables.answers.macros, method="psd").over_seeds.seeds == 2
    (cell_folder(gained, "psd", 1) / "run/evaluation/results.jsonl").unlink()
    with pytest.raises(InputError, match="does not exist"):
        study_tables(gained)
