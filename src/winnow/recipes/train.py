"""What `winnow train` takes: a recipe, and where its data and its run are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from winnow.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a recipe; run again, it goes on where it was."""

    data: str
    """A selection, a curated folder that holds one, or raw shards (indexed first)."""
    out: Path
    """The run's folder: recipe, metrics, checkpoints, and in the end model/."""
    concepts: Path | None = None
    """A teacher's concepts for a recipe that distils them: the folder that `winnow concepts` named;
    default: the selection's, where there is one teacher's."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")]

    @classmethod
    def of(cls, recipe: Recipe) -> "Train":
        """With the recipe's fields as defaults, and the paths still to be given."""
        return cls(data=tyro.MISSING, out=tyro.MISSING, recipe=recipe)
