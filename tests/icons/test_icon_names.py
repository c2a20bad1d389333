"""Names become concepts, and only words of style are lost."""

import pytest
from icon_names import (
    concept_of,
    has_skin_tone,
    is_brand,
    is_class_name,
    plain,
    styles_of,
    without_plurals,
)
from icon_sentences import KINDS, Facts, colour_of, sentence


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("home", "home"),
        ("home-outline", "home"),
        ("home-24-filled", "home"),
        ("baseline-arrow-left", "arrow left"),
        ("arrowleft", "arrowleft"),
        ("traffic-light", "traffic light"),
        ("outline", "outline"),
        ("24-hours", "24 hours"),
        ("file-1", "file 1"),
        ("solid-duotone", "solid"),
    ],
)
def test_words_of_style_are_dropped(name, concept):
    styles = styles_of(["home", "car"], declared=["24-filled", "16-regular"])
    assert concept_of(name, styles) == concept


def test_a_word_is_a_style_where_the_set_uses_it_often():
    lamps = ["traffic-light", *(f"thing{n}" for n in range(299))]
    themed = [f"thing{n}-light" for n in range(10)] + [f"thing{n}-bold" for n in range(10)]
    assert "light" not in styles_of(lamps)
    assert "light" not in styles_of([*(f"lamp{n}-light" for n in range(5)), *lamps])
    assert {"light", "bold"} <= styles_of(themed)
    assert "light" not in styles_of([f"thing{n}-light" for n in range(4)])


def test_numbers_behind_a_style_are_variants():
    names = [f"thing{n}-{size}-solid" for n in range(20) for size in (16, 20)]
    assert {concept_of(name, styles_of(names)) for name in names} == {
        f"thing{n}" for n in range(20)
    }


def test_which_names_are_brands_and_skin_tones():
    assert (
        is_brand("brand-github")
        and is_brand("reddit-logo")
        and is_brand("pokemon-go")
        and not is_brand("logout")
    )
    assert has_skin_tone("man-medium-dark-skin-tone") and has_skin_tone("ear-tone2")
    assert not has_skin_tone("ringtone")


def test_which_concepts_can_name_a_class():
    named = ["home", "arrow up left", "x", "ab", "h2", "a b c d", "zip file"]
    assert [name for name in named if is_class_name(name)] == ["home", "arrow up left", "zip file"]


def test_the_rarer_of_singular_and_plural_is_no_class():
    counts = {"user": 9, "users": 4, "box": 2, "boxes": 5, "bus": 3}
    assert without_plurals(counts) == {"user": 9, "boxes": 5, "bus": 3}


def test_labels_and_names_of_emoji_meet_in_plain_words():
    assert plain("flag: Åland Islands") == plain("flag-for-aland-islands") == "flag aland islands"
    assert plain("keycap: *") == plain("keycap-asterisk") == "keycap asterisk"
    assert plain("woman’s hat") == plain("womans-hat")


@pytest.mark.parametrize(
    ("fill", "name"),
    [
        ((0, 0, 0), "black"),
        ((150, 150, 150), "grey"),
        ((220, 20, 20), "red"),
        ((240, 200, 20), "yellow"),
        ((20, 160, 40), "green"),
        ((30, 60, 220), "blue"),
        ((120, 70, 25), "brown"),
    ],
)
def test_the_colour_of_most_ink(fill, name):
    from icon_drawing import encoded
    from PIL import Image

    picture = Image.new("RGB", (32, 32), "white")
    picture.paste(fill, (4, 4, 24, 24))
    assert colour_of(encoded(picture).png) == name


def test_sentences_come_in_their_shares_and_are_true_of_the_drawing():
    facts = Facts("apple", "red", "Food", ("fruit",))
    made = [sentence(facts, seed=0, identity=f"set/{n}") for n in range(4_000)]
    for kind, share in KINDS.items():
        assert sum(one.kind == kind for one in made) / 4_000 == pytest.approx(share, abs=0.025)
    wordy = [one.text for one in made if one.kind in ("action", "relation")]
    assert all("apple" in text for text in wordy)
    assert "a red apple stands on a white background" in wordy
    assert "a red apple on a white background, from the food group" in wordy
    assert made == [sentence(facts, seed=0, identity=f"set/{n}") for n in range(4_000)]
