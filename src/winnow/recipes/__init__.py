"""Recipes: the only place where concrete parts meet. A recipe is a function with a typed result.

Nothing is imported here: `winnow curate` needs no torch.
"""
