"""The protocols that fit nothing, from features to numbers and predictions.

N pictures, M captions, K classes, D the width of the joint space.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from winnow.evaluation.embed import ImageFeatures
from winnow.evaluation.outcome import Outcome, Scored, ranking_columns
from winnow.evaluation.ranking import Ranking
from winnow.evaluation.retrieval import retrieval, retrieval_measures
from winnow.evaluation.scores import class_scores, map_11_point, mean_average_precision, roc_auc
from winnow.evaluation.statements import (
    answer,
    come_in_pairs,
    statements_measure,
    winoground_measures,
)
from winnow.evaluation.subject import UnsuitableError
from winnow.evaluation.zero_shot import first_of_a_name, zero_shot, zero_shot_measures


def measure_zero_shot(
    features: ImageFeatures, class_KD: np.ndarray, classnames: Sequence[str], *, device: str
) -> Outcome:
    """Accuracies of a set whose pictures have one label; of two classes also ROC-AUC."""
    label_N, num_classes = features.samples.label_N, len(class_KD)
    ranking = zero_shot(features.image_ND, class_KD, label_N, device=device)
    ranking = first_of_a_name(ranking, label_N, classnames)
    measures = zero_shot_measures(ranking, label_N, num_classes=num_classes)
    columns = {"key": features.samples.keys, "label": label_N, **ranking_columns(ranking)}
    if num_classes == 2:
        score_N2 = class_scores(features.image_ND, class_KD, device=device)
        if 0 < label_N.sum() < len(label_N):
            measures.append(roc_auc(score_N2[:, 1] - score_N2[:, 0], label_N == 1))
        columns |= _score_columns(score_N2, label_N[:, None].tolist())
    return Outcome([Scored(measure) for measure in measures], pa.table(columns))


def measure_multi_label(features: ImageFeatures, class_KD: np.ndarray, *, device: str) -> Outcome:
    """Average precision of a set whose pictures have any number of labels."""
    label_NK = features.samples.label_NK(len(class_KD))
    if not label_NK.any():
        raise UnsuitableError("a picture with a label")
    score_NK = class_scores(features.image_ND, class_KD, device=device)
    labels = [np.flatnonzero(row).tolist() for row in label_NK]
    columns = {"key": features.samples.keys, **_score_columns(score_NK, labels)}
    measures = [mean_average_precision(score_NK, label_NK), map_11_point(score_NK, label_NK)]
    return Outcome([Scored(measure) for measure in measures], pa.table(columns))


def measure_retrieval(features: ImageFeatures, caption_MD: np.ndarray, *, device: str) -> Outcome:
    """Recall and median rank both ways; `caption_MD` are the distinct captions, in order."""
    captions = features.samples.captions
    found = retrieval(features.image_ND, caption_MD, captions.pair_P2, device=device)
    keys, texts = np.array(features.samples.keys, object), np.array(captions.texts, object)
    # Pairs stand in the pictures' order, so the first of a caption is its first picture's.
    _, first_P = np.unique(captions.pair_P2[:, 1], return_index=True)
    of_text = keys[captions.pair_P2[first_P, 0]]
    tables = [
        _direction_table("image_to_text", keys, keys, texts, found.image_to_text.ranking),
        _direction_table("text_to_image", texts, of_text, keys, found.text_to_image.ranking),
    ]
    scored = [Scored(measure) for measure in retrieval_measures(found)]
    return Outcome(scored, pa.concat_tables(tables))


def measure_statements(features: ImageFeatures, text_MD: np.ndarray, *, device: str) -> Outcome:
    """How often the true statement ranks first; `text_MD` are the distinct statements, in order.

    Of pictures that come in pairs, each with the other's statement beside its own, also what
    Winoground measures.
    """
    statements = features.samples.statements.asked
    answers = answer(features.image_ND, text_MD, statements, device=device)
    scores = [scores.tolist() for scores in np.split(answers.score_S, statements.starts[1:-1])]
    columns = {
        "key": features.samples.keys,
        "answer": statements.answer_N,
        "rank": answers.rank_N,
        "scores": pa.array(scores, pa.list_(pa.float32())),
    }
    measures = [statements_measure(answers, statements)]
    if come_in_pairs(statements):
        own_N = statements.text_S[statements.starts[:-1] + statements.answer_N]
        width = features.image_ND.shape[1]
        pairs = (array.reshape(-1, 2, width) for array in (features.image_ND, text_MD[own_N]))
        measures += winoground_measures(*pairs)
    return Outcome([Scored(measure) for measure in measures], pa.table(columns))


def _score_columns(score_NK: np.ndarray, labels: list[list[int]]) -> dict[str, object]:
    return {
        "labels": labels,
        "class_scores": pa.array(score_NK.tolist(), pa.list_(pa.float32())),
    }


def _direction_table(
    direction: str,
    queries: np.ndarray,
    pictures: np.ndarray,
    candidates: np.ndarray,
    ranking: Ranking,
) -> pa.Table:
    columns = {"direction": [direction] * len(queries), "query": queries, "picture": pictures}
    columns |= ranking_columns(ranking)
    columns["top5"] = candidates[ranking.top_QK].tolist()
    return pa.table(columns)
