"""What is compared: the objectives of the training recipes, each as a change to a common recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from winnow.objectives import ConceptDistillation
from winnow.recipes import training
from winnow.recipes.ablations.changes import Fields, with_fields
from winnow.recipes.ablations.names import refuse_odd_name
from winnow.training.recipe import Objective, Recipe


@dataclass(frozen=True, kw_only=True)
class Method:
    """What one side of a comparison does otherwise; all else is the study's base recipe."""

    name: str
    """In file names and tables: letters, digits, `_`, `-`, `.` and `+`."""
    objective: Objective
    """The rule."""
    concept_distillation: ConceptDistillation | None = None
    """Heads that learn a teacher's concepts, whose targets the study makes."""
    fields: Fields = field(default_factory=dict)
    """Further fields of the recipe by dotted name, such as `{"teacher": "average"}`."""

    def __post_init__(self) -> None:
        refuse_odd_name("method", self.name)

    def of(self, base: Recipe) -> Recipe:
        """The base recipe by this method."""
        recipe = replace(
            base, objective=self.objective, concept_distillation=self.concept_distillation
        )
        return with_fields(recipe, self.fields, where=f"the method {self.name!r}")


def _of(name: str, recipe: Recipe) -> Method:
    return Method(
        name=name,
        objective=recipe.objective,
        concept_distillation=recipe.concept_distillation,
    )


METHODS: Mapping[str, Method] = {
    "clip": _of("clip", training.clip()),
    "psd": _of("psd", training.psd()),
    "hn_nce": _of("hn_nce", training.hn_nce()),
    "hn_psd": _of("hn_psd", training.hn_psd()),
    "cd": Method(
        name="cd",
        objective=training.clip().objective,
        concept_distillation=training.diht().concept_distillation,
    ),
    "diht": _of("diht", training.diht()),
    "diht_psd": _of("diht_psd", training.diht_psd()),
}
"""By name: the training recipes' objectives, and concept distillation by itself."""
