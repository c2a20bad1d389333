"""Answers: a query to a page of pairs, a row to all that is known of it, as json has them.

Scraped words stand in the answers with what nobody sees written out, cut where they are endless;
whoever shows them puts them in as text.
"""

import hashlib
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from winnow.curation.explain import RuleLine, explain, graph_of, pairs_at, stored_verdict
from winnow.curation.grammar.draw import draw
from winnow.curation.ledger_files import describe_place
from winnow.curation.rule_specs import from_settings
from winnow.curation.rules.rule import Rule
from winnow.data.images import evaluation_view
from winnow.evaluation.embed import Embedder, Encoder
from winnow.explore.embedding import caption_features, embedded, finite, picture_features
from winnow.explore.index import Index, Rank, highest
from winnow.explore.pairs import Pairs
from winnow.explore.pictures import DECODING, THUMBNAIL, Upload, Uploads, reencoded
from winnow.explore.query import NEAR, PAGE_SIZE, Query, QueryError
from winnow.reports.hostile import visible
from winnow.types import InputError

Json = dict[str, Any]

IN_LIST, IN_DETAIL = 400, 20_000
"""Characters of a caption that are shown: scraped ones can be megabytes."""
NEIGHBOURS, BETTER = 12, 5
"""Pictures nearest to one, and captions that the model would give it."""


class GoneError(Exception):
    """A picture that was handed in is not kept any more."""


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """Pairs, their index and the model that made it. Several threads may ask at once."""

    pairs: Pairs
    index: Index
    encoder: Encoder
    uploads: Uploads = field(default_factory=Uploads)
    _model: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, pairs: Pairs, embedder: Embedder, *, device: str = "cpu") -> "Explorer":
        """What answers about `pairs`, which are embedded as far as they are not yet.

        The index is on `device`. Raises InputError as `picture_features` does.
        """
        image_ND = picture_features(pairs, embedder)
        caption_MD = caption_features(pairs, embedder)
        _, caption_N = pairs.distinct_captions
        index = Index.of(image_ND, caption_MD, caption_N, device=device)
        return cls(pairs=pairs, index=index, encoder=embedder.encoder)

    def search(self, query: Query) -> Json:
        """One page of pairs.

        `milliseconds` are those of the model and those of the search. Raises QueryError for a row
        or page that is not there, GoneError for an upload that is not kept.
        """
        began = time.perf_counter()
        target_D = self._target(query)
        embedded_at = time.perf_counter()
        cosine_N = self._cosines(query, target_D)
        chosen = self._chosen(query)
        first = (query.page - 1) * PAGE_SIZE
        rows = self._ordered(query, cosine_N, chosen, first)
        is_near = query.order in ("belief", "cosine") and cosine_N is not None
        total = min(int(chosen.sum()), NEAR if is_near else len(chosen))
        ended = time.perf_counter()
        return {
            "total": total,
            "page": query.page,
            "first": first + 1,
            "pages": max(1, math.ceil(total / PAGE_SIZE)),
            "order": query.order,
            "is_near": is_near,
            "pairs": self.listed(rows, cosine_N),
            "milliseconds": {
                "model": 1e3 * (embedded_at - began),
                "search": 1e3 * (ended - embedded_at),
            },
        }

    def listed(self, rows: np.ndarray, cosine_N: np.ndarray | None) -> list[Json]:
        """Pairs as lists show them."""
        facts = self.pairs.facts(rows.tolist())
        return [self._pair(*one, cosine_N) for one in zip(rows.tolist(), facts, strict=True)]

    def details(self, row: int) -> Json:
        """All that is known of one pair. Raises QueryError where there is no such row."""
        self._require(row)
        (facts,) = self.pairs.facts([row])
        cosine_M = self.index.caption_cosines(row)
        near = self.index.cosines_of_row(row)
        near_rows = highest(near, first=0, count=NEIGHBOURS + 1)
        near_rows = near_rows[near_rows != row][:NEIGHBOURS]
        return (
            self._pair(row, facts, None)
            | {
                "caption": visible(facts["caption"], longest=IN_DETAIL),
                "url": None if facts["url"] is None else visible(facts["url"], longest=IN_LIST),
                "width": facts["width"],
                "height": facts["height"],
                "format": facts["format"],
                "shard": visible(self.pairs.shard(row), longest=IN_LIST),
                "place": describe_place(int(self.pairs.places[row])),
                "caption_rank": _rank(self.index.rank_of_caption(row, cosine_M)),
                "picture_rank": _rank(self.index.rank_of_picture(row)),
                "better": self._better(row, cosine_M),
                "nearest": self.listed(near_rows, near),
            }
            | self._explained(row)
        )

    def hand_in(self, data: bytes) -> str:
        """Look at a picture of the user's; the token it is asked for by. Raises ImageError."""
        token = hashlib.sha256(data).hexdigest()[:32]
        if self.uploads.get(token) is None:
            thumbnail = reencoded(data, longest=THUMBNAIL)
            with DECODING:
                view = evaluation_view(data, view=self.encoder.view)
            with self._model:
                feature_D = embedded(self.encoder, [view])[0]
            self.uploads.put(token, Upload(feature_D, thumbnail))
        return token

    def handed_in(self, token: str) -> Upload:
        """What is kept of a picture. Raises GoneError."""
        upload = self.uploads.get(token)
        if upload is None:
            raise GoneError("that picture is not kept any more: hand it in again")
        return upload

    def _pair(self, row: int, facts: Json, cosine_N: np.ndarray | None) -> Json:
        error = facts["error"]
        return {
            "row": row,
            "key": visible(facts["key"], longest=IN_LIST),
            "uid": facts["uid"],
            "caption": visible(facts["caption"], longest=IN_LIST),
            "outcome": str(self.pairs.outcomes[row]),
            "reasons": [visible(reason, longest=IN_LIST) for reason in facts["reasons"]],
            "error": None if error is None else visible(error, longest=IN_LIST),
            "cosine": None if cosine_N is None else float(cosine_N[row]),
            "own_cosine": float(self.index.own_N[row]),
            "audit": {name: _number(of[row]) for name, of in self.pairs.audit.items()},
        }

    def _target(self, query: Query) -> np.ndarray | None:
        if query.text is not None:
            with self._model:
                features = self.encoder.encode_text([query.text])
            return finite(features.detach().float().cpu().numpy(), self.encoder)[0]
        return None if query.upload is None else self.handed_in(query.upload).feature_D

    def _cosines(self, query: Query, target_D: np.ndarray | None) -> np.ndarray | None:
        if target_D is not None:
            return self.index.cosines(target_D)
        if query.like is None:
            return None
        self._require(query.like)
        return self.index.cosines_of_row(query.like)

    def _chosen(self, query: Query) -> np.ndarray:
        """bool (N,): what passes the filters."""
        chosen = np.ones(len(self.pairs), dtype=bool)
        if query.key is not None:
            chosen[:] = False
            chosen[self.pairs.find(query.key)] = True
        if query.show is not None:
            chosen &= self.pairs.outcomes == query.show
        if query.reason is not None:
            chosen &= self.pairs.codes == query.reason
        return chosen

    def _ordered(
        self, query: Query, cosine_N: np.ndarray | None, chosen: np.ndarray, first: int
    ) -> np.ndarray:
        """The rows of the page. Filtered scores are those of the chosen rows alone."""
        rows = np.flatnonzero(chosen)
        if query.order == "nearest" and cosine_N is not None:
            return rows[highest(cosine_N[rows], first=first, count=PAGE_SIZE)]
        if query.order == "ledger":
            return rows[first : first + PAGE_SIZE]
        if cosine_N is not None:
            rows = np.sort(rows[highest(cosine_N[rows], first=0, count=NEAR)])
        return rows[highest(-self._belief(query)[rows], first=first, count=PAGE_SIZE)]

    def _belief(self, query: Query) -> np.ndarray:
        """(N,): how much the model believes in each pair; what is unknown comes last."""
        if query.order == "cosine":
            return self.index.own_N
        if "own_probability" not in self.pairs.audit:
            raise QueryError(
                "there is no audit of this model: order by the cosine with the own caption instead"
            )
        belief_N = self.pairs.audit["own_probability"]
        return np.where(np.isnan(belief_N), np.inf, belief_N)

    def _better(self, row: int, cosine_M: np.ndarray) -> list[Json]:
        captions, caption_N = self.pairs.distinct_captions
        return [
            {
                "caption": visible(captions[one], longest=IN_LIST),
                "cosine": float(cosine_M[one]),
                "is_own": bool(one == caption_N[row]),
            }
            for one in highest(cosine_M, first=0, count=BETTER).tolist()
        ]

    def _explained(self, row: int) -> Json:
        """The rules' lines and the graph, as far as they can be read."""
        selection = self.pairs.summary.selection
        try:
            rules = self._rules()
            (pair,) = pairs_at(self.pairs.ledger, [int(self.pairs.places[row])])
            stored = stored_verdict(self.pairs.ledger, selection, pair)
            lines = [_line(one) for one in explain(pair, rules, stored)]
            graph = graph_of(pair)
        except (InputError, OSError) as error:
            return {"rules": [], "graph": None, "unexplained": str(error)}
        drawn = None if graph is None else visible(draw(graph), longest=IN_DETAIL)
        return {"rules": lines, "graph": drawn, "unexplained": None}

    def _rules(self) -> Sequence[Rule]:
        where = f"the summary of selection {self.pairs.summary.selection}"
        return [from_settings(one, where=where) for one in self.pairs.summary.rules]

    def _require(self, row: int) -> None:
        if not row < len(self.pairs):
            raise QueryError(f"there is no row {row:,}: rows are 0 to {len(self.pairs) - 1:,}")


def _line(line: RuleLine) -> Json:
    says = "drops" if line.reason is not None else "keeps"
    why = line.unjudged or line.reason
    return {
        "rule": line.rule.name(),
        "says": says if line.unjudged is None else "no say",
        "why": None if why is None else visible(why, longest=IN_LIST),
        "measures": [
            {
                "name": measure.name,
                "value": _number(measure.values[0].as_py()),
                "least": _number(measure.least),
                "most": _number(measure.most),
            }
            for measure in line.measures
        ],
    }


def _rank(rank: Rank) -> Json:
    return {"rank": rank.rank, "of": rank.of}


def _number(value: float | None) -> float | None:
    """What json has a word for."""
    return None if value is None or not math.isfinite(value) else float(value)
