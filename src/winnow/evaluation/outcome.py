"""What a protocol gives, whichever the model and the task: numbers, and predictions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from winnow.evaluation.measures import Measure
from winnow.evaluation.ranking import Ranking


class Scored(NamedTuple):
    """One number of a protocol; see `results.py: Result` for the fields."""

    measure: Measure
    method: str = ""
    shots: int | None = None
    subset: int | None = None
    settings: dict[str, Any] | None = None


class Outcome(NamedTuple):
    """All numbers of a protocol on one set, and what the model said of every sample."""

    scored: Sequence[Scored]
    predictions: pa.Table


def ranking_columns(ranking: Ranking) -> dict[str, Any]:
    """rank, top5 and scores of every query."""
    scores = pa.array(ranking.score_QK.tolist(), pa.list_(pa.float32()))
    return {"rank": ranking.rank_Q, "top5": ranking.top_QK.tolist(), "scores": scores}
