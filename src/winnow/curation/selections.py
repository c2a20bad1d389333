"""The selections that come with the package: plain functions that return rules, in order.

The order decides which reason counts as the first, and which rows later rules see as the corpus.
Another selection is another tuple: `(*basic(), MyRule())`.
"""

from winnow.curation.rules.caption_file_name import CaptionFileName
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.rules.caption_letters import CaptionLetters
from winnow.curation.rules.caption_markup import CaptionMarkup
from winnow.curation.rules.caption_placeholder import CaptionPlaceholder
from winnow.curation.rules.caption_repeated import CaptionRepeated
from winnow.curation.rules.caption_url import CaptionUrl
from winnow.curation.rules.duplicates import DuplicatePair, DuplicatePicture
from winnow.curation.rules.picture_aspect import PictureAspect
from winnow.curation.rules.picture_size import PictureSize
from winnow.curation.rules.rule import Rule


def none() -> tuple[Rule, ...]:
    """No rule: every readable pair is kept."""
    return ()


def basic() -> tuple[Rule, ...]:
    """What is wrong in any language and needs no model: junk captions, boilerplate, copies."""
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
