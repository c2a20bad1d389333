"""Suspected false negatives: groups of captions, or of pictures, that a model cannot tell apart.

In a batch every other pair is a negative. Where two captions fit both pictures, or two pictures
both captions, that is false, and the loss pushes apart what belongs together. Two pictures x_i and
x_j whose captions are t_i and t_j are linked where

    mutual      cos(x_i, x_j) is at least that of the 4th nearest picture of either
    alike       scale · cos(x_j, t_i) >= scale · cos(x_i, t_i) - ln 2, and with i and j exchanged

so neither caption gives its own picture twice the odds of the other. The first is what the model
says of pictures alone, the second of pairs: two pairs whose captions were swapped satisfy the
second and fail the first. Captions are linked by the same rule with the sides exchanged; each
distinct caption counts once, and stands against the mean of its pictures' unit features (so the
second line is of mean cosines). Pairs of one and the same caption are of one group to begin with.

Links join groups from the highest cosine down, and never into more than MOST_TOGETHER items: a
chain of neighbours, each like the next, would otherwise end up as one group of unlike things.

N pairs, M captions, I items to be told apart, E links, D the width of the joint space.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from winnow.evaluation.ranking import TIE, TOP, one_each, rank
from winnow.progress import track

NEAREST = TOP - 1
"""Neighbours of an item that can be linked with it; one of those asked for is the item itself."""
ODDS = 2.0
"""Below this factor between the odds of two items the model cannot tell them apart."""
MOST_TOGETHER = 32
"""Distinct captions, or pictures, of one group."""

_QUERIES_AT_ONCE = 8192
_LINKS_AT_ONCE = 16384


class Links(NamedTuple):
    """Pairs of items, each once, `first_E` < `second_E`, both int64."""

    first_E: np.ndarray
    second_E: np.ndarray
    cosine_E: np.ndarray
    """float32."""


class Groups(NamedTuple):
    """Which items belong together."""

    group_I: np.ndarray
    """int64: the number of each item's group; one that is like no other has a group of its own."""
    weakest_G: np.ndarray
    """float32: the lowest cosine of a link that made the group; 1 for one of a single item."""


def picture_groups(
    image_ND: np.ndarray,
    text_MD: np.ndarray,
    text_N: np.ndarray,
    *,
    logit_scale: float,
    device: str = "cpu",
) -> Groups:
    """The groups of the N pictures. Features are unit rows; `text_N` is each one's caption."""
    links = mutual_neighbours(image_ND, what="pictures", device=device)
    return join(_alike(links, image_ND, text_MD[text_N], logit_scale), num_items=len(image_ND))


def caption_groups(
    image_ND: np.ndarray,
    text_MD: np.ndarray,
    text_N: np.ndarray,
    *,
    logit_scale: float,
    device: str = "cpu",
) -> Groups:
    """The groups of the M distinct captions, each of which some picture has."""
    links = mutual_neighbours(text_MD, what="captions", device=device)
    means_MD = _means(image_ND, text_N, len(text_MD))
    return join(_alike(links, text_MD, means_MD, logit_scale), num_items=len(text_MD))


def mutual_neighbours(item_ID: np.ndarray, *, what: str, device: str = "cpu") -> Links:
    """Items that are among the NEAREST of each other, or as near as the last of these (unit rows).

    `what` names them for people.
    """
    count = len(item_ID)
    neighbour_IK = np.empty((count, min(NEAREST, count - 1)), dtype=np.int64)
    cosine_IK = np.empty(neighbour_IK.shape, dtype=np.float32)
    with track(f"comparing {what}", total=count, unit=what) as advance:
        for start in range(0, count, _QUERIES_AT_ONCE):
            own_Q = np.arange(start, min(start + _QUERIES_AT_ONCE, count))
            ranking = rank(item_ID[own_Q], item_ID, one_each(own_Q), device=device)
            is_own_QK = ranking.top_QK == own_Q[:, None]
            place_QK = np.argsort(is_own_QK, axis=1, kind="stable")[:, : neighbour_IK.shape[1]]
            neighbour_IK[own_Q] = np.take_along_axis(ranking.top_QK, place_QK, axis=1)
            cosine_IK[own_Q] = np.take_along_axis(ranking.score_QK, place_QK, axis=1)
            advance(len(own_Q))
    item_E = np.repeat(np.arange(count), neighbour_IK.shape[1])
    other_E, cosine_E = neighbour_IK.reshape(-1), cosine_IK.reshape(-1)
    # As near to the other as that one's own last neighbour, though copies may fill its list.
    is_mutual_E = cosine_E >= cosine_IK[other_E, -1] - TIE if len(item_E) else item_E > 0
    first_E = np.minimum(item_E, other_E)[is_mutual_E]
    second_E = np.maximum(item_E, other_E)[is_mutual_E]
    _, once = np.unique(first_E * count + second_E, return_index=True)
    return Links(first_E[once], second_E[once], cosine_E[is_mutual_E][once])


def join(links: Links, *, num_items: int, most: int = MOST_TOGETHER) -> Groups:
    """Groups of at most `most` items, made from the highest cosine down.

    Of equal cosines the items that stand earlier come first.
    """
    parent, size = list(range(num_items)), [1] * num_items
    weakest = [1.0] * num_items

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    order = np.lexsort((links.second_E, links.first_E, -links.cosine_E))
    in_order = (links.first_E[order], links.second_E[order], links.cosine_E[order])
    for first, second, cosine in zip(*(part.tolist() for part in in_order), strict=True):
        one, other = sorted((root(first), root(second)))
        if one != other and size[one] + size[other] <= most:
            parent[other] = one
            size[one] += size[other]
            weakest[one] = cosine
    roots = np.array([root(item) for item in range(num_items)], dtype=np.int64)
    kept, group_I = np.unique(roots, return_inverse=True)
    return Groups(group_I, np.array(weakest, dtype=np.float32)[kept])


def _alike(links: Links, item_ID: np.ndarray, other_ID: np.ndarray, logit_scale: float) -> Links:
    """The links between items whose counterparts, on the other side, do not tell them apart."""
    slack = math.log(ODDS) / logit_scale + TIE
    keep_E = np.empty(len(links.first_E), dtype=bool)
    for start in range(0, len(keep_E), _LINKS_AT_ONCE):
        here = slice(start, start + _LINKS_AT_ONCE)
        first_ED, second_ED = item_ID[links.first_E[here]], item_ID[links.second_E[here]]
        of_first_ED, of_second_ED = other_ID[links.first_E[here]], other_ID[links.second_E[here]]
        keep_E[here] = _dots(second_ED - first_ED, of_first_ED) >= -slack
        keep_E[here] &= _dots(first_ED - second_ED, of_second_ED) >= -slack
    return Links(*(part[keep_E] for part in links))


def _dots(left_ED: np.ndarray, right_ED: np.ndarray) -> np.ndarray:
    return np.einsum("ed,ed->e", left_ED, right_ED)


def _means(image_ND: np.ndarray, text_N: np.ndarray, num_texts: int) -> np.ndarray:
    """(M, D): the mean picture of every caption, not normalised again."""
    sum_MD = torch.zeros(num_texts, image_ND.shape[1])
    sum_MD.index_add_(0, torch.from_numpy(text_N), torch.from_numpy(image_ND))
    count_M = torch.from_numpy(np.bincount(text_N, minlength=num_texts))
    return (sum_MD / count_M[:, None]).numpy()
