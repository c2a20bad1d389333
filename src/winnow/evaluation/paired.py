"""How far two models differ on the same samples, from what each answered to every one.

Every difference is the second model's metric minus the first's. Its 95 % interval is a paired
bootstrap: samples are drawn, and both models are measured on the same draw. p is by the exact
McNemar test where the metric is a share of samples (statistics.py), by sign flips where it is a
mean over classes of unequal size, else by the bootstrap.

Where a picture has several captions, whole pictures are drawn, and p of a share is by exact sign
flips over pictures (by_picture.py).

Few-shot probes are fitted on S subsets of shots and tested on the same N samples, and both might
have been others: interval and p are those of a crossed mean (crossed.py) of the differences in
hits.

Where all draws have one gain, such as a first model that has nothing right and a second that has
all, the interval is Wilson's of the gain's size over what is drawn, with the gain's sign.

G groups of samples that no metric here can tell apart, B resamples, K classes.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.evaluation.by_picture import medians, share_pictures, shares, sign_flip_p_value
from winnow.evaluation.crossed import INTERVAL, crossed_mean
from winnow.evaluation.measures import effective_samples
from winnow.evaluation.scores import of_draws
from winnow.predictions import cutoff, ranks, split_direction
from winnow.resampling import (
    Draws,
    Metric,
    bootstrap_p_value,
    percentile_interval,
    sign_flips_p_value,
)
from winnow.statistics import paired_difference, wilson_interval

SCORES = ("map", "map_11_point", "roc_auc")
EQUAL = 1e-12
"""A difference below it is one of rounding, and counts as none."""
FLIPS_OVER_PICTURES = "exact sign flips over pictures"


class NotComparableError(ValueError):
    """Two sets of predictions do not allow what was asked; the words end a sentence."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two models on the same samples, second against first."""

    first: float
    """The metric of the first model."""
    second: float
    difference: float
    low: float
    """End of the 95 % interval of the difference, as is `high`."""
    high: float
    interval: str
    """How the interval was made."""
    p_value: float
    """Two-sided: how often equally good models would differ at least so much."""
    test: str
    """How p was made."""
    n: int
    """Samples."""
    only_first: int | None = None
    """Samples that only the first model has right; None where the metric is no share of samples."""
    only_second: int | None = None
    subsets: int | None = None
    """Of shots, for few-shot probes."""


class _Queries(NamedTuple):
    """Both models' ranks of the same queries."""

    rank_2Q: np.ndarray
    picture_Q: np.ndarray
    """int64: queries of one number are of one picture."""
    drawn: str
    """What is drawn, to end the name of an interval or test."""


class _Probed(NamedTuple):
    """Few-shot predictions of one method and number of shots."""

    subsets: list[int]
    keys: list[str]
    label_N: np.ndarray
    hit_SN: np.ndarray

    def hits_on(self, subsets: Sequence[int]) -> np.ndarray:
        """On some of the subsets, in the order given."""
        return self.hit_SN[[self.subsets.index(subset) for subset in subsets]]


def paired(
    first: pa.Table, second: pa.Table, metric: str, *, resamples: int, seed: int = 0
) -> Difference:
    """From the predictions of two models for one set and any protocol but few-shot.

    Raises NotComparableError where the samples differ or the tables do not hold the metric.
    """
    _, name = split_direction(metric)
    within = cutoff(metric)
    if within is not None or name == "median_rank":
        queries = _paired_ranks(first, second, metric)
        if within is None:
            draws = medians(queries.rank_2Q, queries.picture_Q)
            found = _difference(draws, drawn=queries.drawn, resamples=resamples, seed=seed)
            return dataclasses.replace(found, n=len(queries.picture_Q))
        return _share_difference(
            queries.rank_2Q <= within,
            queries.picture_Q,
            drawn=queries.drawn,
            resamples=resamples,
            seed=seed,
        )
    if metric == "mean_per_class" and {"label", "rank"} <= set(first.column_names):
        rank_2Q = _paired_ranks(first, second, metric).rank_2Q
        label_N = first.column("label").to_numpy()
        return _class_mean_difference(label_N, rank_2Q == 1, resamples=resamples, seed=seed)
    if metric in SCORES:
        return _difference(_scores(first, second, metric), resamples=resamples, seed=seed)
    raise _does_not_hold(metric)


def paired_few_shot(
    first: pa.Table, second: pa.Table, metric: str, *, resamples: int, seed: int = 0
) -> Difference:
    """From the few-shot predictions of one method and number of shots, on the subsets that both
    have; the metric is top1 or mean_per_class.

    Raises NotComparableError where subsets or samples differ, or for another metric.
    """
    one, other = _probed(first), _probed(second)
    if one.keys != other.keys or not np.array_equal(one.label_N, other.label_N):
        raise NotComparableError("the predictions are not of the same samples")
    subsets = [subset for subset in one.subsets if subset in other.subsets]
    if not subsets:
        raise NotComparableError("the predictions have no subset of shots in common")
    weight_N = _weights(one.label_N, metric)
    hit_2SN = np.stack([model.hits_on(subsets) for model in (one, other)])
    if len(subsets) > 1:
        return _crossed(hit_2SN * weight_N)
    hit_2N = hit_2SN[:, 0]
    if metric == "top1":
        alone_N = np.arange(len(weight_N))
        return _share_difference(hit_2N, alone_N, resamples=resamples, seed=seed)
    return _class_mean_difference(one.label_N, hit_2N, resamples=resamples, seed=seed)


def few_shot_value(table: pa.Table, metric: str) -> float:
    """The metric over all subsets of one model. Raises NotComparableError as above."""
    probed = _probed(table)
    return float((probed.hit_SN * _weights(probed.label_N, metric)).mean())


def _difference(draws: Draws, *, drawn: str = "", resamples: int, seed: int) -> Difference:
    one, other = draws.metrics

    def gain(counts_BG: np.ndarray) -> np.ndarray:
        return other(counts_BG) - one(counts_BG)

    first, second = draws.values()
    gain_B = draws.draw(gain, resamples=resamples, seed=seed)
    # Of few positives some draws hold none at all: those have no average precision.
    gain_B = gain_B[np.isfinite(gain_B)]
    gain_B[np.abs(gain_B) < EQUAL] = 0
    low, high = percentile_interval(gain_B)
    return Difference(
        first=first,
        second=second,
        difference=_gain(first, second),
        low=low,
        high=high,
        interval=f"paired bootstrap{drawn}",
        p_value=bootstrap_p_value(gain_B),
        test=f"paired bootstrap{drawn}",
        n=int(draws.size_G.sum()),
    )


def _gain(first: float, second: float) -> float:
    gain = second - first
    return gain if abs(gain) >= EQUAL else 0.0


def _share_difference(
    hit_2Q: np.ndarray, picture_Q: np.ndarray, *, drawn: str = "", resamples: int, seed: int
) -> Difference:
    """The same, with the exact test that a share of samples allows."""
    draws = shares(hit_2Q, picture_Q)
    found = _difference(draws, drawn=drawn, resamples=resamples, seed=seed)
    if found.low == found.high:
        found = _without_spread(found, int(draws.size_G.sum()), drawn)
    exact = paired_difference(*hit_2Q.tolist())
    p_value, test = exact.p_value, f"exact McNemar{drawn}"
    if share_pictures(picture_Q):
        p_value, test = sign_flip_p_value(hit_2Q, picture_Q), FLIPS_OVER_PICTURES
    return dataclasses.replace(
        found,
        p_value=p_value,
        test=test,
        n=exact.n,
        only_first=exact.only_first,
        only_second=exact.only_second,
    )


def _class_mean_difference(
    label_N: np.ndarray, hit_2N: np.ndarray, *, resamples: int, seed: int
) -> Difference:
    """Where classes are equally large, it is that of the share of samples."""
    weight_N = _weights(label_N, "mean_per_class")
    if weight_N.min() == weight_N.max():
        alone_N = np.arange(len(weight_N))
        return _share_difference(hit_2N, alone_N, resamples=resamples, seed=seed)
    found = _difference(_class_means(label_N, hit_2N), resamples=resamples, seed=seed)
    if found.low == found.high:
        found = _without_spread(found, effective_samples(weight_N), " over weighted pictures")
    gain_N = weight_N * (hit_2N[1].astype(np.float64) - hit_2N[0])
    p_value = sign_flips_p_value(gain_N, draws=resamples, seed=seed)
    return dataclasses.replace(found, p_value=p_value, test="sign flips, drawn")


def _without_spread(found: Difference, samples: int, drawn: str) -> Difference:
    """With the interval of a gain that is the same in every draw; of no gain it has no width."""
    if found.difference == 0:
        return found
    ends = wilson_interval(abs(found.difference), samples)
    low, high = ends if found.difference > 0 else (-ends[1], -ends[0])
    return dataclasses.replace(found, low=low, high=high, interval=f"wilson{drawn}")


def _class_means(label_N: np.ndarray, hit_2N: np.ndarray) -> Draws:
    """The mean over classes as zero_shot.py has it: a sample weighs 1 / (those of its class)."""
    _, class_N, count_K = np.unique(label_N, return_inverse=True, return_counts=True)
    rows_N3 = np.stack([count_K[class_N], *hit_2N], axis=1)
    row_G3, size_G = np.unique(rows_N3, axis=0, return_counts=True)
    weight_G = 1 / row_G3[:, 0]

    def metric(hit_G: np.ndarray) -> Metric:
        def mean(counts_BG: np.ndarray) -> np.ndarray:
            return counts_BG @ (weight_G * hit_G) / (counts_BG @ weight_G)

        return mean

    return Draws(size_G, (metric(row_G3[:, 1]), metric(row_G3[:, 2])))


def _scores(first: pa.Table, second: pa.Table, metric: str) -> Draws:
    """No two samples are equal here: every one is its own group."""
    if any("class_scores" not in table.column_names for table in (first, second)):
        raise _does_not_hold(metric)
    order_N = _order(first.column("key").to_pylist(), second.column("key").to_pylist())
    second = second.take(order_N)
    if not first.column("labels").equals(second.column("labels")):
        raise NotComparableError("the labels in the predictions differ")
    score_2NK = [
        np.array(table.column("class_scores").to_pylist(), dtype=np.float32)
        for table in (first, second)
    ]
    label_NK = np.zeros(score_2NK[0].shape, dtype=bool)
    for sample, labels in enumerate(first.column("labels").to_pylist()):
        label_NK[sample, labels] = True
    metrics = tuple(of_draws(metric, score_NK, label_NK) for score_NK in score_2NK)
    return Draws(np.ones(len(label_NK), dtype=np.int64), metrics)


def _crossed(value_2SN: np.ndarray) -> Difference:
    """Over subsets and samples, both drawn."""
    if value_2SN.shape[2] < 2:
        raise NotComparableError("one picture alone does not say how much pictures differ")
    first, second = (float(value_SN.mean()) for value_SN in value_2SN)
    found = crossed_mean(value_2SN[1] - value_2SN[0])
    gain = _gain(first, second)
    difference = Difference(
        first=first,
        second=second,
        difference=gain,
        low=gain - found.half_width,
        high=gain + found.half_width,
        interval=INTERVAL,
        p_value=found.p_value if gain else 1.0,
        test=INTERVAL,
        n=value_2SN.shape[2],
        subsets=value_2SN.shape[1],
    )
    if gain and found.standard_error == 0:
        difference = _without_spread(difference, difference.n, " over pictures")
        return dataclasses.replace(difference, test=FLIPS_OVER_PICTURES)
    return difference


def _paired_ranks(first: pa.Table, second: pa.Table, metric: str) -> _Queries:
    """Both models' ranks of the same queries, in the first's order."""
    if any("rank" not in table.column_names for table in (first, second)):
        raise _does_not_hold(metric)
    one, other = ranks(first, metric), ranks(second, metric)
    if not one.query_Q:
        raise _does_not_hold(metric)
    order_Q = _order(one.query_Q, other.query_Q)
    rank_2Q = np.stack([one.rank_Q, other.rank_Q[order_Q]])
    direction, _ = split_direction(metric)
    if direction != "text_to_image":
        return _Queries(rank_2Q, np.arange(len(order_Q)), "")
    if "picture" not in first.column_names:
        raise _does_not_hold(metric)
    picture_Q = _pictures(first, direction)
    return _Queries(rank_2Q, picture_Q, " over pictures" if share_pictures(picture_Q) else "")


def _pictures(table: pa.Table, direction: str) -> np.ndarray:
    """A number for each query of a direction, the same for those of one picture."""
    of_direction = table.filter(pc.equal(table.column("direction"), direction))
    names = of_direction.column("picture").combine_chunks()
    return names.dictionary_encode().indices.to_numpy().astype(np.int64)


def _order(first: list[str], second: list[str]) -> np.ndarray:
    """Where in the second's samples those of the first are."""
    place = {key: index for index, key in enumerate(second)}
    if place.keys() != set(first):
        raise NotComparableError("the predictions are not of the same samples")
    return np.array([place[key] for key in first], dtype=np.int64)


def _probed(table: pa.Table) -> _Probed:
    """In the order of subsets and keys."""
    if table.num_rows == 0:
        raise NotComparableError("there are no predictions")
    table = table.sort_by([("subset", "ascending"), ("key", "ascending")])
    subsets = table.column("subset").unique().to_pylist()
    columns = [table.column(name).to_numpy() for name in ("key", "label", "predicted")]
    if table.num_rows % len(subsets):
        raise _unlike_subsets()
    key_SN, label_SN, predicted_SN = (column.reshape(len(subsets), -1) for column in columns)
    if (key_SN != key_SN[0]).any() or (label_SN != label_SN[0]).any():
        raise _unlike_subsets()
    return _Probed(subsets, key_SN[0].tolist(), label_SN[0], predicted_SN == label_SN)


def _unlike_subsets() -> NotComparableError:
    return NotComparableError("the predictions of its subsets are not of the same samples")


def _does_not_hold(metric: str) -> NotComparableError:
    return NotComparableError(f"the predictions do not hold what {metric} is made of")


def _weights(label_N: np.ndarray, metric: str) -> np.ndarray:
    """What a hit counts, on average 1."""
    if metric == "top1":
        return np.ones(len(label_N))
    if metric != "mean_per_class":
        raise _does_not_hold(metric)
    _, class_N, count_K = np.unique(label_N, return_inverse=True, return_counts=True)
    return len(label_N) / (len(count_K) * count_K[class_N])
