import math
import pickle

import pytest
from curation_samples import caption_verdicts, ledger_rows, verdicts

from winnow.curation.corpus import Corpus
from winnow.curation.rules.action import HasAction
from winnow.curation.rules.caption_file_name import CaptionFileName
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.rules.caption_letters import CaptionLetters
from winnow.curation.rules.caption_markup import CaptionMarkup
from winnow.curation.rules.caption_placeholder import CaptionPlaceholder
from winnow.curation.rules.caption_repeated import CaptionRepeated
from winnow.curation.rules.caption_url import CaptionUrl
from winnow.curation.rules.complexity import Complexity
from winnow.curation.rules.duplicates import DuplicatePair, DuplicatePicture
from winnow.curation.rules.language import Language
from winnow.curation.rules.picture_aspect import PictureAspect
from winnow.curation.rules.picture_size import PictureSize
from winnow.curation.rules.text_spotting import TextSpotting
from winnow.curation.selections import basic, clean
from winnow.types import InputError

GOOD_CAPTIONS = (
    "red apple",
    "fox",
    "猫の写真",
    "кошка на окне",
    "घर",
    "Black &amp; white cat",
    "<PERSON> at the beach <3",
    "Sunset over the lake.jpg",
    "iPhone 12, 64 GB, 2020",
    "EURO2020 final in London",
    "Red apple - www.example.com/a-long-address/of-one-word/0123456789",
    "Logo of a bakery",
    "No smoking",
    "camera with flash",
)


@pytest.mark.parametrize(
    "rule",
    [
        CaptionFileName(),
        CaptionLetters(),
        CaptionMarkup(),
        CaptionPlaceholder(),
        CaptionUrl(),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_captions_worth_keeping_are_kept(rule):
    assert caption_verdicts(rule, *GOOD_CAPTIONS) == [None] * len(GOOD_CAPTIONS)


def test_caption_length_counts_words_and_characters_after_trimming():
    rule = CaptionLength(min_words=2, min_characters=6, max_words=4)
    assert caption_verdicts(rule, "red apple", "  a b  ", "apples", "a b c d e", "", "a b c d") == [
        None,
        "caption-too-short",
        "caption-too-short",
        "caption-too-long",
        "caption-too-short",
        None,
    ]


def test_caption_length_by_default_keeps_class_names():
    assert caption_verdicts(CaptionLength(), "fox", "red apple", "ab", "word " * 257) == [
        None,
        None,
        "caption-too-short",
        "caption-too-long",
    ]


@pytest.mark.parametrize(
    "caption", ["12345", "2020-10-13 12:40 h", "...", "", " ", "€ 12,99", "❤❤❤"]
)
def test_captions_without_words_are_dropped(caption):
    assert caption_verdicts(CaptionLetters(), caption) == ["caption-not-words"]


@pytest.mark.parametrize(
    "caption",
    [
        "IMG_2041.JPG",
        "img_2041",
        "DSC_0001",
        "DSCN0012 (2)",
        "DSC01234.JPG",
        "P1010001",
        "PXL_20210401_123456",
        "image (12).jpg",
        "red-apple.png",
        "untitled-3.webp",
        "screenshot_2013-05-12.png",
        "Screen Shot 2020-01-01 at 10.10.10 AM",
        "WhatsApp Image 2021-02-03 at 17.05.44",
        "d41d8cd98f00b204e9800998ecf8427e",
        "d41d8cd98f00b204e9800998ecf8427e_n",
        "123e4567-e89b-12d3-a456-426614174000",
    ],
)
def test_file_names_are_dropped(caption):
    assert caption_verdicts(CaptionFileName(), caption) == ["caption-file-name"]


@pytest.mark.parametrize(
    "caption",
    [
        "https://example.com/a.html",
        "www.example.com",
        "example.com",
        "Example.com home",
        "mail@example.org",
        "see http://example.com/x?y=1&z=2",
    ],
)
def test_addresses_are_dropped(caption):
    assert caption_verdicts(CaptionUrl(), caption) == ["caption-url"]


def test_share_of_addresses_is_a_threshold():
    caption = "a red apple example.com"
    assert caption_verdicts(CaptionUrl(least_share=0.25), caption) == ["caption-url"]
    assert caption_verdicts(CaptionUrl(least_share=0.26), caption) == [None]


@pytest.mark.parametrize(
    "caption",
    [
        "a <b>red</b> apple",
        '<img src="a.png">',
        "apple<br/>",
        "{{ product.title }}",
        "[caption id=12]apple[/caption]",
        "red&nbsp;apple",
        "<!-- apple -->",
        "document.write(apple)",
    ],
)
def test_markup_is_dropped(caption):
    assert caption_verdicts(CaptionMarkup(), caption) == ["caption-markup"]


@pytest.mark.parametrize(
    "caption",
    [
        "image",
        "Image #12.",
        "UNTITLED-3",
        "logo",
        "(photo)",
        "n/a",
        "OLYMPUS DIGITAL CAMERA",
        "SONY DSC",
        "Click to  enlarge!",
        "No_image_available",
    ],
)
def test_placeholders_are_dropped(caption):
    assert caption_verdicts(CaptionPlaceholder(), caption) == ["caption-placeholder"]


def test_placeholder_phrases_are_a_threshold():
    rule = CaptionPlaceholder(phrases=("no smoking",))
    assert caption_verdicts(rule, "No smoking", "image") == ["caption-placeholder", None]


def test_boilerplate_needs_distinct_pictures():
    rule = CaptionRepeated(max_pictures=2)
    same_picture = [{"caption": "a red apple", "picture": "one"}] * 3
    others = [
        {"caption": caption} for caption in ("Buy now", "buy  NOW", "buy now", "a cat", "a cat")
    ]
    reason = "caption-repeated: over 3 pictures"
    assert verdicts(rule, *same_picture, *others) == [None] * 3 + [reason] * 3 + [None] * 2


def test_small_pictures_are_dropped_by_their_shorter_side():
    rule = PictureSize(min_side=32)
    samples = ({"width": w, "height": h} for w, h in ((32, 32), (31, 400), (400, 31), (640, 32)))
    assert verdicts(rule, *samples) == [None, "picture-too-small", "picture-too-small", None]


def test_narrow_pictures_are_dropped_either_way_round():
    sides = ((300, 100), (301, 100), (100, 301), (100, 300))
    samples = ({"width": w, "height": h} for w, h in sides)
    assert verdicts(PictureAspect(max_ratio=3.0), *samples) == [
        None,
        "picture-too-narrow",
        "picture-too-narrow",
        None,
    ]


def test_duplicates_keep_the_first_and_name_it():
    samples = (
        {"picture": "one", "caption": "a cat"},
        {"picture": "two", "caption": "a cat"},
        {"picture": "one", "caption": "A  cat"},
        {"picture": "one", "caption": "a dog"},
        {"picture": "one", "caption": "a dog"},
    )
    uids = ledger_rows(*samples)["uid"].to_pylist()
    pair, same_picture = "duplicate-pair: of row", "duplicate-picture: of row"
    assert verdicts(DuplicatePair(), *samples) == [
        None,
        None,
        f"{pair} 0 of 00000, uid {uids[0]}",
        None,
        f"{pair} 3 of 00000, uid {uids[3]}",
    ]
    assert verdicts(DuplicatePicture(), *samples) == [
        None,
        None,
        *[f"{same_picture} 0 of 00000, uid {uids[0]}"] * 3,
    ]


def test_duplicates_name_the_uid_of_a_row_in_another_shard_and_survive_being_sent():
    shards = [
        ledger_rows({"picture": "one"}, {"picture": "two"}),
        ledger_rows(number=1),
        ledger_rows({"picture": "three"}, {"picture": "two"}, number=2),
    ]
    corpus, rule = Corpus(lambda: shards), DuplicatePicture()
    expected = f"duplicate-picture: of row 1 of 00000, uid {shards[0]['uid'][1]}"
    for _ in range(2):
        reasons = [reason for rows in shards for reason in rule.verdicts(rows, corpus).to_pylist()]
        assert reasons == [None, None, None, expected]
        rule = pickle.loads(pickle.dumps(rule))  # noqa: S301
        assert rule == DuplicatePicture()


def test_the_ceiling_of_words_can_be_taken_away_and_datacomp_s_filter_has_none():
    caption = "word " * 300
    assert caption_verdicts(CaptionLength(), caption) == ["caption-too-long"]
    assert caption_verdicts(CaptionLength(max_words=None), caption, "a") == [
        None,
        "caption-too-short",
    ]
    (length,) = (rule for rule in basic() if isinstance(rule, CaptionLength))
    assert caption_verdicts(length, caption) == [None]


@pytest.mark.parametrize(
    ("kind", "field", "values", "wanted"),
    [
        (PictureSize, "min_side", (-1,), "0 or more"),
        (PictureAspect, "max_ratio", (0.9, math.nan, math.inf), "1 or more"),
        (CaptionLength, "min_words", (-1,), "0 or more"),
        (CaptionLength, "min_characters", (-1,), "0 or more"),
        (CaptionLength, "max_words", (0,), "1 or more"),
        (CaptionLetters, "min_share", (-0.1, 1.1, math.nan), "a number from 0 to 1"),
        (CaptionUrl, "least_share", (-0.1, 50, math.nan), "a number from 0 to 1"),
        (CaptionRepeated, "max_pictures", (0,), "1 or more"),
        (Language, "least", (-0.5, 80), "a number from 0 to 1"),
        (Complexity, "least", (-1,), "0 or more"),
        (HasAction, "least", (-1,), "0 or more"),
        (TextSpotting, "confidence", (-0.1, 80), "a number from 0 to 1"),
        (TextSpotting, "least_run", (0,), "1 or more"),
    ],
)
def test_thresholds_without_a_meaning_are_refused(kind, field, values, wanted):
    for value in values:
        with pytest.raises(InputError, match=rf"{kind.__name__}\({field}={value}\): give {wanted}"):
            kind(**{field: value})


def test_no_phrase_at_all_drops_nothing():
    assert caption_verdicts(CaptionPlaceholder(phrases=()), "image") == [None]


HOSTILE_CAPTIONS = (
    "\0",
    "word " * 200_000,
    "(" * 10_000,
    "<a " * 10_000,
    "a." * 10_000 + "com",
    "\u202eevil \u200d\u0301\ufdfa",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u3000\u00a0\u2003",
)


@pytest.mark.parametrize("rule", clean(), ids=lambda rule: type(rule).__name__)
def test_rules_judge_whatever_they_are_given_and_by_codes_they_declare(rule):
    samples = [{"caption": caption} for caption in (*HOSTILE_CAPTIONS, *GOOD_CAPTIONS)]
    reasons = verdicts(rule, *samples)
    assert len(reasons) == len(samples)
    assert {reason.partition(":")[0] for reason in reasons if reason} <= set(rule.codes)
    assert verdicts(rule) == []
