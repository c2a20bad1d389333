import numpy as np
import pytest

from winnow.explore.index import Index, Rank, highest

RANDOM = np.random.default_rng(0)
# Two captions are shared, and rows 3 and 4 are the same picture with different captions.
PICTURES = RANDOM.normal(size=(8, 5)).astype(np.float32)
PICTURES[4] = 3 * PICTURES[3]
CAPTIONS = RANDOM.normal(size=(6, 5)).astype(np.float32)
CAPTION = np.array([0, 1, 2, 3, 4, 0, 5, 2])


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return sum(x * y for x, y in zip(a, b, strict=True)) / np.sqrt((a**2).sum() * (b**2).sum())


@pytest.fixture
def index():
    return Index.of(PICTURES, CAPTIONS, CAPTION)


def test_cosines_are_those_of_the_literal_formula(index):
    query = RANDOM.normal(size=5).astype(np.float32)
    for found, others, own in [
        (index.cosines(query), PICTURES, query),
        (index.cosines_of_row(2), PICTURES, PICTURES[2]),
        (index.caption_cosines(2), CAPTIONS, PICTURES[2]),
    ]:
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, [cosine(one, own) for one in others], atol=1e-6)
    own = [cosine(PICTURES[n], CAPTIONS[CAPTION[n]]) for n in range(8)]
    np.testing.assert_allclose(index.own_N, own, atol=1e-6)


def test_ranks_are_those_of_the_literal_loops(index):
    for row in range(8):
        own = cosine(PICTURES[row], CAPTIONS[CAPTION[row]])
        wrong = [cosine(PICTURES[row], CAPTIONS[m]) for m in range(6) if m != CAPTION[row]]
        expected = Rank(1 + sum(one >= own - 1e-6 for one in wrong), 6)
        assert index.rank_of_caption(row, index.caption_cosines(row)) == expected
        others = [n for n in range(8) if CAPTION[n] != CAPTION[row]]
        reached = sum(cosine(PICTURES[n], CAPTIONS[CAPTION[row]]) >= own - 1e-6 for n in others)
        assert index.rank_of_picture(row) == Rank(1 + reached, 8)
    # Its double is as near to the caption, and counts against it.
    assert index.rank_of_picture(3).rank >= 2


def test_the_highest_are_those_of_a_full_sort_page_by_page():
    # Few values, so that every page's end lies in a tie.
    score = RANDOM.integers(0, 4, size=50).astype(np.float32)
    order = sorted(range(50), key=lambda row: (-score[row], row))
    for size in (1, 7, 50, 80):
        pages = [highest(score, first=first, count=size).tolist() for first in range(0, 50, size)]
        assert [row for page in pages for row in page] == order
    assert highest(score, first=50, count=7).tolist() == []
    assert highest(score[:0], first=0, count=7).tolist() == []


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        Index.of(np.full((2, 5), np.nan, np.float32), CAPTIONS, CAPTION[:2])
