"""Nearest others and groups of what cannot be told apart, each beside its literal double loop."""

import math

import numpy as np
import pytest

from winnow.evaluation.alike import (
    NEAREST,
    Links,
    caption_groups,
    join,
    mutual_neighbours,
    picture_groups,
)
from winnow.evaluation.doubts import OTHERS, least_believed, rather
from winnow.evaluation.ranking import normalised

SCALE = 20.0


def rows(count, width, *, seed):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def cosine(one, other):
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_what_it_would_rather_say_is_a_double_loops_nearest_others():
    query, candidate = rows(30, 6, seed=1), rows(50, 6, seed=2)
    own = np.random.default_rng(3).integers(0, 50, 30)
    found = rather(query, candidate, own)
    for q in range(30):
        cosines = [cosine(query[q], candidate[m]) for m in range(50)]
        others = sorted((m for m in range(50) if m != own[q]), key=lambda m: -cosines[m])
        assert found.other_QO[q].tolist() == others[:OTHERS]
        np.testing.assert_allclose(found.cosine_QO[q], [cosines[m] for m in others[:3]], atol=1e-6)
        assert found.own_Q[q] == pytest.approx(cosines[own[q]], abs=1e-6)
        assert found.rank_Q[q] == 1 + sum(cosines[m] >= cosines[own[q]] - 1e-6 for m in others)


def test_a_choice_of_two_has_one_other():
    found = rather(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), np.array([0, 0]))
    assert found.other_QO.tolist() == [[1], [1]]
    assert found.rank_Q.tolist() == [1, 2]


def test_the_least_believed_go_by_the_late_probability_then_margin_and_unknown_ones_come_last():
    late = np.array([0.3, np.nan, 0.1, 0.1, np.nan], dtype=np.float32)
    margin = np.array([-1.0, 0.5, 0.2, -0.2, -0.5], dtype=np.float32)
    mean = np.full(5, 0.2, dtype=np.float32)
    assert least_believed(late, margin, mean, count=9).tolist() == [3, 2, 0, 4, 1]
    assert least_believed(late, margin, mean, count=2).tolist() == [3, 2]
    unknown = np.full(3, np.nan)
    assert least_believed(unknown, unknown, np.array([0.9, 0.1, 0.5]), count=3).tolist() == [
        1,
        2,
        0,
    ]


def literal_links(item):
    """Every two items of which each is at least as near to the other as its 4th nearest."""
    count = len(item)
    near = [[cosine(item[i], item[j]) for j in range(count)] for i in range(count)]
    last = [sorted(near[i][:i] + near[i][i + 1 :])[-min(NEAREST, count - 1)] for i in range(count)]
    return {
        (i, j): near[i][j]
        for i in range(count)
        for j in range(i + 1, count)
        if near[i][j] >= max(last[i], last[j]) - 1e-6
    }


def literal_groups(links, *, own, count, most=32):
    """`own` says whether the counterparts of two items tell them apart."""
    groups = [{item} for item in range(count)]
    for (i, j), _ in sorted(links.items(), key=lambda link: (-link[1], link[0])):
        one, other = (next(g for g in groups if item in g) for item in (i, j))
        if own(i, j) and one is not other and len(one | other) <= most:
            groups = [g for g in groups if g is not one and g is not other] + [one | other]
    return {frozenset(group) for group in groups}


def as_sets(groups):
    found = {}
    for item, group in enumerate(groups.group_I.tolist()):
        found.setdefault(group, set()).add(item)
    return {frozenset(group) for group in found.values()}


def planted(seed):
    """60 pairs of 45 captions around 12 things, some of them as good as copies of each other."""
    random = np.random.default_rng(seed)
    things = random.normal(size=(12, 8))
    text_of = np.concatenate([np.arange(45), random.integers(0, 45, 15)])
    text = things[np.arange(45) % 12] + 0.3 * random.normal(size=(45, 8))
    image = things[text_of % 12] + 0.3 * random.normal(size=(60, 8))
    return *(normalised(one.astype(np.float32)) for one in (image, text)), text_of


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_neighbours_of_each_other_are_a_double_loops(seed):
    image, _, _ = planted(seed)
    found = mutual_neighbours(image, what="pictures")
    literal = literal_links(image)
    listed = dict(
        zip(
            zip(found.first_E.tolist(), found.second_E.tolist(), strict=True),
            found.cosine_E.tolist(),
            strict=True,
        )
    )
    assert listed.keys() == literal.keys()
    for link, value in literal.items():
        assert listed[link] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_groups_of_pictures_are_a_double_loops(seed):
    image, text, text_of = planted(seed)

    def not_told_apart(i, j):
        odds = [
            math.exp(
                SCALE * (cosine(image[b], text[text_of[a]]) - cosine(image[a], text[text_of[a]]))
            )
            for a, b in ((i, j), (j, i))
        ]
        return min(odds) >= 0.5

    found = picture_groups(image, text, text_of, logit_scale=SCALE)
    literal = literal_groups(literal_links(image), own=not_told_apart, count=len(image))
    assert as_sets(found) == literal
    assert 1 < max(map(len, literal)) < 30


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_groups_of_captions_are_a_double_loops_over_mean_cosines(seed):
    image, text, text_of = planted(seed)

    def mean(a, b):
        """Of the pictures of caption a with caption b."""
        return np.mean([cosine(image[n], text[b]) for n in range(60) if text_of[n] == a])

    def not_told_apart(a, b):
        slack = math.log(2) / SCALE
        return mean(a, b) >= mean(a, a) - slack and mean(b, a) >= mean(b, b) - slack

    found = caption_groups(image, text, text_of, logit_scale=SCALE)
    literal = literal_groups(literal_links(text), own=not_told_apart, count=len(text))
    assert as_sets(found) == literal
    assert 1 < max(map(len, literal)) < 30


def test_copies_of_one_picture_are_one_group_however_many_there_are():
    image, _, _ = planted(4)
    copies = np.concatenate([image, np.repeat(image[:1], 9, axis=0)])
    groups = join(mutual_neighbours(copies, what="pictures"), num_items=69)
    assert len({groups.group_I[n] for n in (0, *range(60, 69))}) == 1


def test_two_unlike_pictures_with_each_others_caption_are_no_group():
    thing = np.eye(12, dtype=np.float32)
    swapped = np.array([1, 0, *range(2, 12)])
    image = normalised(np.repeat(thing, 5, axis=0) + 0.05 * rows(60, 12, seed=5))
    text_of = np.repeat(swapped, 5)
    # Each fits the other's caption far better than its own, and yet they are unlike.
    assert cosine(image[0], thing[text_of[5]]) > cosine(image[0], thing[text_of[0]]) + 0.5
    groups = picture_groups(image, thing, text_of, logit_scale=SCALE).group_I
    assert not set(groups[:5]) & set(groups[5:10])
    assert len(set(groups[:5])) < 5


def test_groups_are_made_from_the_nearest_down_and_stay_small():
    chain = Links(np.arange(9), np.arange(1, 10), np.linspace(0.9, 0.5, 9).astype(np.float32))
    whole = join(chain, num_items=10)
    assert as_sets(whole) == {frozenset(range(10))}
    assert whole.weakest_G.tolist() == [0.5]
    cut = join(chain, num_items=10, most=4)
    assert as_sets(cut) == {frozenset(range(4)), frozenset(range(4, 8)), frozenset({8, 9})}
    np.testing.assert_allclose(cut.weakest_G, [0.8, 0.6, 0.5], atol=1e-6)
    two = Links(np.array([0, 2, 1, 3]), np.array([1, 3, 2, 4]), np.array([0.9, 0.8, 0.7, 0.6]))
    assert as_sets(join(two, num_items=5, most=4)) == {frozenset(range(4)), frozenset({4})}
    lone = join(Links(*np.zeros((3, 0), dtype=np.int64)), num_items=2)
    assert lone.group_I.tolist() == [0, 1] and lone.weakest_G.tolist() == [1.0, 1.0]


def test_one_item_has_no_neighbour():
    found = mutual_neighbours(np.ones((1, 3), dtype=np.float32), what="pictures")
    assert len(found.first_E) == 0
