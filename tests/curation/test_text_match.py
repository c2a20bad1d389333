"""Shared runs and near matches against their literal definition, and what they mean for people."""

import random
import unicodedata

import pytest

from winnow.curation.text_match import (
    MAX_CAPTION,
    STOP_WORDS,
    Match,
    comparable,
    count_letters,
    longest_shared_run,
    nearest_run,
)


def shared(caption, *lines, least_run=5, shortest=5):
    return longest_shared_run(caption, lines, least_run=least_run, shortest=shortest)


def spans(text):
    """All (start, stop) that begin and end with a letter."""
    return [
        (start, stop)
        for start in range(len(text))
        for stop in range(start + 1, len(text) + 1)
        if text[start] != " " and text[stop - 1] != " "
    ]


def holds_a_word(text, start, stop, least_run):
    at = 0
    for word in text.split(" "):
        inside = len([i for i in range(at, at + len(word)) if start <= i < stop])
        if inside and word not in STOP_WORDS and (inside == len(word) or inside >= least_run):
            return True
        at += len(word) + 1
    return False


def oracle_longest(caption, lines, least_run):
    """Letters of the longest shared run that counts: every stretch with every other."""
    longest = 0
    for line in lines:
        for start, stop in spans(caption):
            for seen_start, seen_stop in spans(line):
                if (
                    caption[start:stop] == line[seen_start:seen_stop]
                    and holds_a_word(caption, start, stop, least_run)
                    and holds_a_word(line, seen_start, seen_stop, least_run)
                ):
                    longest = max(longest, count_letters(caption[start:stop]))
    return longest


def oracle_nearest(caption, line, least_run):
    """Letters of the longest near match: every two stretches with every edit between them."""
    longest = 0
    for start, stop in spans(caption):
        for seen_start, seen_stop in spans(line):
            one, other = caption[start:stop], line[seen_start:seen_stop]
            if not -1 <= len(one) - len(other) <= 1:
                continue
            for cut in range(1, min(len(one), len(other))):
                for skip, seen_skip in ((1, 1), (1, 0), (0, 1)):
                    tail = one[cut + skip :]
                    letters = count_letters(one[:cut]), count_letters(tail)
                    if (
                        one[:cut] == other[:cut]
                        and tail == other[cut + seen_skip :]
                        and all(letters)
                        and sum(letters) >= least_run
                        and holds_a_word(caption, start, stop, least_run)
                        and holds_a_word(line, seen_start, seen_stop, least_run)
                    ):
                        longest = max(longest, sum(letters))
    return longest


def texts(random_numbers, count, longest, words):
    """Made of few words, so that they share runs often."""
    made = []
    for _ in range(count):
        text = "".join(
            random_numbers.choice(words) + random_numbers.choice([" ", " ", ""])
            for _ in range(random_numbers.randint(0, longest))
        )
        made.append(text.strip())
    return made


WORDS = ("the", "for", "sale", "sales", "a", "b", "ab", "summer", "over", "there")


@pytest.mark.parametrize("seed", range(60))
def test_the_longest_shared_run_is_the_oracle_s(seed):
    numbers = random.Random(seed)
    least_run = numbers.choice([3, 5, 7])
    (caption,) = texts(numbers, 1, 6, WORDS)
    lines = texts(numbers, 3, 4, WORDS)
    match = shared(caption, *lines, least_run=least_run, shortest=1)
    expected = oracle_longest(caption, lines, least_run)
    assert (match.letters if match else 0) == expected
    if match:
        assert caption[match.start : match.stop] == match.run == match.seen
        assert match.run in lines[match.line]
        assert count_letters(match.run) == expected
    longer = shared(caption, *lines, least_run=least_run, shortest=least_run)
    assert (longer is not None) == (expected >= least_run)


def misread(seed):
    """A short caption, and a line that has part of it with one or two edits."""
    numbers = random.Random(1000 + seed)
    (caption,) = texts(numbers, 1, 3, ("abc", "cda", "the", "red", "xyzab"))
    start = numbers.randint(0, len(caption) // 3)
    line = caption[start : start + numbers.randint(4, 12)]
    for _ in range(numbers.randint(1, 2)):  # may undo each other
        at = numbers.randint(0, len(line))
        line = line[:at] + numbers.choice(["a", "q", " ", "", "qa"]) + line[at + 1 :]
    return caption, comparable(line)


@pytest.mark.parametrize("seed", range(150))
def test_the_nearest_run_is_the_oracle_s(seed):
    caption, line = misread(seed)
    if shared(caption, line) is not None:
        return
    near = nearest_run(caption, [line], least_run=5)
    assert (near.letters if near else 0) == oracle_nearest(caption, line, 5)
    if near:
        assert caption[near.start : near.stop] == near.run
        assert near.seen in line
        assert near.run != near.seen


def test_the_near_oracle_is_not_idle():
    """Otherwise the test above could pass on nothing."""
    cases = [misread(seed) for seed in range(150)]
    open_ones = [case for case in cases if shared(*case) is None]
    assert sum(oracle_nearest(*case, 5) > 0 for case in open_ones) > 10
    assert sum(oracle_nearest(*case, 5) == 0 for case in open_ones) > 10


@pytest.mark.parametrize(
    ("caption", "line", "run"),
    [
        ("Big SUMMER sale!", "Summer Sale", "summer sale"),
        ("a photograph", "infographics", "ograph"),
        ("an old photograph", "PHOTOGRAPHIC", "photograph"),
        ("a photograph", "graphic", "graph"),
        ("the cat is asleep", "a cat is", "cat is"),
        ("the cat is asleep", "bobcat is", None),  # holds three letters of bobcat
        ("for the love of it", "FOR THE PEOPLE", None),
        ("shoes for the kids", "dogs for the win", None),
        ("therefore", "there is", None),  # in the picture it is a stop word
        ("there is", "therefore", None),
        ("sale now", "SALE", None),  # four letters
        ("sale now on", "sale now", "sale now"),  # seven, spaces not counted
        ("open in 2024", "in 2024", "in 2024"),
        ("call 555-1234 today", "5551234", "5551234"),
        ("don't panic", "DONT PANIC", "dont panic"),
        ("", "summer", None),
        ("summer", "", None),
        ("", "", None),
    ],
)
def test_what_counts(caption, line, run):
    match = shared(caption, line)
    assert (match.run if match else None) == run


def test_a_run_ends_with_its_line():
    assert shared("summer", "sum", "mer") is None
    assert shared("summer", "sum mer") is None
    assert shared("summer sale", "sum", "summer sale", "summer").line == 1


def test_the_longest_wins_and_the_first_of_equals():
    assert shared("red apple, green apple", "apple", "green apple").run == "green apple"
    match = shared("red apple and an apple", "pear", "apple", "apple")
    assert (match.line, match.start) == (1, 4)


@pytest.mark.parametrize(
    ("caption", "line", "marked"),
    [
        ("  Big,  SUMMER —\tSale! ", "summer sale", "SUMMER —\tSale"),
        ("Ｆｕｌｌ width", "full width", "Ｆｕｌｌ width"),
        ("the ﬁnest oﬃce", "finest office", "ﬁnest oﬃce"),
        ("cafe\u0301 noir", "CAFÉ NOIR", "cafe\u0301 noir"),
        ("STRASSE", "Straße", "STRASSE"),
        ("❤️ red rose", "red rose", "red rose"),
        ("北京欢迎你的到来", "欢迎你的到", "欢迎你的到"),
        ("北京 Summer Sale 开始", "summer sale", "Summer Sale"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af abcde", "한글 abcde", None),
    ],
)
def test_the_place_in_the_caption_as_it_was_given(caption, line, marked):
    match = shared(caption, line)
    assert caption[match.start : match.stop] == (caption if marked is None else marked)


def test_han_characters_count_like_letters():
    assert shared("新年快乐大家好", "新年快乐") is None
    assert shared("新年快乐大家好", "新年快乐", least_run=4, shortest=4).run == "新年快乐"


@pytest.mark.parametrize("text", ["Black & White", "a_b", "\x1c x\u2028 y", "İstanbul", "ﬁ\u0301"])
def test_comparable_twice_is_comparable_once(text):
    once = comparable(text)
    assert comparable(once) == once
    assert all(c.isalnum() or c == " " for c in once)
    assert once == once.strip()
    assert "  " not in once


def test_both_ways_of_making_text_comparable_agree():
    """ASCII takes a short cut; one foreign letter at the end takes the other way."""
    for seed in range(50):
        numbers = random.Random(seed)
        text = "".join(chr(numbers.randint(0, 127)) for _ in range(60)) + " "
        assert f"{comparable(text)} é".strip() == comparable(text + "é")


def test_normalising_piece_by_piece_is_normalising_the_whole():
    text = "e\u0301 \u1112\u1161\u11ab ﬁ Å ｶﾞ 한 i\u0307"
    whole = unicodedata.normalize("NFKC", text).casefold()
    expected = " ".join("".join(c for c in whole if c.isalnum() or c == " ").split())
    assert comparable(text) == expected


@pytest.mark.parametrize(
    ("caption", "line", "seen"),
    [
        ("summer sale", "SUNMER SALE", "sunmer sale"),  # another letter
        ("summer sale", "sumer sale", "sumer sale"),  # one lost
        ("summer sale", "summmer", "summmer"),  # one too many
        ("big red sale", "BIGRED", "bigred"),  # the space lost
        ("xyzab cda", "aab cdaa", "aab cda"),  # one doubled: now a word of the line is whole
        ("tulip", "tu1ip", None),  # four letters are shared
        ("water", "later", None),  # the edit is at the end of it, so four are shared
        ("over there", "over thare", None),  # no word but stop words
    ],
)
def test_near_matches(caption, line, seen):
    near = nearest_run(caption, [line], least_run=5)
    assert (near.seen if near else None) == seen


def test_a_near_match_says_where():
    near = nearest_run("The Summer  Sale!", ["nothing", "SUNMER SALE"], least_run=5)
    assert near == Match("summer sale", "sunmer sale", 9, 4, 16, 1)


def test_a_caption_of_a_megabyte_is_compared_where_it_begins():
    assert shared("a" * 1_000_000, *["a" * 100] * 20).letters == 100
    assert shared(" " * MAX_CAPTION + "summer", "summer") is None
