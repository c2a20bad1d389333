"""One picture against K statements of which one is true: how this project reads SNLI-VE and VQAv2.

DiHT evaluates both zero-shot (Radenovic et al. 2023, arXiv 2301.02280) and does not say how. Here a
picture's statements are candidates of its own, and it is a hit if the true one has the highest
cosine. A tie counts against the model, as everywhere (ranking.py). Pictures may have different
numbers K_n of statements; chance is the mean of 1 / K_n. A picture that is asked twice is two
pictures here, and intervals take them as independent.

Winoground (Thrush et al. 2022, "Winoground: Probing Vision and Language Models for Visio-Linguistic
Compositionality", CVPR) has two pictures and two captions of the same words an item:

    text    s(c0, i0) > s(c1, i0)  and  s(c1, i1) > s(c0, i1)      chance 1/4
    image   s(c0, i0) > s(c0, i1)  and  s(c1, i1) > s(c1, i0)      chance 1/4
    group   both                                                   chance 1/6

N pictures, S statements of all pictures one after another, M distinct texts.
"""

from typing import NamedTuple

import numpy as np

from winnow.evaluation.measures import Measure, proportion
from winnow.evaluation.ranking import BLOCK_ELEMENTS, TIE, unit_rows


class Statements(NamedTuple):
    """What each picture is asked: those of picture n are `text_S[starts[n]:starts[n + 1]]`."""

    starts: np.ndarray  # int64 (N + 1,)
    text_S: np.ndarray  # int64, rows of the texts' features
    answer_N: np.ndarray  # int64, which of a picture's statements is true, from 0


class Answers(NamedTuple):
    """How every picture was answered."""

    rank_N: np.ndarray
    """int64: of the true statement among the picture's own, 1 is best."""
    score_S: np.ndarray
    """float32: the cosine of every statement, packed as they are."""


def answer(
    image_ND: np.ndarray,
    text_MD: np.ndarray,
    statements: Statements,
    *,
    block_elements: int = BLOCK_ELEMENTS,
    device: str = "cpu",
) -> Answers:
    """Rank the statements of every picture. Features need not be normalised, but must be finite."""
    starts, text_S, answer_N = statements
    picture_S = np.repeat(np.arange(len(image_ND)), np.diff(starts))
    size = max(1, block_elements // image_ND.shape[1])
    score_S = np.empty(len(text_S), dtype=np.float32)
    for start in range(0, len(text_S), size):
        block = slice(start, start + size)
        image_SD = unit_rows(image_ND[picture_S[block]], device=device)
        text_SD = unit_rows(text_MD[text_S[block]], device=device)
        score_S[block] = (image_SD * text_SD).sum(dim=1).cpu().numpy()
    true_N = starts[:-1] + answer_N
    floor_N = score_S[true_N] - np.float32(TIE)
    # The true one reaches its own floor, and so counts as the 1 of the rank.
    reached_S = score_S >= floor_N[picture_S]
    return Answers(np.add.reduceat(reached_S.astype(np.int64), starts[:-1]), score_S)


def statements_measure(answers: Answers, statements: Statements) -> Measure:
    """ "top1": the share of pictures whose true statement ranks first."""
    chance = float((1 / np.diff(statements.starts)).mean())
    return proportion(answers.rank_N == 1, metric="top1", chance=chance)


def come_in_pairs(statements: Statements) -> bool:
    """Whether pictures 2i and 2i + 1 have the same two statements, each true of one of them."""
    if (np.diff(statements.starts) != 2).any() or len(statements.answer_N) % 2:
        return False
    text_I22 = np.sort(statements.text_S.reshape(-1, 2, 2), axis=2)
    true_I2 = statements.text_S[statements.starts[:-1] + statements.answer_N].reshape(-1, 2)
    same = (text_I22[:, 0] == text_I22[:, 1]).all()
    return bool(same and (true_I2[:, 0] != true_I2[:, 1]).all())


def winoground_measures(image_N2D: np.ndarray, caption_N2D: np.ndarray) -> list[Measure]:
    """ "text_score", "image_score" and "group_score" of N items; caption j tells of picture j."""
    width = image_N2D.shape[-1]
    image_N2D = unit_rows(image_N2D.reshape(-1, width)).numpy().reshape(-1, 2, width)
    caption_N2D = unit_rows(caption_N2D.reshape(-1, width)).numpy().reshape(-1, 2, width)
    cosine_N22 = np.einsum("ncd,nid->nci", caption_N2D, image_N2D)  # caption, then picture
    own_N2 = np.einsum("njj->nj", cosine_N22) - np.float32(TIE)
    text_N = (own_N2 > np.stack([cosine_N22[:, 1, 0], cosine_N22[:, 0, 1]], axis=1)).all(axis=1)
    image_N = (own_N2 > np.stack([cosine_N22[:, 0, 1], cosine_N22[:, 1, 0]], axis=1)).all(axis=1)
    return [
        proportion(text_N, metric="text_score", chance=1 / 4),
        proportion(image_N, metric="image_score", chance=1 / 4),
        proportion(text_N & image_N, metric="group_score", chance=1 / 6),
    ]
