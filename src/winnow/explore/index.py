"""The index: exact cosines of a query with all pictures, and the order in which rows are shown.

    score_n = cos(q, image_n),    own_n = cos(image_n, caption_n)

Nothing is approximated: a query is one product with an (N, D) matrix, and the rows of a page are
the highest scores, equal ones in ledger order, so that pages neither repeat nor lose a row.

Ranks follow evaluation: a wrong candidate that is as close as the right one counts against the
model, and candidates that are right as well do not (`evaluation/ranking.py`).

N pairs, M distinct captions, D the width of the joint space.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from winnow.evaluation.ranking import TIE, unit_rows

_ROWS_AT_ONCE = 8192


class Rank(NamedTuple):
    """Where the right answer stands among all."""

    rank: int
    """From 1, the best."""
    of: int


@dataclass(frozen=True, kw_only=True)
class Index:
    """Unit features on one device."""

    image_ND: Tensor
    caption_MD: Tensor
    caption_N: np.ndarray
    """int64: which caption each pair has."""
    own_N: np.ndarray
    """float32: the cosine of each picture with its own caption."""

    @classmethod
    def of(
        cls,
        image_ND: np.ndarray,
        caption_MD: np.ndarray,
        caption_N: np.ndarray,
        *,
        device: str = "cpu",
    ) -> "Index":
        """From features that need not be normalized. Raises ValueError where one is not finite."""
        unit_ND = unit_rows(image_ND, device=device)
        unit_MD = unit_rows(caption_MD, device=device)
        own_N = _cosines_of_pairs(unit_ND, unit_MD, torch.from_numpy(caption_N).to(device))
        return cls(image_ND=unit_ND, caption_MD=unit_MD, caption_N=caption_N, own_N=own_N)

    def __len__(self) -> int:
        return len(self.image_ND)

    def cosines(self, query_D: np.ndarray) -> np.ndarray:
        """float32 (N,): of a query, a feature of any length, with every picture."""
        query = unit_rows(query_D[None], device=str(self.image_ND.device))[0]
        return torch.mv(self.image_ND, query).cpu().numpy()

    def cosines_of_row(self, row: int) -> np.ndarray:
        """float32 (N,): of one of the pictures with every picture."""
        return torch.mv(self.image_ND, self.image_ND[row]).cpu().numpy()

    def caption_cosines(self, row: int) -> np.ndarray:
        """float32 (M,): of one of the pictures with every distinct caption."""
        return torch.mv(self.caption_MD, self.image_ND[row]).cpu().numpy()

    def rank_of_caption(self, row: int, cosine_M: np.ndarray) -> Rank:
        """Where the pair's caption stands for its picture; `cosine_M` is `caption_cosines(row)`."""
        own = self.caption_N[row]
        reached = cosine_M >= cosine_M[own] - TIE
        reached[own] = False
        return Rank(1 + int(reached.sum()), len(cosine_M))

    def rank_of_picture(self, row: int) -> Rank:
        """Where the picture stands for its caption; others with that caption count as right."""
        cosine_N = torch.mv(self.image_ND, self.caption_MD[self.caption_N[row]]).cpu().numpy()
        is_right = self.caption_N == self.caption_N[row]
        reached = (cosine_N >= cosine_N[row] - TIE) & ~is_right
        return Rank(1 + int(reached.sum()), len(cosine_N))


def highest(score_N: np.ndarray, *, first: int, count: int) -> np.ndarray:
    """int64: the rows that stand at `first`, counted from 0, and after it, `count` at most.

    Highest scores come first, equal ones by their number. Scores must not be NaN.
    """
    last = min(first + count, len(score_N))
    if last <= first:
        return np.empty(0, dtype=np.int64)
    candidates = np.arange(len(score_N))
    if last < len(score_N):
        place = len(score_N) - last
        candidates = np.flatnonzero(score_N >= np.partition(score_N, place)[place])
    order = np.argsort(-score_N[candidates], kind="stable")
    return candidates[order][first:last]


def _cosines_of_pairs(image_ND: Tensor, caption_MD: Tensor, caption_N: Tensor) -> np.ndarray:
    """Block by block: all captions gathered at once would be as large as the pictures."""
    own = [
        (image_BD * caption_MD[of_B]).sum(dim=1).cpu()
        for image_BD, of_B in zip(
            image_ND.split(_ROWS_AT_ONCE), caption_N.split(_ROWS_AT_ONCE), strict=True
        )
    ]
    return torch.cat(own).numpy()
