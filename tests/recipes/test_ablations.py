"""A study in words: which cells it has, what each changes, and what is refused before any runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from winnow import cli
from winnow.config import differences
from winnow.evaluation.results import Result, write_results
from winnow.objectives import HardNegativeNCE, InfoNCE
from winnow.recipes.ablations.cells import cells_of, recipe_hash
from winnow.recipes.ablations.changes import with_fields
from winnow.recipes.ablations.command import Ablate, study_of
from winnow.recipes.ablations.methods import METHODS, Method
from winnow.recipes.ablations.running import facts
from winnow.recipes.ablations.study import Axis, Level, Study, TrainingData, Tuning
from winnow.recipes.ablations.tuning import account, cells_of_trial, choose, score, trials_of
from winnow.recipes.training import RECIPES, tiny
from winnow.training.recipe import Runtime
from winnow.types import InputError

POOL = TrainingData(source="pool")
SIZES = Axis(
    name="size",
    levels=(
        Level(name="0.1", value=0.1, data=replace(POOL, share=0.1)),
        Level(name="1", value=1.0),
    ),
    base="1",
    methods=("clip", "psd"),
    seeds=(1,),
)
LONGER = Axis(
    name="steps",
    levels=(Level(name="480", value=480.0), Level(name="960", value=960.0, fields={"steps": 960})),
    base="480",
    seeds=(0,),
)


def study(**changes):
    facts = {
        "base": tiny(),
        "data": POOL,
        "methods": (METHODS["clip"], METHODS["psd"], METHODS["cd"]),
        "seeds": (0, 1),
        "tasks": {"seen": Path("seen"), "unseen": Path("unseen")},
        "shifts": {"unseen": "seen"},
    }
    return Study(**facts | changes)


RATES = {"optimizer.learning_rate": (0.001, 0.002)}
TUNING = Tuning(
    grids={
        "clip": RATES,
        "psd": {"objective.final_share": (0.2, 0.4)},
        "cd": {"concept_distillation.object_weight": (0.1, 1.0)},
    },
    budget=2,
    tasks={"held-out": Path("held-out")},
    seeds=(7, 8),
    fields={"steps": 100},
)


def test_a_method_differs_from_the_base_in_what_its_recipe_says():
    """`cd` is `diht` without hard negatives; all others are the training recipes'."""
    for name in ("clip", "psd", "hn_nce", "hn_psd", "diht", "diht_psd"):
        assert METHODS[name].of(RECIPES["clip"]()) == RECIPES[name]()
    cd, diht = METHODS["cd"].of(tiny()), METHODS["diht"].of(tiny())
    assert replace(diht, objective=InfoNCE()) == cd
    changed = [line.partition(":")[0] for line in differences(tiny(), METHODS["hn_nce"].of(tiny()))]
    assert changed and all(field.startswith("objective") for field in changed)
    averaged = Method(
        name="psd+average",
        objective=METHODS["psd"].objective,
        fields={"average": {"decay": 0.99}, "teacher": "average"},
    ).of(tiny())
    assert averaged.teacher == "average" and averaged.average.decay == 0.99


def test_cells_are_the_base_and_each_axis_without_its_base_level():
    names = [cell.name for cell in cells_of(study(axes=(SIZES, LONGER)), {})]
    assert names == [
        *(f"base-{name}-seed0" for name in ("clip", "psd", "cd")),
        *(f"base-{name}-seed1" for name in ("clip", "psd", "cd")),
        *(f"size-0.1-{name}-seed1" for name in ("clip", "psd")),
        *(f"steps-960-{name}-seed0" for name in ("clip", "psd", "cd")),
    ]


def test_cells_of_a_seed_differ_by_the_method_and_along_an_axis_by_its_level_alone():
    cells = {cell.name: cell for cell in cells_of(study(axes=(SIZES, LONGER)), {})}
    base = cells["base-clip-seed1"]
    assert base.recipe == replace(tiny(), seed=1) and base.data == POOL
    assert (base.axis, base.level) == ("base", "base")
    part = cells["size-0.1-clip-seed1"]
    assert part.recipe == base.recipe and part.data == TrainingData(source="pool", share=0.1)
    longer = cells["steps-960-psd-seed0"]
    assert longer.recipe == replace(cells["base-psd-seed0"].recipe, steps=960)
    assert longer.data == POOL


def test_tuned_fields_are_every_cell_s_of_their_method():
    tuned = {"clip": {"optimizer.learning_rate": 0.002}, "psd": {"steps": 7}}
    cells = {cell.name: cell.recipe for cell in cells_of(study(axes=(SIZES, LONGER)), tuned)}
    rate = {name: recipe.optimizer.learning_rate for name, recipe in cells.items()}
    assert rate["base-clip-seed0"] == rate["size-0.1-clip-seed1"] == 0.002
    assert rate["base-psd-seed0"] == tiny().optimizer.learning_rate
    assert cells["base-psd-seed0"].steps == 7 and cells["steps-960-psd-seed0"].steps == 960


def test_the_hash_of_a_recipe_is_of_what_it_computes():
    recipe = tiny()
    assert recipe_hash(replace(recipe, runtime=Runtime(workers=7))) == recipe_hash(recipe)
    assert recipe_hash(replace(recipe, seed=1)) != recipe_hash(recipe)


def test_study_json_says_axes_and_cells():
    told = facts(study(axes=(SIZES,)), {"clip": {"steps": 7}})
    assert told["axes"] == {"size": {"levels": ["0.1", "1"], "values": [0.1, 1.0], "base": "1"}}
    assert told["methods"] == ["clip", "psd", "cd"] and told["baseline"] == "clip"
    assert told["shifts"] == {"unseen": "seen"}
    assert (told["counted"], told["claims"]) == (None, None)
    assert told["tuned"] == {"clip": {"steps": 7}}
    assert told["cells"][-1] == "size-0.1-psd-seed1" and len(told["cells"]) == 8
    told = facts(study(counted=("seen",), claims=("psd-cost",)), {})
    assert (told["counted"], told["claims"]) == (["seen"], ["psd-cost"])


def test_every_method_gets_as_many_trials_on_the_validation_sets():
    tuned = study(tuning=TUNING)
    trials = trials_of(tuned)
    assert [(trial.method, trial.level, dict(trial.fields)) for trial in trials[:3]] == [
        ("clip", "trial00", {"optimizer.learning_rate": 0.001}),
        ("clip", "trial01", {"optimizer.learning_rate": 0.002}),
        ("psd", "trial00", {"objective.final_share": 0.2}),
    ]
    assert len(trials) == 6
    first, second = cells_of_trial(tuned, TUNING, trials[2])
    assert (first.name, second.name) == (
        "tuning-trial00-psd-seed7",
        "tuning-trial00-psd-seed8",
    )
    assert first.recipe.steps == 100 and first.recipe.objective.final_share == 0.2


def result(task, metric, value, *, is_main=False):
    return Result(
        model="run",
        model_fingerprint="f",
        task=task,
        dataset_fingerprint="d",
        split="test",
        protocol="zero-shot",
        metric=metric,
        is_main=is_main,
        value=value,
        standard_error=0.0,
        low=0.0,
        high=1.0,
        interval="wilson",
        n=10,
        chance=0.1,
        num_classes=10,
        precision="fp32",
        prompts="",
        seconds=0.0,
        version="0",
        date="2026-01-01",
    )


def test_a_trial_s_score_is_a_mean_over_tasks_and_seeds(tmp_path):
    tuning = replace(TUNING, tasks={"a": Path("a"), "b": Path("b")})
    for seed, (a, b) in enumerate([(0.25, 0.5), (0.75, 1.0)]):
        rows = [result("a", "top1", a, is_main=True), result("b", "top1", b, is_main=True)]
        write_results(tmp_path / str(seed), [*rows, result("a", "top5", 0.125)])
    folders = [tmp_path / "0", tmp_path / "1"]
    assert score(folders, tuning) == (0.25 + 0.5 + 0.75 + 1.0) / 4
    with pytest.raises(InputError, match="'b' has no metric 'top5'; it has top1"):
        score(folders, replace(tuning, metric="top5"))


def test_the_best_trial_is_chosen_and_of_equals_the_first():
    scores = {"clip": [0.5, 0.5], "psd": [0.25, 0.75], "cd": [0.5, 0.25]}
    assert choose(scores) == {"clip": 0, "psd": 1, "cd": 0}
    told = account(TUNING, trials_of(study(tuning=TUNING)), scores)
    assert told["methods"]["psd"]["chosen"] == {"objective.final_share": 0.4}
    assert told["methods"]["psd"]["score"] == 0.75
    assert [one["score"] for one in told["methods"]["clip"]["trials"]] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimizer.learning_rat": 1}, "'optimizer.learning_rat'; there are learning_rate, "),
        ({"average.decay": 0.9}, "no field 'average.decay'; there are none there"),
        ({"steps": 2.5}, "expected int @ Recipe.steps"),
        ({"steps": 0}, "steps 0"),
    ],
)
def test_a_field_that_does_not_fit_is_named(changes, says):
    with pytest.raises(InputError, match=r"^the level 'x'") as error:
        with_fields(tiny(), changes, where="the level 'x'")
    assert says in str(error.value)


def odd(**changes):
    return replace(SIZES, **changes)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: study(baseline="siglip"), "baseline 'siglip' is not among the study's methods"),
        (lambda: study(shifts={"sketch": "seen"}), "task 'sketch' is not among the study's tasks"),
        (lambda: study(shifts={"seen": "sketch"}), "task 'sketch' is not among the study's tasks"),
        (lambda: study(counted=("sketch",)), "task 'sketch' is not among the study's tasks: seen"),
        (lambda: study(counted=()), "a study needs at least one counted task"),
        (
            lambda: study(claims=("psd-helps",)),
            "no paper makes the claim 'psd-helps'; there are ps",
        ),
        (lambda: study(seeds=(1, 1)), "names the seed 1 twice"),
        (lambda: study(methods=()), "at least one method"),
        (lambda: study(axes=(SIZES, SIZES)), "two axes of the study have one name"),
        (lambda: study(axes=(odd(seeds=(5,)),)), "seed of the axis 'size' 5 is not among"),
        (lambda: study(axes=(odd(methods=("diht",)),)), "method of the axis 'size' 'diht' is not"),
        (
            lambda: study(axes=(odd(levels=(*SIZES.levels, Level(name="all", data=POOL))),)),
            "the level 'all' of the axis 'size' changes nothing",
        ),
        (lambda: study(axes=(odd(base="0.1"),)), "'0.1' of the axis 'size' is its base, so"),
        (lambda: odd(base="0.5"), "has no level '0.5' for its base"),
        (lambda: odd(name="base"), "that name is taken"),
        (lambda: Level(name="a/b"), "a level cannot be called 'a/b'"),
        (lambda: Method(name="", objective=HardNegativeNCE()), "a method cannot be called ''"),
        (lambda: replace(POOL, share=0.0), "share 0.0 of pool must be above 0"),
        (lambda: replace(POOL, swapped=1.5), "swapped 1.5 of pool must be from 0 to 1"),
        (lambda: replace(POOL, swapped=0.2, noise=0.2), "pool has noise 0.2 already"),
        (lambda: study(data=replace(POOL, swapped=0.2)), "'cd' would learn concepts of the capt"),
        (lambda: replace(TUNING, budget=3), "'clip' has 2 trials and the budget is 3"),
        (
            lambda: study(tuning=replace(TUNING, grids={"clip": RATES, "psd": RATES})),
            "has grids for clip, psd, and the study compares clip, psd, cd",
        ),
        (
            lambda: study(tuning=replace(TUNING, tasks={"seen": Path("elsewhere")})),
            "would choose on 'seen', which the study measures",
        ),
        (
            lambda: study(tuning=replace(TUNING, tasks={"mine": Path("./unseen")})),
            "would choose on 'mine', which the study measures",
        ),
        (
            lambda: study(tuning=replace(TUNING, seeds=(7, 1))),
            "would choose by the seed 1, which the study measures",
        ),
        (
            lambda: study(probes={"p": Path("held-out")}, tuning=TUNING),
            "would choose on 'held-out', which the study measures",
        ),
    ],
)
def test_what_could_not_be_compared_or_would_leak_is_refused(make, says):
    with pytest.raises(InputError) as error:
        make()
    assert says in str(error.value)


def options(tmp_path, **changes):
    facts = {"data": "pool", "out": tmp_path, "tasks": (str(tmp_path),), "recipe": tiny()}
    return Ablate(**facts | changes)


def test_the_command_s_options_make_axes(tmp_path):
    made = study_of(
        options(
            tmp_path,
            seeds=2,
            recipe=replace(tiny(), seed=5),
            sizes=(0.1, 1.0),
            noise=(0.2,),
            selections=("none", "clean+cat"),
        )
    )
    assert made.seeds == (5, 6) and made.names == ("clip", "psd") and made.baseline == "clip"
    assert [axis.name for axis in made.axes] == ["size", "noise", "curation"]
    assert [[level.name for level in axis.levels] for axis in made.axes] == [
        ["0.1", "1"],
        ["0", "0.2"],
        ["none", "clean+cat"],
    ]
    assert made.axes[2].levels[1].data == TrainingData(source="pool", rules=("clean", "cat"))
    assert study_of(options(tmp_path)).axes == ()


def test_the_command_s_shifts_are_relative_to_one_set(tmp_path):
    sets = [tmp_path / name for name in ("a", "b", "c")]
    for path in sets:
        path.mkdir()
    told = {"tasks": tuple(map(str, sets)), "shifts": ("b", "c")}
    made = study_of(options(tmp_path, in_distribution="a", **told))
    assert made.shifts == {"b": "a", "c": "a"}
    with pytest.raises(InputError, match="--shifts needs --in-distribution"):
        study_of(options(tmp_path, **told))


def test_a_tuning_has_seeds_of_its_own():
    tuning = Tuning(grids=TUNING.grids, budget=2, tasks=TUNING.tasks)
    assert tuning.seeds == (1000,)
    assert study(seeds=(0, 1, 2, 3, 4), tuning=tuning).tuning is tuning


def test_the_command_names_what_it_does_not_know(tmp_path, capsys):
    with pytest.raises(InputError, match="no method 'sigclip'; there are clip, psd, hn_nce"):
        study_of(options(tmp_path, methods=("sigclip",)))
    with pytest.raises(InputError, match="--seeds is 0"):
        study_of(options(tmp_path, seeds=0))
    words = ["--data", "x", "--out", str(tmp_path / "out"), "--tasks", str(tmp_path)]
    assert cli.run(["ablate", "--recipe", "tiny", *words, "--methods", "clop"]) == 2
    assert "there is no method 'clop'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
