"""The study of the icons: every cell and trial of it is a recipe, before hours of training."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "icons"))

import study as icons_study

from winnow.curation.rule_specs import read_rules
from winnow.recipes.ablations.cells import cells_of
from winnow.recipes.ablations.tuning import cells_of_trial, trials_of


@pytest.mark.parametrize("name", icons_study.SIZES)
def test_every_method_gets_as_many_trials_and_each_can_be_trained(name, tmp_path):
    size = icons_study.SIZES[name]
    tuning = icons_study.tuning(tmp_path, size)
    study = replace(icons_study.icons_study(tmp_path, size, {}), tuning=tuning)
    trials = trials_of(study)
    assert len(trials) == len(study.names) * tuning.budget == 36
    recipes = [cell.recipe for one in trials for cell in cells_of_trial(study, tuning, one)]
    assert len(set(recipes)) == 36
    assert not set(tuning.tasks) & {*study.tasks, *study.probes}
    # What is chosen goes where it was tried.
    chosen = {trial.method: trial.fields for trial in trials}
    assert chosen["clip"].keys() == {"optimizer.learning_rate"}
    for part in icons_study.PARTS.values():
        cells = cells_of(part(tmp_path, size, chosen), {})
        assert len({cell.name for cell in cells}) == len(cells)
        assert {c.recipe.steps for c in cells if c.axis != "steps"} == {size.steps}
        assert all(read_rules(cell.data.rules) for cell in cells if cell.data.rules)


def test_the_parts_answer_every_claim_between_them(tmp_path):
    size = icons_study.SIZES["small"]
    claims = [
        claim for part in icons_study.PARTS.values() for claim in part(tmp_path, size, {}).claims
    ]
    assert sorted(claims) == sorted(claim.name for claim in icons_study.CLAIMS)
