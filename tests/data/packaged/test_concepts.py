from winnow.data.packaged.concepts import (
    code_from_file_name,
    code_from_text,
    concepts,
    emoji_by_code,
    plain_words,
    without_skin_tones,
)


def test_every_spelling_of_a_sequence_has_one_code():
    assert code_from_text("\u2764\ufe0f") == code_from_text("\u2764") == "2764"
    assert code_from_file_name("2764-FE0F") == code_from_file_name("2764") == "2764"
    assert code_from_file_name("0023-FE0F-20E3") == code_from_text("#\ufe0f\u20e3") == "23-20e3"


def test_joiners_tell_concepts_apart_and_skin_tones_do_not():
    cook, man = "1f468-200d-1f373", "1f468"
    assert concepts()[cook].name == "man cook"
    assert concepts()[man].name == "man"
    assert without_skin_tones("1f468-1f3fd-200d-1f373") == cook
    toned = emoji_by_code()["1f468-1f3fd-200d-1f373"]
    assert (toned.concept, toned.name) == (cook, "man cook medium skin tone")


def test_flags_of_places_are_no_concepts_and_other_flags_are():
    assert "1f1eb-1f1f7" not in concepts()  # France
    assert code_from_text("🏴󠁧󠁢󠁳󠁣󠁴󠁿") not in concepts()  # Scotland
    assert concepts()["1f3c1"].name == "chequered flag"


def test_names_are_unique_plain_words():
    names = [concept.name for concept in concepts().values()]
    assert len(set(names)) == len(names) > 1_600
    assert not [name for name in names if any(mark in name for mark in '_:“”"')]
    assert plain_words(":Japanese_“here”_button:") == "Japanese here button"


def test_categories_and_aliases_come_along():
    apple = concepts()["1f34e"]
    assert (apple.name, apple.category, apple.aliases) == ("red apple", "Food & Drink", ("apple",))
