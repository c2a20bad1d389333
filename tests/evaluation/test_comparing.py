import dataclasses
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from result_rows import measured
from sklearn.metrics import average_precision_score, roc_auc_score

from winnow.evaluation import comparing
from winnow.evaluation.by_picture import sign_flip_p_value
from winnow.evaluation.comparing import compare
from winnow.evaluation.paired import NotComparableError, few_shot_value, paired, paired_few_shot
from winnow.evaluation.results import (
    RESULTS_FILE,
    predictions_path,
    write_results,
)
from winnow.statistics import mcnemar_p_value
from winnow.types import InputError

R = 500


def zero_shot(ranks, labels=None):
    labels = [0] * len(ranks) if labels is None else labels
    return pa.table({"key": [f"p{n}" for n in range(len(ranks))], "label": labels, "rank": ranks})


def few_shot(hits_by_subset, labels=None, method="text-initialised", shots=4):
    rows = []
    for subset, hits in enumerate(hits_by_subset):
        for n, hit in enumerate(hits):
            label = 0 if labels is None else labels[n]
            row = {"subset": subset, "key": f"p{n}", "label": label}
            rows.append(row | {"predicted": label if hit else label + 1})
    methods = pa.array([method] * len(rows)).dictionary_encode()
    table = pa.Table.from_pylist([{"shots": shots, **row} for row in rows])
    return table.append_column("method", methods)


def write(folder, task, predictions, value, *, protocol="zero-shot", metric="top1", **others):
    """One row more, whatever is there: a file may hold several models."""
    row = measured(
        folder.name,
        task=task,
        protocol=protocol,
        metric=metric,
        value=value,
        **{"n": predictions.num_rows, "dataset_fingerprint": "pictures", "prompts": "p"} | others,
    )
    folder.mkdir(exist_ok=True)
    with (folder / RESULTS_FILE).open("a") as file:
        file.write(json.dumps(dataclasses.asdict(row)) + "\n")
    path = predictions_path(folder, row)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(predictions, path)


# Right by both 40, by the first alone 10, by the second alone 25, by neither 25.
FIRST = [1] * 40 + [1] * 10 + [2] * 25 + [3] * 25
SECOND = [1] * 40 + [2] * 10 + [1] * 25 + [7] * 25


def test_a_share_of_samples_by_hand():
    found = paired(zero_shot(FIRST), zero_shot(SECOND), "top1", resamples=20_000)
    assert (found.first, found.second) == pytest.approx((0.50, 0.65))
    assert found.difference == pytest.approx(0.15)
    assert (found.only_first, found.only_second, found.n) == (10, 25, 100)
    assert found.p_value == mcnemar_p_value(10, 25)
    error = np.sqrt((0.35 - 0.15**2) / 100)
    assert (found.low, found.high) == pytest.approx(
        (0.15 - 1.96 * error, 0.15 + 1.96 * error), abs=0.01
    )
    assert paired(zero_shot(FIRST), zero_shot(SECOND), "top2", resamples=R).first == 0.75


def test_samples_are_paired_by_key_not_by_place():
    second = zero_shot(SECOND)
    shuffled = second.take(np.random.default_rng(0).permutation(100))
    one, other = (paired(zero_shot(FIRST), t, "top1", resamples=R) for t in (second, shuffled))
    assert one == other


def test_a_model_does_not_differ_from_itself():
    labels = [n % 7 for n in range(100)]
    for metric in ("top1", "top5", "mean_per_class"):
        table = zero_shot(FIRST, labels)
        found = paired(table, table, metric, resamples=R)
        assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    table = few_shot([[True, False, True], [False, False, True]])
    found = paired_few_shot(table, table, "top1", resamples=R)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_other_samples_are_not_compared():
    with pytest.raises(NotComparableError, match="not of the same samples"):
        paired(zero_shot(FIRST), zero_shot(SECOND[:99]), "top1", resamples=R)
    with pytest.raises(NotComparableError, match="not of the same samples"):
        paired_few_shot(few_shot([[True, True]]), few_shot([[True]]), "top1", resamples=R)


def test_the_mean_over_classes_by_hand():
    """Recalls 3/4 and 0 of the first, 1/4 and 1 of the second: the rare class weighs as much."""
    labels = [0, 0, 0, 0, 1]
    first, second = [1, 1, 1, 2, 2], [1, 2, 2, 2, 1]
    found = paired(
        zero_shot(first, labels), zero_shot(second, labels), "mean_per_class", resamples=R
    )
    assert (found.first, found.second) == pytest.approx((0.375, 0.625))
    assert found.difference == pytest.approx(0.25)
    assert (found.test, found.only_first) == ("sign flips, drawn", None)
    assert found.low < 0 < found.high
    # Gains of -1/8, -1/8 and 1/2: no other signs are nearer to zero.
    assert found.p_value == 1


@pytest.mark.parametrize(("more", "p_value"), [(4, 0.125), (5, 0.0625), (8, 0.0078125)])
def test_a_mean_over_equal_classes_is_told_apart_as_a_share(more, p_value):
    labels = [n % 4 for n in range(100)]
    tables = [zero_shot([1] * right + [2] * (100 - right), labels) for right in (50, 50 + more)]
    found = paired(*tables, "mean_per_class", resamples=R)
    assert (found.p_value, found.test) == (pytest.approx(p_value), "exact McNemar")


def test_equal_models_differ_in_the_mean_over_classes_once_in_twenty_times():
    """Few samples decide, and classes of 4 to 80 samples: 400 times over."""
    random = np.random.default_rng(14)
    labels = np.repeat(range(4), [4, 8, 40, 80])
    alarms = 0
    for seed in range(400):
        rank_2N = np.where(random.random((2, 132)) < 0.95, 1, 2)
        tables = [zero_shot(rank_N.tolist(), labels) for rank_N in rank_2N]
        found = paired(*tables, "mean_per_class", resamples=R, seed=seed)
        alarms += found.p_value < 0.05
    assert 0.02 <= alarms / 400 <= 0.07


def test_where_every_sample_is_gained_the_interval_has_a_width():
    """Wilson's of 3 of 3; classes of 1 and 3 samples are as sure as 3 equal ones."""
    none, every = zero_shot([2] * 3), zero_shot([1] * 3)
    found = paired(none, every, "top1", resamples=R)
    assert (found.low, found.high) == pytest.approx((0.43850, 1), abs=1e-5)
    assert (found.p_value, found.interval) == (pytest.approx(0.25), "wilson")
    found = paired(every, none, "top1", resamples=R)
    assert (found.low, found.high) == pytest.approx((-1, -0.43850), abs=1e-5)
    tables = [zero_shot([rank] * 4, [0, 1, 1, 1]) for rank in (2, 1)]
    found = paired(*tables, "mean_per_class", resamples=R)
    assert (found.low, found.high) == pytest.approx((0.43850, 1), abs=1e-5)
    assert found.interval == "wilson over weighted pictures"


def test_equal_classes_give_the_interval_of_the_share():
    labels = [n % 4 for n in range(100)]
    tables = zero_shot(FIRST, labels), zero_shot(SECOND, labels)
    share = paired(*tables, "top1", resamples=4000)
    mean = paired(*tables, "mean_per_class", resamples=4000)
    assert mean.difference == pytest.approx(share.difference)
    assert (mean.low, mean.high) == pytest.approx((share.low, share.high), abs=0.011)


def retrieval(ranks_by_direction):
    """One caption a picture."""
    rows = [
        {"direction": direction, "query": f"q{n}", "picture": f"p{n}", "rank": rank}
        for direction, ranks in ranks_by_direction.items()
        for n, rank in enumerate(ranks)
    ]
    return pa.Table.from_pylist(rows)


def test_retrieval_is_paired_by_query_in_its_direction():
    first = retrieval({"image_to_text": [1, 6, 6], "text_to_image": [1, 1, 9, 30]})
    second = retrieval({"image_to_text": [1, 2, 6], "text_to_image": [2, 1, 3, 40]})
    values = {
        metric: paired(first, second, metric, resamples=R)
        for metric in (
            "image_to_text_recall@1",
            "image_to_text_recall@5",
            "text_to_image_recall@10",
            "text_to_image_median_rank",
            "image_to_text_median_rank",
        )
    }
    assert [(found.first, found.second, found.n) for found in values.values()] == [
        (pytest.approx(1 / 3), pytest.approx(1 / 3), 3),
        (pytest.approx(1 / 3), pytest.approx(2 / 3), 3),
        (0.75, 0.75, 4),
        (1.0, 2.0, 4),
        (6.0, 2.0, 3),
    ]


@pytest.mark.parametrize("n", [40, 41])
def test_the_median_of_draws_is_numpy_s(n):
    """Of an even number the lower of the middle two, as retrieval.py records it."""
    random = np.random.default_rng(n)
    rank_2Q = random.integers(1, 9, (2, n))
    tables = [retrieval({"image_to_text": ranks.tolist()}) for ranks in rank_2Q]
    found = paired(*tables, "image_to_text_median_rank", resamples=4000)
    half = {"q": 0.5, "method": "inverted_cdf"}
    assert (found.first, found.second) == tuple(np.quantile(rank_2Q, axis=1, **half))
    drawn = rank_2Q[:, random.integers(n, size=(4000, n))]
    literal = np.diff(np.quantile(drawn, axis=2, **half), axis=0)[0]
    assert (found.low, found.high) == pytest.approx(np.quantile(literal, [0.025, 0.975]), abs=0.5)


def captions(rank_CK, *, together=True):
    """Captions of C pictures, K each; or each of a picture of its own."""
    rank_CK = np.asarray(rank_CK)
    names = [f"c{n}" for n in range(rank_CK.size)]
    columns = {
        "direction": ["text_to_image"] * rank_CK.size,
        "query": names,
        "picture": np.repeat(names[: len(rank_CK)], rank_CK.shape[1]) if together else names,
        "rank": rank_CK.ravel(),
    }
    return pa.table(columns)


def test_captions_are_drawn_with_their_picture():
    """Errors by hand and by literal draws of pictures; order and the second's column are free."""
    random = np.random.default_rng(11)
    hit_2C3 = random.random((2, 60, 3)) < random.choice([0.1, 0.5, 0.9], (1, 60, 1))
    hit_2C3[1] |= (random.random((60, 1)) < 0.2) & ~hit_2C3[0]
    rank_2C3 = np.where(hit_2C3, 1, random.integers(2, 30, hit_2C3.shape))
    tables = captions(rank_2C3[0]), captions(rank_2C3[1]).take(random.permutation(180))
    found = paired(*tables, "text_to_image_recall@1", resamples=4000)
    gain_C = np.diff(hit_2C3.sum(axis=2), axis=0)[0]
    assert found.difference == pytest.approx(gain_C.sum() / 180)
    assert found.high - found.low == pytest.approx(
        2 * 1.96 * gain_C.std() / 3 / np.sqrt(60), rel=0.08
    )
    assert (found.interval, found.test, found.n) == (
        "paired bootstrap over pictures",
        "exact sign flips over pictures",
        180,
    )
    assert found.only_second - found.only_first == gain_C.sum()
    with pytest.raises(NotComparableError, match="do not hold what text_to_image_recall@1"):
        paired(
            tables[0].drop_columns(["picture"]), tables[1], "text_to_image_recall@1", resamples=R
        )
    median = paired(*tables, "text_to_image_median_rank", resamples=4000)
    drawn = random.integers(60, size=(4000, 60))
    literal = [
        np.quantile(rank_C3[drawn].reshape(4000, -1), 0.5, axis=1, method="inverted_cdf")
        for rank_C3 in rank_2C3
    ]
    ends = np.quantile(literal[1] - literal[0], [0.025, 0.975])
    assert (median.low, median.high) == pytest.approx(ends, abs=1.0)
    assert (median.interval, median.n) == ("paired bootstrap over pictures", 180)


def test_the_test_of_captions_is_named_after_what_is_drawn():
    metric = "text_to_image_recall@1"
    several = [captions(np.where(hits, 1, 2)) for hits in ([[1, 1], [0, 1]], [[1, 0]] * 2)]
    assert paired(*several, metric, resamples=R).test == "exact sign flips over pictures"
    one_each = [captions([[1], [2]]), captions([[2], [1]])]
    found = paired(*one_each, metric, resamples=R)
    assert (found.interval, found.test) == ("paired bootstrap", "exact McNemar")


def test_sign_flips_are_the_share_of_all_signs():
    hit_2Q = np.array([[1, 0, 0, 1, 0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0, 1, 1, 1, 0]], bool)
    picture_Q = np.array([0, 0, 3, 3, 3, 5, 7, 7, 8, 9])
    gains = np.bincount(picture_Q, hit_2Q[1]) - np.bincount(picture_Q, hit_2Q[0], minlength=10)
    gains = gains[gains != 0]
    signs = np.array(list(itertools.product([-1, 1], repeat=len(gains))))
    literal = (np.abs(signs @ gains) >= abs(gains.sum())).mean()
    assert literal < 1
    assert sign_flip_p_value(hit_2Q, picture_Q) == pytest.approx(literal)


def test_sign_flips_of_one_query_a_picture_are_mcnemar_s():
    for first, second in ((10, 25), (0, 3), (7, 7), (400, 900)):
        hit_2Q = np.array([[True] * first + [False] * second, [False] * first + [True] * second])
        p_value = sign_flip_p_value(hit_2Q, np.arange(first + second))
        assert p_value == pytest.approx(mcnemar_p_value(first, second), rel=1e-9)


def test_equal_models_are_told_apart_once_in_twenty_times():
    """Each picture's captions are found together, by either model as often: 1,000 times over.
    With captions as so many votes, the alarm is false in far more.
    """
    random = np.random.default_rng(12)
    picture_Q, flips, as_if = np.repeat(np.arange(80), 5), 0, 0
    for _ in range(1000):
        hit_2Q = random.random((2, 400)) < random.choice([0.1, 0.9], (2, 80, 1)).repeat(
            5, 2
        ).reshape(2, 400)
        flips += sign_flip_p_value(hit_2Q, picture_Q) < 0.05
        as_if += mcnemar_p_value(*(int((hit_2Q[a] & ~hit_2Q[1 - a]).sum()) for a in (0, 1))) < 0.05
    assert 0.03 <= flips / 1000 <= 0.07
    assert as_if / 1000 > 0.2


@pytest.mark.slow
def test_the_difference_s_interval_holds_the_truth_where_captions_go_together():
    """Truth 0: 200 times over, also as if each caption had a picture of its own."""
    random = np.random.default_rng(13)
    covered, independent = 0, 0
    for _ in range(200):
        ranks_ = 2 - (random.random((2, 100, 5)) < random.choice([0.1, 0.9], (2, 100, 1)))
        for together in (True, False):
            tables = [captions(rank_C5, together=together) for rank_C5 in ranks_]
            found = paired(*tables, "text_to_image_recall@1", resamples=R)
            holds = found.low <= 0 <= found.high
            covered, independent = covered + holds * together, independent + holds * (not together)
    assert 0.91 <= covered / 200 <= 0.985
    assert independent / 200 < 0.8


def scored(score_NK, label_NK):
    columns = {
        "key": [f"p{n}" for n in range(len(score_NK))],
        "labels": [np.flatnonzero(row).tolist() for row in label_NK],
        "class_scores": pa.array(score_NK.tolist(), pa.list_(pa.float32())),
    }
    return pa.table(columns)


def several_labels(classes):
    random = np.random.default_rng(8)
    label_NK = random.random((60, classes)) < 0.3
    if classes == 2:
        label_NK[:, 0] = ~label_NK[:, 1]
    noise_2NK = random.normal(size=(2, 60, classes)).astype(np.float32)
    return noise_2NK + label_NK * np.array([0.5, 1.5], np.float32)[:, None, None], label_NK


def literal_map(score_NK, label_NK):
    scores = zip(label_NK.T, score_NK.T, strict=True)
    return np.mean([average_precision_score(*pair) for pair in scores if pair[0].any()])


def literal_auc(score_NK, label_NK):
    return roc_auc_score(label_NK[:, 1], score_NK[:, 1] - score_NK[:, 0])


@pytest.mark.parametrize(("metric", "literal"), [("map", literal_map), ("roc_auc", literal_auc)])
def test_scores_are_compared_under_the_same_draws(metric, literal):
    """Values and interval are those of scikit-learn on the drawn samples themselves."""
    score_2NK, label_NK = several_labels(2 if metric == "roc_auc" else 4)
    tables = [scored(score_NK, label_NK) for score_NK in score_2NK]
    tables[1] = tables[1].take(np.random.default_rng(0).permutation(60))
    found = paired(*tables, metric, resamples=2000)
    assert (found.first, found.second) == pytest.approx([literal(s, label_NK) for s in score_2NK])
    random = np.random.default_rng(9)
    gains = []
    for _ in range(200):
        drawn = random.integers(60, size=60)
        first, second = (literal(score_NK[drawn], label_NK[drawn]) for score_NK in score_2NK)
        gains.append(second - first)
    width = np.subtract(*np.quantile(gains, [0.975, 0.025]))
    assert (found.low, found.high) == pytest.approx(
        np.quantile(gains, [0.025, 0.975]), abs=0.2 * width
    )
    assert found.p_value < 0.05
    assert (found.n, found.test) == (60, "paired bootstrap")


@pytest.mark.parametrize("metric", ["map", "map_11_point", "roc_auc"])
def test_draws_without_a_positive_leave_a_difference_finite(metric):
    """Of one positive in four, a third of the draws hold none."""
    label_NK = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], bool)
    if metric != "roc_auc":
        label_NK[:, 0] = False
    score_2NK = np.zeros((2, 4, 2))
    score_2NK[:, :, 1] = [[3, 2, 1, 4], [4, 2, 1, 3]]
    found = paired(*(scored(score_NK, label_NK) for score_NK in score_2NK), metric, resamples=R)
    assert found.low < found.difference < found.high == 0


def test_other_labels_and_missing_scores_are_not_compared():
    score_2NK, label_NK = several_labels(4)
    first, second = scored(score_2NK[0], label_NK), scored(score_2NK[1], ~label_NK)
    with pytest.raises(NotComparableError, match="labels in the predictions differ"):
        paired(first, second, "map", resamples=R)
    with pytest.raises(NotComparableError, match="do not hold what map is made of"):
        paired(zero_shot([1]), zero_shot([1]), "map", resamples=R)


def test_few_shot_by_hand():
    """Gains of 0.5 and 0 on two subsets; of 1, 0, 0.5 and -0.5 on four samples."""
    first = few_shot([[0, 0, 0, 1], [0, 0, 1, 1]])
    second = few_shot([[1, 0, 1, 1], [1, 0, 1, 0]])
    found = paired_few_shot(first, second, "top1", resamples=R)
    assert (found.first, found.second, found.n, found.subsets) == (0.375, 0.625, 4, 2)
    assert found.difference == 0.25
    by_subset, by_sample = np.var([0.5, 0.0], ddof=1) / 2, np.var([1, 0, 0.5, -0.5], ddof=1) / 4
    error = np.sqrt(by_subset + by_sample)
    freedom = (by_subset + by_sample) ** 2 / (by_subset**2 / 1 + by_sample**2 / 3)
    assert int(freedom) == 3
    half_width = 3.182446 * error
    assert (found.low, found.high) == pytest.approx((0.25 - half_width, 0.25 + half_width))
    assert 0.05 < found.p_value < 1


@pytest.mark.parametrize(
    ("first", "second", "gain", "low", "high"),
    [
        ([[0, 0, 0]] * 2, [[1, 1, 1]] * 2, 1.0, 0.43850, 1.0),
        ([[1, 1, 1]] * 2, [[0, 0, 0]] * 2, -1.0, -1.0, -0.43850),
        ([[0, 0, 0]] * 3, np.eye(3).tolist(), 1 / 3, 0.06149, 0.79234),
        ([[0] * 7] * 7, np.eye(7).tolist(), 1 / 7, 0.02568, 0.51313),
    ],
)
def test_few_shot_gains_without_spread_are_not_certain(first, second, gain, low, high):
    """N pictures of one gain: two of 2^N signs are as far from zero. Sevenths are not exact."""
    found = paired_few_shot(few_shot(first), few_shot(second), "top1", resamples=R)
    assert found.difference == pytest.approx(gain)
    assert found.p_value == pytest.approx(2 / 2**found.n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)
    assert (found.test, found.interval) == (
        "exact sign flips over pictures",
        "wilson over pictures",
    )


def test_few_shot_of_one_subset_is_a_share_of_samples():
    first, second = ([rank == 1 for rank in ranks] for ranks in (FIRST, SECOND))
    found = paired_few_shot(few_shot([first]), few_shot([second]), "top1", resamples=R)
    assert found == paired(zero_shot(FIRST), zero_shot(SECOND), "top1", resamples=R)


def test_few_shot_is_compared_on_the_subsets_that_both_have():
    first, second = few_shot([[0, 0], [1, 0], [1, 1]]), few_shot([[1, 1], [1, 0]])
    found = paired_few_shot(first, second, "top1", resamples=R)
    assert (found.first, found.second, found.subsets) == (0.25, 0.75, 2)
    assert few_shot_value(first, "top1") == 0.5
    later = second.set_column(second.column_names.index("subset"), "subset", pa.array([7, 7, 8, 8]))
    with pytest.raises(NotComparableError, match="no subset of shots in common"):
        paired_few_shot(first, later, "top1", resamples=R)


def test_few_shot_predictions_that_are_not_there_or_not_whole_are_not_compared():
    table = few_shot([[0, 1, 1], [1, 0, 1]])
    for part, says in ((table[:0], "there are no predictions"), (table[:5], "its subsets")):
        with pytest.raises(NotComparableError, match=says):
            paired_few_shot(part, table, "top1", resamples=R)
    one = few_shot([[1], [0]])
    with pytest.raises(NotComparableError, match="one picture alone"):
        paired_few_shot(one, one, "top1", resamples=R)
    with pytest.raises(NotComparableError, match="do not hold what map"):
        paired_few_shot(table, table, "map", resamples=R)


def test_rounding_is_no_difference():
    """4/6 + 4/10 and 1/6 + 9/10 are one number, and in floats 1e-16 apart: a tie."""
    labels = [0] * 6 + [1] * 10
    first = [1] * 4 + [2] * 2 + [1] * 4 + [2] * 6
    second = [1] * 1 + [2] * 5 + [1] * 9 + [2] * 1
    found = paired(
        zero_shot(first, labels), zero_shot(second, labels), "mean_per_class", resamples=R
    )
    assert found.first != found.second
    assert found.difference == 0.0
    probed = [few_shot([[rank == 1 for rank in ranks]] * 2, labels) for ranks in (first, second)]
    found = paired_few_shot(*probed, "mean_per_class", resamples=R)
    assert (found.difference, found.p_value) == (0.0, 1.0)


def test_few_shot_means_over_classes_weigh_classes_alike():
    labels = [0, 0, 0, 1]
    first, second = [[1, 1, 1, 0]] * 2, [[1, 1, 1, 1], [1, 0, 0, 1]]
    found = paired_few_shot(
        few_shot(first, labels), few_shot(second, labels), "mean_per_class", resamples=R
    )
    assert (found.first, found.second) == pytest.approx((0.5, (1 + 2 / 3) / 2))


def test_few_shot_intervals_hold_the_truth_where_subsets_and_samples_matter():
    """Truth 0; each subset shifts the chance of a gain, each sample has its own: 300 times over."""
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        lean_S1, lean_N = random.normal(0, 0.05, (5, 1)), random.normal(0, 0.1, 80)
        both = 0.5 + np.stack([-(lean_S1 + lean_N), lean_S1 + lean_N]) / 2
        hit_2SN = random.uniform(size=both.shape) < both
        found = paired_few_shot(*map(few_shot, hit_2SN.tolist()), "top1", resamples=R)
        covered += found.low <= 0 <= found.high
    assert 0.93 <= covered / 300 <= 1


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "a", tmp_path / "b"


def test_wins_are_counted_over_tasks_and_p_values_adjusted(folders):
    """The second wins 3 tasks, loses 1 and ties on 1; metrics that do not count are left."""
    changes = {"t1": (50, 65), "t2": (50, 60), "t3": (50, 55), "t4": (50, 48), "t5": (50, 50)}
    for task, right in changes.items():
        for folder, number in zip(folders, right, strict=True):
            table = zero_shot([1] * number + [9] * (100 - number))
            write(folder, task, table, number / 100)
            write(folder, task, table, number / 100, metric="top5")
    found = compare(*folders, resamples=R)
    assert [one.measured.metric for one in found.comparisons] == ["top1"] * 5
    test = found.sign_tests["zero-shot"]
    assert (test.wins, test.losses, test.ties) == (3, 1, 1)
    assert test.p_value == pytest.approx(2 * 5 / 16)
    p_values = [2 / 2**15, 2 / 2**10, 2 / 2**5, 2 / 2**2, 1.0]
    assert [one.difference.p_value for one in found.comparisons] == pytest.approx(p_values)
    assert [one.adjusted_p for one in found.comparisons] == pytest.approx(
        [5 * p_values[0], 4 * p_values[1], 3 * p_values[2], 1.0, 1.0]
    )
    everything = compare(*folders, metrics="all", resamples=R)
    assert len(everything.comparisons) == 10
    assert everything.sign_tests == found.sign_tests
    assert {one.adjusted_p for one in everything.comparisons if not one.is_main} == {None}


def test_retrieval_counts_both_ways_and_probes_are_a_group_of_their_own(folders):
    table = retrieval({"image_to_text": [1, 2], "text_to_image": [2, 2]})
    for folder in folders:
        for direction, value in (("image_to_text", 0.5), ("text_to_image", 0.0)):
            metric = f"{direction}_recall@1"
            write(folder, "pairs", table, value, protocol="retrieval", metric=metric)
        write(folder, "pairs", zero_shot([1, 2]), 0.5, protocol="linear-probe")
        probes = pa.concat_tables([few_shot([[1, 0], [0, 0]]), few_shot([[1, 1]] * 2, shots=8)])
        few = {"protocol": "few-shot", "method": "text-initialised"}
        write(folder, "pairs", probes, 0.25, shots=4, **few)
        write(folder, "pairs", probes, 0.5, shots=4, subset=0, **few)
        write(folder, "pairs", probes, 1.0, shots=8, **few)
    found = compare(*folders, resamples=R)
    assert {group: test.ties for group, test in found.sign_tests.items()} == {
        "zero-shot": 2,
        "linear probe": 1,
        "few-shot text-initialised, 4 shots": 1,
        "few-shot text-initialised, 8 shots": 1,
    }
    assert len(found.comparisons) == 5
    assert found.left_out == ()


def test_a_task_of_the_table_counts_by_its_metric(folders):
    labels = [0, 0, 0, 1]
    for folder, ranks, values in zip(
        folders, ([1, 1, 1, 2], [1, 1, 2, 1]), ((0.75, 0.5), (0.75, 5 / 6)), strict=True
    ):
        for metric, value in zip(("top1", "mean_per_class"), values, strict=True):
            write(folder, "wds_vtab-pets", zero_shot(ranks, labels), value, metric=metric)
    (one,) = compare(*folders, resamples=R).comparisons
    assert one.measured.metric == "mean_per_class"
    assert one.difference.difference == pytest.approx(1 / 3)


def test_what_cannot_be_compared_is_left_out_and_said(folders):
    first, second = folders
    table = zero_shot([1, 2])
    for task in ("good", "other-split", "other-pictures", "other-prompts", "stale", "gone"):
        write(first, task, table, 0.5)
    write(first, "alone", table, 0.5)
    write(second, "good", table, 0.5)
    write(second, "other-split", table, 0.5, split="train")
    write(second, "other-pictures", table, 0.5, dataset_fingerprint="more pictures")
    write(second, "other-prompts", table, 0.5, prompts="better prompts")
    write(second, "stale", zero_shot([1, 1]), 0.5)
    write(second, "gone", table, 0.5)
    (second / "predictions" / "gone-test-zero-shot.parquet").unlink()
    found = compare(first, second, resamples=R)
    assert [one.measured.task for one in found.comparisons] == ["good"]
    why = {one.task: one.why for one in found.left_out}
    assert why["alone"] == "only the first model was measured on it"
    assert why["other-split"].startswith("the splits differ (test and train)")
    assert "dataset fingerprints" in why["other-pictures"]
    assert why["other-prompts"].startswith("the class names or prompts differ")
    assert "records top1 0.5000, and its predictions give 1.0000" in why["stale"]
    assert why["gone"].endswith("gone-test-zero-shot.parquet is missing: evaluate again")


def test_nothing_in_common_is_an_error(folders):
    write(folders[0], "one", zero_shot([1]), 1.0)
    write(folders[1], "other", zero_shot([1]), 1.0)
    with pytest.raises(InputError, match=r"no number in common: one \(zero-shot\): only the first"):
        compare(*folders)


def test_a_model_is_its_weights_and_precision_not_its_name(folders):
    """Two spellings are one model; older weights and another precision are left out, and said."""
    first, second = folders
    table = zero_shot([1, 2])
    write(first, "one", table, 0.5, model="runs/a", model_fingerprint="w1")
    write(first, "two", table, 0.5, model="./runs/a", model_fingerprint="w1")
    for task in ("one", "two"):
        write(second, task, table, 0.5)
    found = compare(*folders, resamples=R)
    assert [one.measured.task for one in found.comparisons] == ["one", "two"]
    assert found.left_out == ()
    later = {"date": "2026-11-23T00:00:00+00:00"}
    write(second, "two", table, 0.5, model_fingerprint="new", **later)
    found = compare(*folders, resamples=R)
    assert [one.measured.task for one in found.comparisons] == ["two"]
    why = {(one.task, one.why) for one in found.left_out}
    assert ("one", "only the first model was measured on it") in why
    words = f"{second} has it of b (b, fp32), and only the newest model there is compared, b (new, "
    assert ("one", f"{words}fp32)") in why
    assert len(why) == 3
    write(first, "two", table, 0.5, model_fingerprint="w1", precision="bf16", **later)
    found = compare(*folders, resamples=R)
    assert any("of ./runs/a (w1, fp32), and only the newest" in one.why for one in found.left_out)


def probes(**settings):
    return {"protocol": "linear-probe", "settings": settings}


FITTED = {"train_fingerprint": "t", "validation_fingerprint": None}


def test_probes_fitted_to_other_pictures_are_left_out(folders):
    table = zero_shot([1, 2])
    for folder, changes in zip(folders, ({}, {"train_fingerprint": "u"}), strict=True):
        write(folder, "good", table, 0.5, **probes(**FITTED))
        write(folder, "trained", table, 0.5, **probes(**FITTED | changes))
        validated = {"validation_fingerprint": "v"} if changes else {}
        write(folder, "validated", table, 0.5, **probes(**FITTED | validated))
        few = few_shot([[1, 0], [0, 1]])
        how = {"protocol": "few-shot", "method": "text-initialised", "shots": 4}
        write(folder, "few", few, 0.5, **how, settings=FITTED | changes)
    found = compare(*folders, resamples=R)
    assert [(one.measured.task, one.notes) for one in found.comparisons] == [("good", ())]
    why = {one.task: one.why for one in found.left_out}
    assert why.keys() == {"trained", "validated", "few"}
    assert "fitted to other training pictures" in why["trained"]
    assert "fitted to other validation pictures" in why["validated"]
    assert why["few"] == why["trained"]


def test_what_else_differs_in_probes_is_noted(folders):
    first, second = folders
    table = zero_shot([1, 2])
    write(first, "searched", table, 0.5, **probes(search="openai", seed=0, **FITTED))
    write(second, "searched", table, 0.5, **probes(search="half-decades", seed=1, **FITTED))
    write(first, "older", table, 0.5, **probes(**FITTED))
    write(second, "older", table, 0.5, **probes())
    few = {"protocol": "few-shot", "method": "text-initialised", "shots": 4}
    for folder, hits in zip(folders, ([[1, 0]] * 3, [[1, 1]] * 2), strict=True):
        settings = FITTED | {"subsets": len(hits)}
        write(folder, "few", few_shot(hits), np.mean(hits), **few, settings=settings)
    notes = {one.measured.task: one.notes for one in compare(*folders, resamples=R).comparisons}
    assert notes["searched"] == (
        "the searches differ: openai, and half-decades",
        "the seeds differ: 0, and 1",
    )
    assert notes["older"] == (
        "the training pictures of the probes are not recorded",
        "the validation pictures of the probes are not recorded",
    )
    assert notes["few"] == ("the numbers of subsets differ: 3, and 2",)


def test_a_number_whose_predictions_are_gone_is_left_out(folders):
    """Rows of 1 and of 2 shots, predictions of 1 shot alone; a retrieval file of one direction."""
    few = {"protocol": "few-shot", "method": "text-initialised", "settings": FITTED}
    for folder in folders:
        write(folder, "photos", few_shot([[1, 0], [1, 0]], shots=1), 0.5, shots=2, **few)
        write(folder, "photos", few_shot([[1, 0], [1, 0]], shots=1), 0.5, shots=1, **few)
        for metric in ("image_to_text_recall@1", "text_to_image_recall@1"):
            write(folder, "pairs", captions([[1, 2]]), 0.5, protocol="retrieval", metric=metric)
    found = compare(*folders, resamples=R)
    names = [(one.measured.task, one.measured.shots) for one in found.comparisons]
    assert names == [("photos", 1), ("pairs", None)]
    why = {one.task: one.why for one in found.left_out}
    assert why["photos"].endswith(
        "photos-test-few-shot.parquet has no predictions of text-initialised with 2 shots: "
        "evaluate again"
    )
    assert why["pairs"] == "the predictions do not hold what image_to_text_recall@1 is made of"


def test_predictions_are_read_once_for_all_probes_of_a_task(folders, monkeypatch):
    table = pa.concat_tables([few_shot([[1, 0]] * 2, shots=shots) for shots in (1, 2, 4)])
    for folder in folders:
        for shots in (1, 2, 4):
            few = {"protocol": "few-shot", "method": "text-initialised", "shots": shots}
            write(folder, "photos", table, 0.5, **few)
    read, paths = comparing.pq.read_table, []
    monkeypatch.setattr(
        comparing.pq, "read_table", lambda path: (paths.append(path), read(path))[1]
    )
    assert len(compare(*folders, resamples=R).comparisons) == 3
    assert len(paths) == 2


def test_a_folder_without_predictions_is_an_error(folders):
    for folder in folders:
        write(folder, "one", zero_shot([1]), 1.0, protocol="robustness")
    with pytest.raises(InputError, match="has no result with predictions"):
        compare(*folders)


def test_predictions_of_another_evaluation_than_the_results_are_not_compared(tmp_path):
    """As a kill leaves them, after new predictions and before their results."""
    first, second = tmp_path / "first", tmp_path / "second"
    told = {"task": "t", "value": 0.5, "n": 100, "dataset_fingerprint": "pictures", "prompts": "p"}
    results = {folder: measured(folder.name, **told) for folder in (first, second)}
    for folder, ranks in ((first, FIRST), (second, FIRST)):
        write_results(folder, [results[folder]], predictions=zero_shot(ranks))
    assert compare(first, second, resamples=R).comparisons[0].difference.difference == 0
    newer = dataclasses.replace(results[second], model_fingerprint="w", precision="bf16")
    turned = zero_shot([2] * 50 + [1] * 50)
    write_results(tmp_path / "newer", [newer], predictions=turned)
    place = predictions_path(second, results[second])
    predictions_path(tmp_path / "newer", newer).replace(place)
    with pytest.raises(InputError, match=r"differ in model_fingerprint, precision\): evaluate"):
        compare(first, second, resamples=R)
    # What does not say whose it is, is taken for the results'.
    pq.write_table(turned, place)
    found = compare(first, second, resamples=R).comparisons[0].difference
    assert (found.only_first, found.only_second) == (50, 50)
