"""Swapped captions and nested parts, by their laws."""

from collections import Counter

import numpy as np
import pytest
from icon_sets import Icon, family_of
from icon_split import SplitConfig, classes_of, split, subset_of
from icon_swaps import swapped

from winnow.types import InputError

CAPTIONS = [f"word {n // 7}" if n % 3 else "home" for n in range(1_000)]


def icon(prefix, concept, category=""):
    return Icon(set=prefix, name=concept, concept=concept, category=category, svg="")


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 1.0])
def test_no_swapped_pair_keeps_its_caption_and_none_is_lost(share):
    moved, is_swapped = swapped(CAPTIONS, share=share, seed=3)
    changed = np.array([now != own for now, own in zip(moved, CAPTIONS, strict=True)])
    assert is_swapped.sum() == round(share * 1_000)
    assert (changed == is_swapped).all()
    assert Counter(moved) == Counter(CAPTIONS)


def test_more_noise_holds_the_pairs_of_less():
    chosen = [swapped(CAPTIONS, share=share, seed=3)[1] for share in (0.2, 0.4, 0.6)]
    assert (chosen[0] <= chosen[1]).all() and (chosen[1] <= chosen[2]).all()
    assert (swapped(CAPTIONS, share=0.2, seed=4)[1] != chosen[0]).any()


def test_captions_of_one_kind_go_to_many():
    captions = [f"word {n // 50}" for n in range(1_000)]
    moved, _ = swapped(captions, share=1.0, seed=0)
    assert len(set(moved[:50])) > 10


def test_what_cannot_be_swapped_is_said():
    with pytest.raises(InputError, match="6 of 10 pairs to swap have the caption 'home'"):
        swapped(["home"] * 6 + list("abcd"), share=1.0, seed=0)
    moved, _ = swapped(["a", "a", "b", "b"], share=1.0, seed=0)
    assert moved == ["b", "b", "a", "a"]


def test_parts_are_nested_and_take_their_share_of_every_set():
    icons = [icon(f"set{n % 4}", f"c{n}") for n in range(1_000)] + [icon("rare", "c")]
    parts = [
        {one.identity for one in subset_of(icons, share, seed=0)} for share in (0.01, 0.1, 0.5, 1)
    ]
    assert parts[0] < parts[1] < parts[2] < parts[3]
    assert len(parts[3]) == 1_001
    for share, part in zip((0.01, 0.1, 0.5), parts, strict=False):
        for number in range(4):
            got = sum(name.startswith(f"set{number}/") for name in part)
            assert abs(got - share * 250) <= 1
    chosen = sum(bool(subset_of([icon("rare", "c")], 0.3, seed=s)) for s in range(500))
    assert 110 < chosen < 190


def test_classes_need_families_enough_and_the_unseen_sets():
    icons = [icon(f"s{n}", "home") for n in range(3)]
    icons += [icon(prefix, "tree") for prefix in ("mdi", "ic", "s0")]
    icons += [icon(f"s{n}", concept) for n in range(4) for concept in ("a1", "rare", "homes")]
    config = SplitConfig(least_families=3, held_out_most=1, most_classes=9, pairs=9)
    unseen = [icon("ph", concept) for concept in ("home", "homes", "tree", "a1")]
    assert family_of("mdi") == family_of("ic") == "material"
    assert classes_of(icons, unseen, config=config) == ["homes"]
    assert classes_of(icons[:-4], unseen, config=config) == ["home"]


def test_training_shows_nothing_that_is_tested():
    icons = [icon(prefix, "home") for prefix in ("feather", "lucide", "s1", "s2", "s3")]
    icons += [icon("s4", "tree"), icon("s5", "tree")]
    digests = {one.identity: one.identity for one in icons}
    digests["s5/tree"] = "tested elsewhere"
    config = SplitConfig(least_families=3, held_out_most=1, most_classes=9, pairs=99)
    for seed in range(8):
        parts = split(
            icons,
            [icon("ph", "home")],
            digests,
            held_out_digests={"tested elsewhere"},
            config=config,
            seed=seed,
        )
        assert parts.classes == ["home"] and len(parts.seen) == 1
        families = {one.family for one in parts.training if one.concept == "home"}
        assert parts.seen[0].family not in families and len(families) == 3
        assert "s5/tree" not in {one.identity for one in parts.training}


def test_drawings_that_look_like_a_held_out_one_leave_training():
    icons = [icon(f"s{n}", "home") for n in range(4)]
    config = SplitConfig(least_families=3, held_out_most=1, most_classes=9, pairs=99)
    alike = {one.identity: "one look" for one in icons}
    parts = split(icons, [icon("ph", "home")], alike, held_out_digests=set(), config=config, seed=0)
    assert parts.training == [] and len(parts.seen) == 1
