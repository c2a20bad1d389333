"""Captions that software put where a caption belongs."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.captions import bare
from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Rule, reason_where

_PAGES = (
    *("image", "images", "img", "picture", "pictures", "pic", "photo", "photos", "photograph"),
    *("untitled", "no title", "title", "caption", "no caption", "description", "alt", "alt text"),
    *("thumbnail", "thumb", "preview", "placeholder", "default", "default image", "banner"),
    *("featured image", "product image", "main image", "cover image", "header image", "slide"),
    *("logo", "icon", "avatar", "profile picture", "profile photo", "user avatar", "screenshot"),
    *("no image", "no photo", "image not available", "no image available", "image not found"),
    *("image coming soon", "photo coming soon", "broken image", "missing image", "loading"),
    *("click to enlarge", "click to zoom", "click for larger image", "view larger image", "zoom"),
    *("enlarge", "next", "previous", "close", "null", "none", "undefined", "nan", "n a", "unknown"),
)
# What cameras and phones write into a file's description, and content systems take for a caption.
_CAMERAS = (
    *("olympus digital camera", "konica minolta digital camera", "minolta digital camera"),
    *("kodak digital still camera", "samsung digital camera", "samsung camera pictures"),
    *("sony dsc", "digital camera", "exif jpeg picture", "exif jpeg", "exif jpeg t", "dcim"),
    *("processed with vsco", "made with gimp", "created with gimp", "default alt text"),
)


@dataclass(frozen=True, kw_only=True)
class CaptionPlaceholder(Rule):
    """Drops captions that are, as a whole, one of the phrases a page or camera fills in itself.

    "Image #12" and "UNTITLED-3.": digits and punctuation around are ignored. "Logo of a bakery"
    stays.
    """

    codes: ClassVar[tuple[str, ...]] = ("caption-placeholder",)

    phrases: tuple[str, ...] = _PAGES + _CAMERAS
    """In lower case, words separated by single spaces, no punctuation."""

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        is_phrase = pc.is_in(bare(rows["caption"]), value_set=pa.array(self.phrases, pa.string()))
        return reason_where(is_phrase, "caption-placeholder")
