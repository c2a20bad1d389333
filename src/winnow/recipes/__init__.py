"""Recipes: the only place where concrete parts meet. A recipe is a function with a typed result.

A new one is a function here and a line in `RECIPES`; `winnow train NAME` finds it there.
"""

from winnow.recipes.training import clip, hn_nce, psd, tiny

RECIPES = {"tiny": tiny, "clip": clip, "psd": psd, "hn_nce": hn_nce}
"""The training recipes by the name that the command line knows."""

__all__ = ["RECIPES", "clip", "hn_nce", "psd", "tiny"]
