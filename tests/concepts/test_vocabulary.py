import hashlib
import itertools
import json
import os
import random
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parsed_captions import COLUMNS, batches, build, counted, pairs, table

from winnow.concepts import HEADS, stop_words, vocabulary
from winnow.concepts.labels import LABELS_FILE, Labels
from winnow.concepts.stop_words import GROUPS, NO_WORD, StopList
from winnow.concepts.vocabulary import FACTS_FILE, SCHEMA, TABLE_FILE, Vocabulary, VocabularyConfig
from winnow.curation.annotators.parse import ParseCaptions
from winnow.data.folder import partial_name
from winnow.types import InputError

RED = pairs("red+wall", times=9)
"""So that there is an attribute, and an object of 9 pairs."""
FILES = (TABLE_FILE, LABELS_FILE, FACTS_FILE)


def labels_of(folder, opened: Vocabulary) -> dict[str, list[list[str]]]:
    """The concepts of every pair, in words."""
    words = {}
    for head in HEADS:
        offsets, values = Labels.open(folder, opened).head(head)
        names = [opened.concepts[head][value] for value in values]
        words[head] = [names[start:stop] for start, stop in itertools.pairwise(offsets)]
    return words


def test_a_rare_compound_counts_as_its_rest(tmp_path):
    found = [
        *pairs("old fire truck", times=3),
        *pairs("fire truck", times=4),
        *pairs("milk truck", times=2),
        *pairs("truck", times=4),
        *pairs("tow truck", times=5),
        *pairs("garden gnome", times=4),
        *RED,
    ]
    built = build(tmp_path, found)
    assert counted(built, "objects") == {"wall": 9, "fire truck": 7, "truck": 6, "tow truck": 5}
    numbers = built.facts.heads["objects"]
    # Rare: old fire truck, milk truck, garden gnome and its rest, gnome.
    assert (numbers.size, numbers.rare, numbers.candidates) == (4, 4, 8)
    assert numbers.labelled == 27 / 31 and numbers.mean == 27 / 31


def test_mentions_that_meet_in_one_pair_count_once(tmp_path):
    # Of trucks there are 3 pairs with two each: 6 mentions, but no concept.
    found = [*pairs("tow truck, milk truck", times=3), *pairs("cow, old cow, cow", times=5), *RED]
    built = build(tmp_path, found)
    assert counted(built, "objects") == {"wall": 9, "cow": 5, "old cow": 5}
    found += pairs("fire truck", times=2)
    built = build(tmp_path, found)
    assert counted(built, "objects") == {"wall": 9, "cow": 5, "old cow": 5, "truck": 5}
    # As "fire truck" there are 3 pairs with two each, so that these go on to "truck".
    found = [*pairs("old fire truck, toy fire truck", times=3), *pairs("truck", times=2), *RED]
    assert counted(build(tmp_path, found), "objects") == {"wall": 9, "truck": 5}


def test_attributes_do_not_back_off_and_hyphens_stay(tmp_path):
    found = [
        *pairs("snow-covered+hill", times=5),
        *pairs("Snow-Covered red+hill, red+hut", times=4),
        *pairs("covered+hill, dark red+hill", times=4),
    ]
    assert counted(build(tmp_path, found), "attributes") == {"snow-covered": 9, "red": 8}


def test_case_and_spaces_are_one_and_empty_ones_are_none(tmp_path):
    said = [" RED", "red "] * 3
    found = [(f"{n}", [("Fire   Truck", said), (" fire\ttruck", ["", " "])]) for n in range(5)]
    rows = table([*found, ("", [("", [])])])
    built = build(tmp_path, rows)
    assert counted(built, "objects") == {"fire truck": 5}
    assert counted(built, "attributes") == {"red": 5}


def test_a_concept_is_in_min_count_pairs_and_copies_count_each(tmp_path):
    found = [*pairs("red+cat", times=5), *pairs("blue+dog", times=4)]
    assert counted(build(tmp_path, found), "objects") == {"cat": 5}
    assert counted(build(tmp_path, found, min_count=4), "objects") == {"cat": 5, "dog": 4}
    assert counted(build(tmp_path, found, min_count=4), "attributes") == {"red": 5, "blue": 4}


def test_ties_are_alphabetical_and_the_most_frequent_are_kept(tmp_path):
    found = pairs("boat", "car", "axe", "toy egg", times=6) + pairs("van", times=7) + RED
    built = build(tmp_path, found, max_objects=4)
    assert counted(built, "objects") == {"wall": 9, "van": 7, "axe": 6, "boat": 6}
    numbers = built.facts.heads["objects"]
    assert numbers.beyond == 2 and numbers.candidates == 6 and numbers.labelled == 28 / 40


def test_what_is_beyond_the_most_frequent_counts_as_a_kept_end_of_it(tmp_path):
    found = pairs("truck", times=9) + pairs("old fire truck", times=6) + pairs("van", times=8)
    found += pairs("fire truck, truck", times=7) + RED
    built = build(tmp_path, found, max_objects=3)
    # truck 9 + 7 before, 6 more from "old fire truck": "fire truck" is beyond as well.
    assert counted(built, "objects") == {"truck": 22, "wall": 9, "van": 8}
    assert built.facts.heads["objects"].beyond == 2


@pytest.mark.parametrize(
    ("concept", "head", "reason"),
    [
        ("photo", "objects", "says what kind of picture it is, not what is in it"),
        ("stock photo", "objects", "says what kind of picture it is, not what is in it"),
        ("vector file", "objects", "is about the file, not about what is in it"),
        ("turtle drawing", "objects", None),
        ("vector clip art", "objects", "says what kind of picture it is, not what is in it"),
        ("photo album", "objects", None),
        ("art", "objects", None),
        ("lot", "objects", "stands for another word"),
        ("parking lot", "objects", None),
        ("may", "objects", "says when, not what"),
        ("night", "objects", None),
        ("747", "objects", NO_WORD),
        ("w", "objects", NO_WORD),
        ("4k", "attributes", NO_WORD),
        ("boeing 747", "objects", None),
        ("new", "attributes", "praises or sells, and says nothing of the look"),
        ("new", "objects", None),
        ("old", "attributes", None),
        ("stock", "attributes", "says what kind of picture it is, not what is in it"),
        ("watermark", "objects", "was asked for"),
        ("shop watermark", "objects", "was asked for"),
        ("big watermark", "attributes", "was asked for"),
    ],
)
def test_what_is_stopped_and_why(concept, head, reason):
    assert StopList.of(head, [" Watermark"]).reason(concept) == reason


@pytest.mark.parametrize(
    ("concept", "further", "rest"),
    [
        ("turtle drawing", (), "turtle"),
        ("cat face icon", (), "cat face"),
        ("cat stock photo png", (), "cat"),
        ("dog clip art vector", (), "dog"),
        ("day photo", (), "day"),
        ("photo album", (), "photo album"),
        ("parking lot", (), "parking lot"),
        ("pop art", (), "pop art"),
        ("lexicon", (), "lexicon"),
        ("photo", (), ""),
        ("stock photo", (), ""),
        ("vector clip art", (), ""),
        ("", (), ""),
        # What ends in a word that was asked for is left whole.
        ("cat icon", ("icon",), "cat icon"),
        ("cat icon photo", ("icon",), "cat icon"),
        ("cat photo icon", ("photo",), "cat photo"),
        ("red fox icon", ("Fox  icon",), "red fox icon"),
        ("wolf icon", ("fox icon",), "wolf"),
        ("icon", ("icon",), ""),
        ("stock photo", ("photo", "stock"), ""),
    ],
)
def test_what_is_left_of_an_object(concept, further, rest):
    assert StopList.of("objects", further).rest(concept) == rest


def test_what_is_said_of_the_picture_comes_off_its_objects(tmp_path):
    found = [
        *pairs("red+turtle drawing", times=3),
        *pairs("turtle, turtle icon", times=2),
        *pairs("cat face icon", times=3),
        *pairs("cat face", times=2),
        *pairs("Dog Face png image", times=4),
        *pairs("red+face", times=2),
        *pairs("big+day photo", times=5),
        *pairs("shop watermark icon, tiny+watermark", times=5),
    ]
    built = build(tmp_path, found, stop=("watermark",))
    # "Dog face" is rare and counts as its rest, "cat face" is not.
    assert counted(built, "objects") == {"face": 6, "cat face": 5, "turtle": 5}
    assert counted(built, "attributes") == {"big": 5, "red": 5, "tiny": 5}
    left = [(row["concept"], row["count"], row["reason"]) for row in built.table.to_pylist()]
    assert [row for row in left if row[2]] == [
        ("day", 5, "says when, not what"),
        ("shop watermark", 5, "was asked for"),
        ("watermark", 5, "was asked for"),
    ]
    objects = labels_of(tmp_path, built)["objects"]
    faces = [["cat face"]] * 5 + [["face"]] * 6
    assert objects == [["turtle"]] * 5 + faces + [[]] * 10
    numbers = built.facts.heads["objects"]
    assert (numbers.candidates, numbers.rare) == (7, 1)


def test_attributes_of_the_picture_are_none(tmp_path):
    found = [
        *pairs("flat+icon, sun", times=3),
        *pairs("flat old+stock photo, old+sun", times=2),
        *pairs("flat+sun vector clip art, old+png file", times=3),
        *pairs("old+747, flat+lot", times=2),
    ]
    built = build(tmp_path, found, min_count=1)
    # Of icon, stock photo and png file none; of the numbers and the lot, stopped too, all.
    assert counted(built, "attributes") == {"flat": 5, "old": 4}
    assert labels_of(tmp_path, built)["attributes"] == (
        [[]] * 3 + [["old"]] * 2 + [["flat"]] * 3 + [["flat", "old"]] * 2
    )
    assert counted(built, "objects") == {"sun": 8}
    left = [row for row in built.table.to_pylist() if row["reason"]]
    assert [(row["concept"], row["count"]) for row in left] == [
        ("icon", 3),
        ("png file", 3),
        ("747", 2),
        ("lot", 2),
        ("stock photo", 2),
    ]


def test_the_stop_list_is_short_and_says_each_word_once():
    for head in HEADS:
        words = [word for group in GROUPS if head in group.heads for word in group.words]
        assert len(words) == len(set(words))
        assert words == [word.lower() for word in words]
    assert sum(len(group.words) for group in GROUPS) < 130


def test_stopped_concepts_are_rows_with_a_reason_and_no_labels(tmp_path):
    found = [
        *pairs("red+stock photo, cat", times=7),
        *pairs("vector photo", times=2),
        *pairs("photo", times=4),
        *pairs("new+hut, new york", times=5),
        *pairs("red+york", times=6),
        *pairs("old town", times=3),
    ]
    built = build(tmp_path, found, stop=("New  York", "town"))
    assert counted(built, "objects") == {"cat": 7, "york": 6, "hut": 5}
    left = [row for row in built.table.to_pylist() if row["reason"]]
    assert [(row["concept"], row["count"], row["index"]) for row in left] == [
        ("stock photo", 7, None),
        ("photo", 6, None),
        ("new york", 5, None),
        ("new", 5, None),
    ]
    assert [row["head"] for row in left] == ["objects"] * 3 + ["attributes"]
    assert built.facts.heads["objects"].stopped == 3
    objects = labels_of(tmp_path, built)["objects"]
    assert objects == [["cat"]] * 7 + [[]] * 6 + [["hut"]] * 5 + [["york"]] * 6 + [[]] * 3


def test_what_is_stopped_as_a_whole_does_not_count_as_its_rest(tmp_path):
    found = [*pairs("new york", times=4), *pairs("york, red+tower", times=6)]
    assert counted(build(tmp_path, found), "objects") == {"york": 10, "tower": 6}
    built = build(tmp_path, found, stop=("new york",))
    assert counted(built, "objects") == {"tower": 6, "york": 6}
    assert built.facts.heads["objects"].rare == 1


WORDS = ("truck", "fire", "old", "toy", "hat", "photo", "clip art", "lot")


def made_up(*, seed: int, count: int):
    """Pairs of compounds that overlap, and of attributes."""
    dice = random.Random(seed)
    return [
        (
            f"caption {dice.randrange(count // 2)}",
            [
                (
                    " ".join(dice.choices(WORDS, k=dice.choice((1, 1, 2, 2, 3, 4)))),
                    dice.choices(("red", "new", "big", "tin"), k=dice.randrange(3)),
                )
                for _ in range(dice.randrange(4))
            ],
        )
        for _ in range(count)
    ]


def shown(lemma: str) -> str:
    """A made-up object without what is said of the picture."""
    return re.sub(r"( ?\b(photo|clip art))+$", "", lemma)


def literal(found, head: str, *, min_count: int, most: int, further: tuple[str, ...]):
    """Concepts with their counts, and the labels of every pair, one pair after another."""
    stop = StopList.of(head, further)
    mentions = [
        [shown(lemma) or lemma for lemma, _ in objects]
        if head == "objects"
        else [word for lemma, said in objects if shown(lemma) for word in said]
        for _, objects in found
    ]
    now = {text: text for texts in mentions for text in texts}

    def shorter(text: str) -> str:
        return "" if head == "attributes" or text in stop.whole else text.partition(" ")[2]

    def count(form: str) -> int:
        return sum(any(now[text] == form for text in texts) for texts in mentions)

    for length in range(8, 0, -1):
        rare = {
            form
            for form in set(now.values())
            if len(form.split()) == length and count(form) < min_count
        }
        now = {text: shorter(form) if form in rare else form for text, form in now.items()}
    forms = sorted(set(now.values()) - {""}, key=lambda form: (-count(form), form))
    kept = [form for form in forms if stop.reason(form) is None][:most]
    listed = {*kept, *(form for form in forms if stop.reason(form) is not None), ""}
    for text, form in now.items():
        while form not in listed:
            form = shorter(form)
        now[text] = form
    counts = {form: count(form) for form in kept}
    order = sorted(kept, key=lambda form: (-counts[form], form))
    labels = [[form for form in order if form in {now[t] for t in texts}] for texts in mentions]
    return {form: counts[form] for form in order}, labels


@pytest.mark.parametrize(
    ("seed", "min_count", "most", "further"),
    [
        (0, 5, 99, ()),
        (1, 12, 99, ("toy",)),
        (2, 5, 7, ()),
        (3, 1, 20, ("fire truck", "big")),
        (4, 30, 2, ()),
    ],
)
def test_concepts_and_labels_equal_a_literal_count(tmp_path, seed, min_count, most, further):
    found = made_up(seed=seed, count=300)
    built = build(
        tmp_path,
        found,
        min_count=min_count,
        max_objects=most,
        max_attributes=most,
        stop=further,
    )
    labels = labels_of(tmp_path, built)
    for head in HEADS:
        counts, expected = literal(found, head, min_count=min_count, most=most, further=further)
        assert list(counted(built, head).items()) == list(counts.items())
        assert labels[head] == expected
        assert min(counts.values()) >= min_count
        numbers = built.facts.heads[head]
        parts = numbers.size + numbers.stopped + numbers.rare + numbers.beyond
        assert numbers.candidates == parts and numbers.size == len(counts) <= most
        assert numbers.labelled == sum(map(bool, expected)) / len(found)
        assert numbers.mean == sum(map(len, expected)) / len(found)
    assert built.facts.heads["objects"].beyond > 0 or most > 7


def test_examples_are_the_captions_with_the_smallest_hashes(tmp_path):
    found = made_up(seed=5, count=400) + [("x" * 300, [("hat", ["red"])])] * 40
    built = build(tmp_path, found)

    def digest(caption: str) -> bytes:
        return hashlib.blake2b(caption.encode(), digest_size=8).digest()

    labels = labels_of(tmp_path, built)
    for row in built.table.to_pylist():
        if row["index"] is None:
            assert 1 <= len(row["examples"]) <= 3
            continue
        pairs_with = zip(found, labels[row["head"]], strict=True)
        captions = {caption for (caption, _), names in pairs_with if row["concept"] in names}
        expected = [caption[:200] for caption in sorted(captions, key=digest)[:3]]
        assert row["examples"] == expected
        assert row["share"] == row["count"] / len(found)
    stopped = [row for row in built.table.to_pylist() if row["reason"]]
    assert {row["concept"] for row in stopped} >= {"photo", "new", "lot"}


def test_the_order_of_rows(tmp_path):
    rows = build(tmp_path, made_up(seed=6, count=300)).table.to_pylist()
    key = [
        (HEADS.index(row["head"]), row["reason"] is not None, -row["count"], row["concept"])
        for row in rows
    ]
    assert key == sorted(key)
    for head in HEADS:
        index = [row["index"] for row in rows if row["head"] == head and not row["reason"]]
        assert index == list(range(len(index)))


@pytest.mark.parametrize("size", [1, 7, 299, 300])
def test_batches_change_no_byte(tmp_path, size):
    found = table(made_up(seed=7, count=300))
    build(tmp_path / "whole", found, batch_size=1000)
    build(tmp_path / "parts", found, batch_size=size)
    for name in FILES:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_another_order_changes_the_order_of_labels_only(tmp_path):
    found = made_up(seed=8, count=300)
    order = np.random.default_rng(0).permutation(300)
    one = build(tmp_path / "one", found)
    other = build(tmp_path / "other", table(found).take(order), fingerprint="f1")
    assert (tmp_path / "one" / TABLE_FILE).read_bytes() == (
        tmp_path / "other" / TABLE_FILE
    ).read_bytes()
    assert one.fingerprint == other.fingerprint and one.facts.heads == other.facts.heads
    first, second = (labels_of(tmp_path / n, v) for n, v in (("one", one), ("other", other)))
    for head in HEADS:
        assert [first[head][row] for row in order] == second[head]


def test_the_fingerprint_is_that_of_the_concepts(tmp_path):
    one = build(tmp_path / "one", [*RED, *pairs("hat", times=6)])
    same = build(tmp_path / "same", [*RED, *pairs("hat", times=7)], name="b", fingerprint="f1")
    swapped = build(tmp_path / "swapped", [*RED, *pairs("hat", times=10)])
    assert one.fingerprint == same.fingerprint != swapped.fingerprint
    literally = hashlib.sha256(b'[["objects", ["wall", "hat"]], ["attributes", ["red"]]]')
    assert one.fingerprint == literally.hexdigest()


def build_counting(folder, found, **options):
    """Builds; how often the rows were gone through, too."""
    rows, times = table(found), []

    def going():
        times.append(1)
        return batches(rows, 100)()

    selection = vocabulary.SelectionFacts(
        name=options.pop("name", "clean"), fingerprint=options.pop("fingerprint", "f0")
    )
    parse, config = options.pop("parse", "rules 1"), VocabularyConfig(**options)
    built = vocabulary.build_vocabulary(
        going, folder, config=config, selection=selection, parse=parse, num_rows=len(rows)
    )
    return built, len(times)


def test_what_is_there_is_taken_if_nothing_changed(tmp_path, monkeypatch):
    found = made_up(seed=9, count=100)
    first, times = build_counting(tmp_path, found)
    assert times == 2
    again, times = build_counting(tmp_path, found)
    assert times == 0 and again.facts == first.facts and again.concepts == first.concepts
    others = [{"fingerprint": "f1"}, {"parse": "rules 2"}, {"min_count": 6}, {"stop": ("hat",)}]
    for other in [*others, {"name": "cat"}, {"max_objects": 3}, {"max_attributes": 2}]:
        built, times = build_counting(tmp_path, found, **other)
        assert times == 2 and Vocabulary.open(tmp_path).facts == built.facts != first.facts
    build_counting(tmp_path, found)
    monkeypatch.setattr(stop_words, "GROUPS", GROUPS[1:])
    built, times = build_counting(tmp_path, found)
    assert times == 2 and "photo" in built.concepts["objects"]


@pytest.mark.parametrize("part", ["find_examples", "write_labels", "write_json"])
@pytest.mark.parametrize("before", ["nothing", "another"])
def test_killed_between_files_there_is_none(tmp_path, monkeypatch, part, before):
    found = made_up(seed=10, count=100)
    if before == "another":
        build(tmp_path, found, min_count=9)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(vocabulary, part, killed)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path, found)
    if before == "another" and part == "find_examples":
        # Nothing of the other one has been touched yet.
        assert Vocabulary.open(tmp_path).facts.source.config.min_count == 9
    else:
        with pytest.raises(InputError, match=r"vocabulary.json is missing.*winnow concepts DIR"):
            Vocabulary.open(tmp_path)
    # What another one that is gone has left beside them.
    (tmp_path / partial_name(LABELS_FILE).replace(f"-{os.getpid()}-", "-4194305-")).touch()
    build(tmp_path, found)
    build(tmp_path / "undisturbed", found)
    for name in FILES:
        expected = (tmp_path / "undisturbed" / name).read_bytes()
        assert (tmp_path / name).read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(FILES)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def flip_count(path):
    column = pq.read_metadata(path).row_group(0).column(SCHEMA.get_field_index("count"))
    data = bytearray(path.read_bytes())
    # One of the last numbers: without checksums other counts would be read.
    data[column.dictionary_page_offset + column.total_compressed_size - 5] ^= 1
    path.write_bytes(data)


def swap(path):
    kept = pq.read_table(path)
    pq.write_table(kept.take([1, 0, *range(2, len(kept))]), path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (TABLE_FILE, cut),
        (TABLE_FILE, flip),
        (TABLE_FILE, flip_count),
        (TABLE_FILE, swap),
        (TABLE_FILE, lambda path: path.unlink()),
        (TABLE_FILE, lambda path: pq.write_table(pa.table({"head": ["objects"]}), path)),
        (FACTS_FILE, cut),
        (FACTS_FILE, lambda path: path.write_text("{}")),
        (FACTS_FILE, lambda path: path.write_text("[1]")),
    ],
)
def test_a_damaged_one_is_refused_and_made_again(tmp_path, name, damage):
    found = made_up(seed=11, count=200)
    build(tmp_path, found)
    whole = [(tmp_path / name).read_bytes() for name in FILES]
    damage(tmp_path / name)
    with pytest.raises(InputError, match=r"damaged.*winnow concepts DIR") as raised:
        Vocabulary.open(tmp_path)
    assert str(tmp_path) in str(raised.value)
    build(tmp_path, found)
    assert [(tmp_path / name).read_bytes() for name in FILES] == whole


def test_a_head_without_concepts_is_an_error_that_leaves_what_is_there(tmp_path):
    build(tmp_path, RED)
    there = [(tmp_path / name).read_bytes() for name in FILES]
    found = [*pairs("red+cat", "red+dog", times=4), *pairs("red+photo", times=6)]
    with pytest.raises(InputError) as raised:
        build(tmp_path, found)
    assert str(raised.value) == (
        "the selection clean has no objects in 5 pairs or more: 3 candidates, the most frequent in "
        "6 pairs, 1 frequent enough but on the stop list; lower min_count"
    )
    with pytest.raises(InputError, match="no attributes in 5 pairs or more: 0 candidates"):
        build(tmp_path, pairs("cat", times=5))
    with pytest.raises(InputError, match="no objects in 5 pairs or more: 0 candidates"):
        build(tmp_path, COLUMNS.empty_table())
    assert [(tmp_path / name).read_bytes() for name in FILES] == there


def test_other_rows_than_the_selection_has_are_refused(tmp_path):
    rows = table(RED)
    sizes = iter([len(rows), len(rows) - 1, len(rows), len(rows) + 1])

    def shrinking():
        return batches(pa.concat_tables([rows, rows]).slice(0, next(sizes)), 4)()

    def make(num_rows):
        vocabulary.build_vocabulary(
            shrinking,
            tmp_path,
            config=VocabularyConfig(),
            selection=vocabulary.SelectionFacts(name="clean", fingerprint="f0"),
            parse="rules 1",
            num_rows=num_rows,
        )

    with pytest.raises(InputError, match="has 9 pairs, but 8 parsed captions came"):
        make(9)
    with pytest.raises(InputError, match="has 9 pairs, but 10 parsed captions came"):
        make(9)
    sizes = iter([8])
    with pytest.raises(InputError, match="has 9 pairs, but 8 parsed captions came"):
        make(9)
    assert not (tmp_path / FACTS_FILE).exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_count", 0),
        ("max_objects", 0),
        ("max_objects", 65_537),
        ("max_attributes", 65_537),
        ("stop", ("cat", " ")),
    ],
)
def test_a_configuration_is_checked(field, value):
    with pytest.raises(InputError, match=rf"VocabularyConfig\({field}="):
        VocabularyConfig(**{field: value})


def test_the_facts_in_the_json(tmp_path):
    build(tmp_path, [*RED, *pairs("hat, red+cap", times=6), *pairs("", times=5)], parse="p 1")
    facts = json.loads((tmp_path / FACTS_FILE).read_text())
    assert facts["source"]["selection"] == {"name": "clean", "fingerprint": "f0"}
    assert facts["source"]["parse"] == "p 1" and facts["source"]["num_pairs"] == 20
    assert facts["source"]["config"]["min_count"] == 5
    assert facts["heads"]["objects"] == {
        "size": 3,
        "candidates": 3,
        "rare": 0,
        "beyond": 0,
        "stopped": 0,
        "labelled": 0.75,
        "mean": 1.05,
    }


def read(captions: list[str]) -> pa.Table:
    """What the parser says of captions."""
    rows = pa.RecordBatch.from_pylist([{"caption": caption} for caption in captions])
    parsed = ParseCaptions().open()(rows, [])
    uids, hashes = ([f"{n:0{width}x}" for n in range(len(captions))] for width in (32, 64))
    return pa.table([uids, hashes, captions, parsed["objects"]], schema=COLUMNS)


def test_captions_of_the_parser(tmp_path):
    captions = [
        "An old fire truck is parked in front of a red brick house",
        "A red fire truck drives past two houses",
        "Snow-covered houses and a fire truck, stock photo",
        "The house is white, the fire truck is red",
        "A white cat sleeps on the old house",
    ]
    found = read(captions)
    built = build(tmp_path, found, min_count=2)
    assert counted(built, "objects") == {"house": 5, "fire truck": 4}
    assert counted(built, "attributes") == {"red": 3, "old": 2, "white": 2}
    assert labels_of(tmp_path, built)["attributes"] == [
        ["red", "old"],
        ["red"],
        [],
        ["red", "white"],
        ["old", "white"],
    ]
    everything = build(tmp_path / "all", found, min_count=1)
    assert "brick house" in everything.concepts["objects"]
    assert "snow-covered" in everything.concepts["attributes"]
    assert [row["concept"] for row in everything.table.to_pylist() if row["reason"]] == [
        "stock photo"
    ]


def test_pictures_of_pictures_by_the_parser(tmp_path):
    captions = [
        "Turtle drawing on a wooden table",
        "A red turtle drawing",
        "flag icon",
        "Old stock photo of a red barn",
        "flat icon",
        "An old photo of a white fire truck",
    ]
    built = build(tmp_path, read(captions), min_count=1)
    assert labels_of(tmp_path, built) == {
        "objects": [["turtle", "table"], ["turtle"], ["flag"], ["barn"], [], ["fire truck"]],
        "attributes": [["wooden"], ["red"], [], ["red"], [], ["white"]],
    }
