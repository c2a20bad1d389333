"""The tables of `winnow audit`: the pairs believed least, and the groups not told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from winnow.data.audit import AuditTable
from winnow.data.selection import Selection
from winnow.evaluation.alike import Groups, caption_groups, picture_groups
from winnow.evaluation.doubts import OTHERS, Rather, least_believed, rather
from winnow.evaluation.pair_features import PairFeatures
from winnow.evaluation.ranking import TIE, normalised
from winnow.reports.audit_files import (
    CLUSTERS_SCHEMA,
    DOUBTS_SCHEMA,
    PAIR,
    RATHER_CAPTIONS,
    RATHER_PICTURES,
    ClusterFacts,
)

_ORDER = ("own_probability_late", "margin", "own_probability")
_PAIR_NAMES = [field.name for field in PAIR]


@dataclass(frozen=True)
class AuditedPairs:
    """The pairs of the selections one after the other, and what is known of each."""

    selections: Sequence[Selection]
    features: PairFeatures
    table: AuditTable
    row_N: np.ndarray
    """int64: each pair's row of the audit, -1 where the run never saw it."""

    def at(self, places: np.ndarray) -> list[dict[str, Any]]:
        """PAIR of the pairs at these places, in their order."""
        found: list[dict[str, Any]] = [{}] * len(places)
        start = 0
        for selection in self.selections:
            here = np.flatnonzero((places >= start) & (places < start + len(selection)))
            for place, one in zip(here, selection.samples(places[here] - start), strict=True):
                found[place] = {
                    "uid": one.uid,
                    "shard": one.shard,
                    "key": one.address.key,
                    "offset": one.address.offset,
                    "size": one.address.size,
                    "caption": one.caption,
                }
            start += len(selection)
        return found


def doubts_table(pairs: AuditedPairs, *, count: int, device: str) -> pa.Table:
    """DOUBTS_SCHEMA: the pairs believed least; of exact copies the first."""
    table, features = pairs.table, pairs.features
    late_N, margin_N, mean_N = (table.column(n) for n in _ORDER)
    # A run that was stopped in its first half has no late ones.
    numbers = (late_N if np.isfinite(late_N).any() else mean_N, margin_N, mean_N)
    place_of_row = np.full(len(table), -1, dtype=np.int64)
    seen = np.flatnonzero(pairs.row_N >= 0)[::-1]
    # Backwards, so that the first of several copies is what remains.
    place_of_row[pairs.row_N[seen]] = seen
    here = np.flatnonzero(place_of_row >= 0)
    worst = here[least_believed(*(number[here] for number in numbers), count=count)]
    places = place_of_row[worst]
    text_Q = features.text_N[places]
    captions = rather(features.image_ND[places], features.text_MD, text_Q, device=device)
    pictures = rather(features.text_MD[text_Q], features.image_ND, places, device=device)
    columns = _others(RATHER_CAPTIONS, captions, pairs, _first_with(features)) | _others(
        RATHER_PICTURES, pictures, pairs, np.arange(len(features.image_ND))
    )
    said = table.table.take(pa.array(worst)).select(
        [name for name in DOUBTS_SCHEMA.names if name in table.table.schema.names]
    )
    columns |= {name: said[name] for name in said.schema.names if name not in _PAIR_NAMES}
    columns |= _as_columns(pairs.at(places))
    columns |= {
        "own_cosine": pa.array(captions.own_Q),
        "caption_rank": pa.array(captions.rank_Q),
        "picture_rank": pa.array(_beside_equals(pictures, features, places)),
    }
    return pa.table([columns[name] for name in DOUBTS_SCHEMA.names], schema=DOUBTS_SCHEMA)


def _beside_equals(found: Rather, features: PairFeatures, places: np.ndarray) -> np.ndarray:
    """int64: the rank of each pair's picture for its caption, beside pictures of other captions.

    Another picture with the very same caption is no wrong answer.
    """
    rank_Q = found.rank_Q.copy()
    for query, text in enumerate(features.text_N[places]):
        same = np.flatnonzero(features.text_N == text)
        text_D = normalised(features.text_MD[[text]])[0]
        cosine_S = normalised(features.image_ND[same]) @ text_D
        # Its own picture is among them, and counts as the one that is looked for.
        rank_Q[query] -= int((cosine_S >= found.own_Q[query] - TIE).sum()) - 1
    return rank_Q


def _others(
    names: Sequence[str], found: Rather, pairs: AuditedPairs, place_M: np.ndarray
) -> dict[str, pa.Array]:
    """A column for each of the nearest others; `place_M` is the pair that stands for a candidate.

    Null where there are fewer.
    """
    columns = {}
    for number, name in enumerate(names[:OTHERS]):
        if number >= found.other_QO.shape[1]:
            columns[name] = pa.nulls(len(found.own_Q), DOUBTS_SCHEMA.field(name).type)
            continue
        rows = pairs.at(place_M[found.other_QO[:, number]])
        cosines = found.cosine_QO[:, number].tolist()
        filled = [row | {"cosine": cosine} for row, cosine in zip(rows, cosines, strict=True)]
        columns[name] = pa.array(filled, DOUBTS_SCHEMA.field(name).type)
    return columns


def _first_with(features: PairFeatures) -> np.ndarray:
    """int64: the first pair that has each distinct caption."""
    return np.unique(features.text_N, return_index=True)[1]


def clusters_table(
    pairs: AuditedPairs, *, logit_scale: float, batch_size: int, device: str
) -> tuple[pa.Table, dict[str, ClusterFacts]]:
    """CLUSTERS_SCHEMA, the biggest first, of equal ones the tightest; and how many of each kind.

    `batch_size` is that of training, for what a batch has of them.
    """
    features, num_pairs = pairs.features, len(pairs.features.text_N)
    sides = (normalised(features.image_ND), normalised(features.text_MD), features.text_N)
    captions = caption_groups(*sides, logit_scale=logit_scale, device=device)
    pictures = picture_groups(*sides, logit_scale=logit_scale, device=device)
    of_kinds = {
        "caption": _members(captions, features.text_N),
        "picture": _members(pictures, np.arange(num_pairs)),
    }
    found = {
        kind: _cluster_facts([len(one.places) for one in of_kind], num_pairs, batch_size)
        for kind, of_kind in of_kinds.items()
    }
    in_order = sorted(
        ((kind, one) for kind, of_kind in of_kinds.items() for one in of_kind),
        key=lambda each: (-len(each[1].places), -each[1].weakest, each[0], each[1].places[0]),
    )
    return _cluster_table(in_order, pairs), found


@dataclass(frozen=True)
class _Members:
    """The pairs of one group of two or more."""

    places: np.ndarray
    items: int
    weakest: float


def _members(groups: Groups, item_N: np.ndarray) -> list[_Members]:
    """The groups with several pairs, of which `item_N` is each one's item."""
    group_N = groups.group_I[item_N]
    order = np.argsort(group_N, kind="stable")
    starts = np.flatnonzero(np.diff(group_N[order], prepend=-1))
    return [
        _Members(
            places, len(np.unique(item_N[places])), float(groups.weakest_G[group_N[places[0]]])
        )
        for places in np.split(order, starts[1:])
        if len(places) > 1
    ]


def _cluster_facts(sizes: Sequence[int], num_pairs: int, batch_size: int) -> ClusterFacts:
    alike = sum(size * (size - 1) for size in sizes)
    return ClusterFacts(
        clusters=len(sizes),
        pairs=sum(sizes),
        largest=max(sizes, default=0),
        per_batch=batch_size * (batch_size - 1) / 2 * alike / max(1, num_pairs * (num_pairs - 1)),
    )


def _cluster_table(in_order: Sequence[tuple[str, _Members]], pairs: AuditedPairs) -> pa.Table:
    if not in_order:
        return CLUSTERS_SCHEMA.empty_table()
    sizes = [len(one.places) for _, one in in_order]
    of_clusters = {
        "cluster": np.arange(len(in_order), dtype=np.int32),
        "kind": np.array([kind for kind, _ in in_order]),
        "pairs": np.array(sizes, dtype=np.int32),
        "items": np.array([one.items for _, one in in_order], dtype=np.int32),
        "weakest": np.array([one.weakest for _, one in in_order], dtype=np.float32),
    }
    places = np.concatenate([one.places for _, one in in_order])
    columns = {name: pa.array(np.repeat(of, sizes)) for name, of in of_clusters.items()}
    columns |= _as_columns(pairs.at(places))
    return pa.table([columns[name] for name in CLUSTERS_SCHEMA.names], schema=CLUSTERS_SCHEMA)


def _as_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    return {one.name: pa.array([row[one.name] for row in rows], one.type) for one in PAIR}
