"""Concept distillation: what it costs in training, what its preparation costs, what it changes.

    python benchmarks/concepts.py [step teacher effect] [--rounds 10] [--size all] [--seeds 0 1 2]

step: a training step and the loader, with a teacher's concepts against without (concept_step.py).
teacher: the features' pass against the bare model (concept_teacher.py). effect: three arms of the
demo's recipe, an hour and a half on two cores, which goes on where it was (concept_effect.py).
Each part replaces its own tables.
"""

import argparse
from pathlib import Path

from concept_effect import ARMS, MAX_SEEDS, measure_effect
from concept_step import SIZES, measure_step
from concept_teacher import measure_teacher

from winnow.recipes.training import tiny

PARTS = ("step", "teacher", "effect")
OUT = Path.home() / ".cache" / "winnow-benchmarks" / "concepts"


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=10, help="of step and teacher")
    parser.add_argument("--size", choices=[*SIZES, "all"], default="all", help="of the step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=tiny().steps, help="updates of every run")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--out", type=Path, default=OUT, help="curated data, targets and runs")
    arguments = parser.parse_args()
    if not set(arguments.parts) <= set(PARTS):
        parser.error(f"there are the parts {', '.join(PARTS)}, not {' '.join(arguments.parts)}")
    if len(set(arguments.seeds)) != len(arguments.seeds) or len(arguments.seeds) > MAX_SEEDS:
        parser.error(f"--seeds takes up to {MAX_SEEDS} different seeds")
    if "step" in arguments.parts:
        sizes = list(SIZES) if arguments.size == "all" else [arguments.size]
        measure_step(sizes, rounds=arguments.rounds)
    if "teacher" in arguments.parts:
        measure_teacher(rounds=arguments.rounds)
    if "effect" in arguments.parts:
        measure_effect(
            arguments.out, arms=arguments.arms, seeds=arguments.seeds, steps=arguments.steps
        )


if __name__ == "__main__":
    main()
