"""Towers that train in milliseconds."""

from winnow.models import CustomTowers, TextTransformer, VisionTransformer

SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=16, patch_size=8, width=32, head_width=16, layers=1),
    text=TextTransformer(context_length=8, width=32, heads=2, layers=1),
)
