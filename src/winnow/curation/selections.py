"""The selections that come with the package: plain functions that return rules, in order.

The order decides which reason counts as the first, which rows later rules see as the corpus, and
which rows an annotator looks at. Another selection is another tuple: `(*clean(), MyRule())`.
"""

from collections.abc import Callable

from winnow.curation.rules.action import HasAction
from winnow.curation.rules.caption_english import CaptionEnglish
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
from winnow.curation.rules.rule import Rule
from winnow.curation.rules.text_spotting import TextSpotting


def none() -> tuple[Rule, ...]:
    """No rule: every readable pair is kept."""
    return ()


def clean() -> tuple[Rule, ...]:
    """What is wrong in any language and needs no model: junk captions, boilerplate, copies.

    Not `near-duplicate`, which finds copies of photographs and as surely drawings of one family.
    """
    return (
        PictureSize(),
        PictureAspect(),
        CaptionLength(),
        CaptionFileName(),
        CaptionLetters(),
        CaptionUrl(),
        CaptionMarkup(),
        CaptionPlaceholder(),
        CaptionRepeated(),
        DuplicatePair(),
        DuplicatePicture(),
    )


def basic() -> tuple[Rule, ...]:
    """DataComp's basic filter (Gadre et al., arXiv 2304.14108): English, length, size, aspect.

    More than 2 words and 5 characters, a shorter side of 200 pixels or more, at most 3 to 1. Sides
    are those of the pictures as they are stored; DataComp took the `original_width` and
    `original_height` of the download, before it made larger ones smaller.
    """
    return (
        CaptionLength(min_words=3, min_characters=6, max_words=None),
        PictureSize(min_side=200),
        PictureAspect(max_ratio=3.0),
        Language(least=0.0),  # the likeliest language, however likely
    )


def cat() -> tuple[Rule, ...]:
    """CAT (Radenovic et al., DiHT, arXiv 2301.02280, section 3.1): complexity, action, text.

    For English captions, as in the paper; what is not English is dropped by a code of its own. The
    paper's pool had lost unsafe, watermarked and toxic pairs before: give such scores, and
    rules on them, where you have them.
    """
    return (CaptionEnglish(), Complexity(), HasAction(), TextSpotting())


SELECTIONS: dict[str, Callable[[], tuple[Rule, ...]]] = {
    "none": none,
    "clean": clean,
    "basic": basic,
    "cat": cat,
}
"""By the name that the command line knows."""
