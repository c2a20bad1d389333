"""Models: open_clip's towers, built, trained and exported."""

from winnow.models.architecture import (
    CustomTowers,
    NamedTowers,
    TextTransformer,
    TimmImageTower,
    VisionTransformer,
)

__all__ = [
    "CustomTowers",
    "NamedTowers",
    "TextTransformer",
    "TimmImageTower",
    "VisionTransformer",
]
