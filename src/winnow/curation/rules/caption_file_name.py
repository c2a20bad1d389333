"""Captions that are the name of a file: what a page shows when nobody wrote an alt text."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Rule, reason_where

_EXTENSION = (
    r"(?i)^\S+(?: ?\([0-9]+\))?"
    r"\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|avif|heic|ico|psd|eps|raw|mp4|mov|pdf)$"
)
# Four free capitals and four digits: JEITA CP-3461 (DCF), which cameras have followed since 1998.
_CAMERA = r"^[A-Z0-9_]{4}[0-9]{4}(?:[ _(-][0-9x()_ -]*)?$"
_PHONE = (
    r"(?i)^(?:img|image|pic|picture|photo|foto|dsc[nf]?|pxl|vid|mvi|dji|gopr|wp|screen ?shot|"
    r"screenshot|whatsapp image|snapchat|fb_img|received|scan|untitled)"
    r"[ _-]*[0-9]{3,}[0-9 _.:()at-]*(?:[ap]m)?$"
)
_HASH = r"(?i)^(?:[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:_[a-z0-9]+)?$"


@dataclass(frozen=True, kw_only=True)
class CaptionFileName(Rule):
    """Drops captions that are nothing but a file name, with or without its extension.

    One word with a picture's extension, what cameras and phones call their files, or a hash.
    "Sunset over the lake.jpg" has words of its own and stays.
    """

    codes: ClassVar[tuple[str, ...]] = ("caption-file-name",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        captions = pc.utf8_trim_whitespace(rows["caption"])
        is_name = pc.match_substring_regex(captions, _EXTENSION)
        for pattern in (_CAMERA, _PHONE, _HASH):
            is_name = pc.or_(is_name, pc.match_substring_regex(captions, pattern))
        return reason_where(is_name, "caption-file-name")
