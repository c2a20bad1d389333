"""Recipes: the only place where concrete parts meet. A recipe is a function with typed fields."""
