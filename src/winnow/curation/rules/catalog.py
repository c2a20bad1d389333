"""All rules, by class: what the command line and json files can name."""

from winnow.curation.rules.action import HasAction
from winnow.curation.rules.audit import Audit
from winnow.curation.rules.caption_duplicate import CaptionDuplicate
from winnow.curation.rules.caption_english import CaptionEnglish
from winnow.curation.rules.caption_file_name import CaptionFileName
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.rules.caption_letters import CaptionLetters
from winnow.curation.rules.caption_markup import CaptionMarkup
from winnow.curation.rules.caption_placeholder import CaptionPlaceholder
from winnow.curation.rules.caption_repeated import CaptionRepeated
from winnow.curation.rules.caption_url import CaptionUrl
from winnow.curation.rules.complexity import Complexity
from winnow.curation.rules.contaminated import Contaminated
from winnow.curation.rules.duplicates import DuplicatePair, DuplicatePicture
from winnow.curation.rules.exclude import Exclude
from winnow.curation.rules.in_subset import InSubset
from winnow.curation.rules.language import Language
from winnow.curation.rules.near_duplicate import NearDuplicate
from winnow.curation.rules.picture_aspect import PictureAspect
from winnow.curation.rules.picture_size import PictureSize
from winnow.curation.rules.rule import Rule
from winnow.curation.rules.score import Score
from winnow.curation.rules.text_spotting import TextSpotting
from winnow.curation.rules.top_fraction import TopFraction

RULES: tuple[type[Rule], ...] = (
    PictureSize,
    PictureAspect,
    CaptionLength,
    CaptionFileName,
    CaptionLetters,
    CaptionUrl,
    CaptionMarkup,
    CaptionPlaceholder,
    CaptionRepeated,
    DuplicatePair,
    DuplicatePicture,
    NearDuplicate,
    CaptionDuplicate,
    Contaminated,
    Exclude,
    InSubset,
    Language,
    CaptionEnglish,
    Complexity,
    HasAction,
    TextSpotting,
    Score,
    TopFraction,
    Audit,
)
