"""Where an evaluation left its predictions, and which samples the model has right by them.

Evaluation compares two models by it, and the report does: one reading for both.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def predictions_file(evaluation: Path, *, task: str, split: str, protocol: str) -> Path:
    """Where the folder of an evaluation has the predictions of one protocol on one set."""
    return evaluation / "predictions" / f"{task}-{split}-{protocol}.parquet"


class Ranks(NamedTuple):
    """The rank of the right answer for every query, 1 is best."""

    query_Q: list[str]
    """Pictures' keys; captions where a caption asks for its picture. Each once."""
    rank_Q: np.ndarray


def ranks(table: pa.Table, metric: str) -> Ranks:
    """Those that `metric` is a function of: of retrieval, only the queries of its direction."""
    if "direction" not in table.column_names:
        return Ranks(table.column("key").to_pylist(), table.column("rank").to_numpy())
    direction, _ = split_direction(metric)
    of_direction = table.filter(pc.equal(table.column("direction"), direction))
    return Ranks(of_direction.column("query").to_pylist(), of_direction.column("rank").to_numpy())


def split_direction(metric: str) -> tuple[str, str]:
    """("image_to_text", "recall@1") of "image_to_text_recall@1"; no direction of any other."""
    for direction in ("image_to_text", "text_to_image"):
        if metric.startswith(f"{direction}_"):
            return direction, metric.removeprefix(f"{direction}_")
    return "", metric


def cutoff(metric: str) -> int | None:
    """The rank up to which an answer is a hit: 5 of "top5" and "recall@5"; None of others."""
    _, name = split_direction(metric)
    for prefix in ("top", "recall@"):
        digits = name.removeprefix(prefix)
        if name.startswith(prefix) and digits.isdecimal():
            return int(digits)
    return None


def hits_of(table: pa.Table, metric: str) -> dict[str, bool]:
    """For every query whether its answer is among the first k, of "top<k>" or "recall@<k>"."""
    within = cutoff(metric)
    if within is None:
        raise ValueError(f"{metric} is no share of hits")
    query_Q, rank_Q = ranks(table, metric)
    return dict(zip(query_Q, (rank_Q <= within).tolist(), strict=True))
