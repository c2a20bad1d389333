"""What effective robustness needs and gives, as results: accuracies on parts of ImageNet, and ρ.

ImageNet-R, ImageNet-A and ObjectNet show some of ImageNet's classes; what they are compared with is
the accuracy over these alone (`imagenet_subsets.py`). It is measured along with ImageNet itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from winnow.evaluation.imagenet_subsets import SUBSETS, imagenet_subset, subset_of
from winnow.evaluation.measures import share_within
from winnow.evaluation.outcome import Scored
from winnow.evaluation.results import Result
from winnow.evaluation.robustness import IMAGENET, robustness_rows, same_set
from winnow.evaluation.subject import Subject
from winnow.evaluation.zero_shot import first_of_a_name, zero_shot


def measure_on_subsets(subject: Subject, *, device: str) -> Iterator[Scored]:
    """ "accuracy_on_subset" for each shift that shows some classes; nothing for other sets."""
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
            yield Scored(
                share_within(rank_M, 1, metric="accuracy_on_subset", chance=chance), method=name
            )


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
