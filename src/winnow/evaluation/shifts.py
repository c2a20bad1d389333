"""What effective robustness needs and gives, as results: accuracies on parts of ImageNet, and ρ.

ImageNet-R, ImageNet-A and ObjectNet show some of ImageNet's classes; what they are compared with is
the accuracy over these alone (`imagenet_subsets.py`). It is measured along with ImageNet itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from winnow.evaluation.imagenet_subsets import SUBSETS, imagenet_subset, subset_of
from winnow.evaluation.measures import share_within
from winnow.evaluation.outcome import Scored
from winnow.evaluation.results import Result, change_results
from winnow.evaluation.robustness import (
    EFFECTIVE,
    IMAGENET,
    ON_SUBSET,
    robustness_rows,
    same_set,
    wrong_classes,
)
from winnow.evaluation.subject import Subject
from winnow.evaluation.zero_shot import first_of_a_name, zero_shot


def measure_on_subsets(subject: Subject, *, device: str) -> Iterator[Scored]:
    """ON_SUBSET for each shift that shows some classes; nothing for other sets."""
    if not same_set(subject.test.name, IMAGENET) or len(subject.class_KD) != 1000:
        return
    features = subject.tested
    for name in SUBSETS:
        subset = imagenet_subset(name)
        image_MD, class_SD, label_M = subset_of(
            features.image_ND, subject.class_KD, features.samples.label_N, subset
        )
        if len(label_M):
            names = [subject.test.classnames[index] for index in subset.indices]
            ranking = zero_shot(image_MD, class_SD, label_M, device=device)
            rank_M = first_of_a_name(ranking, label_M, names).rank_Q
            chance = 1 / len(class_SD)
            yield Scored(share_within(rank_M, 1, metric=ON_SUBSET, chance=chance), method=name)


def refresh_robustness(folder: Path) -> list[Result]:
    """ρ against the published lines from all accuracies in `folder`, in place of what was there."""
    found: list[Result] = []

    def refreshed(results: list[Result]) -> list[Result]:
        found.extend(effective_robustness_rows(results))
        return [*(row for row in results if row.metric != EFFECTIVE), *found]

    change_results(folder, refreshed)
    return found


def unlike_imagenet(results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    """Sets that are called like one of ImageNet's family, with other classes; what that means."""
    for row in results:
        num_classes = wrong_classes(row)
        if num_classes is not None and (row.protocol, row.metric) == ("zero-shot", "top1"):
            why = (
                f"no effective robustness, since it has {row.num_classes:,} classes and the set of "
                f"that name {num_classes:,}"
            )
            yield row.task, why


def effective_robustness_rows(results: Sequence[Result]) -> list[Result]:
    """ρ against the published lines, wherever both accuracies are among `results` of one model."""
    rows = []
    for found in robustness_rows(results):
        of_shift = [
            row
            for row in results
            if same_set(row.task, found.shift.name)
            and (row.protocol, row.metric) == ("zero-shot", "top1")
        ][-1]
        settings = {
            "in_distribution": found.shift.axis,
            "accuracy_in_distribution": found.accuracy_in.value,
            "expected": found.robustness.expected,
            "extrapolated": found.robustness.extrapolated,
            "line": found.shift.line.source,
        }
        measure = found.robustness.measure(of_shift.n)
        rows.append(
            replace(
                of_shift,
                protocol="robustness",
                method="published",
                settings=settings,
                seconds=0.0,
                **measure._asdict(),
            )
        )
    return rows
