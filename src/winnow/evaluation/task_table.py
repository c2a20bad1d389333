"""The task table: which evaluation sets the papers use, and how each of them is measured.

The facts are in `task_table.json`, one row a task; this file says what a row holds. They come from
DiHT's names and counts as far as those could be recovered, DataComp's tasklist.yml for sizes and
classes, clip-benchmark's package for names and numbers of prompts on the hub, and Radford et al.
2021 (tables 9 and 10) for the metric of each set. A suite says how sure it is that its tasks are
those of the paper.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from winnow.config import from_dict

Origin = Literal["hub", "packaged", "fetched", "by hand"]
PROBES = ("linear-probe", "few-shot")
"""Protocols that fit something."""
HUB_PREFIX = "wds_"
_TABLE_FILE = "task_table.json"
_ONE_OF_CLASSES = ("top1", "mean_per_class")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A list of tasks that belong together."""

    about: str
    confidence: Literal["high", "medium", "low"]
    """That these are the tasks of the paper."""
    notes: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One number that a paper reports, or we do: a set, and how a model is measured on it."""

    name: str
    """What the command line calls it."""
    set: str
    """The folder of its data; several tasks may share it, as both directions of retrieval do."""
    protocol: Literal["zero-shot", "retrieval", "statements"]
    metric: str
    """As `results.jsonl` names it; other metrics of the set are measured too."""
    num_classes: int | None
    """None without classes, and where they follow from what is installed."""
    num_samples: int | None
    """Pictures of the split; None where they depend on the copy or were not recovered."""
    split: str
    prompts: str
    """Which prompts the number is measured with, for people."""
    origin: Origin
    """How one gets the data: from the Hugging Face hub, from installed packages (built), from
    Debian's archive (fetched), or only by hand."""
    source: str
    """The data set's name on the hub, the package, or how to make the set by hand."""
    subset: str
    """The ImageNet classes whose accuracy is the x axis of effective robustness, by their name in
    `imagenet_subsets.py`; empty for all 1,000, and for tasks that are no shift of ImageNet."""
    suites: tuple[str, ...]
    notes: str

    @property
    def chance(self) -> float | None:
        """Expected value of a model that guesses; None where only the data says."""
        if self.metric == "roc_auc":
            return 0.5
        if self.num_classes is None or self.metric not in _ONE_OF_CLASSES:
            return None
        return 1 / self.num_classes


@dataclass(frozen=True, kw_only=True)
class TaskTable:
    """All tasks, and the suites that they form."""

    suites: dict[str, Suite]
    tasks: tuple[Task, ...]

    def in_suite(self, name: str) -> tuple[Task, ...]:
        """The tasks of a suite, in the table's order."""
        return tuple(task for task in self.tasks if name in task.suites)

    def of_set(self, name: str) -> tuple[Task, ...]:
        """The tasks that are measured on a set, its name with or without the hub's prefix; none
        for a set that is the user's own."""
        return tuple(task for task in self.tasks if bare_name(task.set) == bare_name(name))


def main_metrics(name: str, protocol: str, there: Collection[str]) -> list[str]:
    """What a set counts by, of the metrics that are there: those of its tasks, and for probes those
    of zero-shot; of a set that the table does not know, the first of accuracy, average precision
    and ROC-AUC; of retrieval, recall at 1 both ways.
    """
    of = "zero-shot" if protocol in PROBES else protocol
    known = [task.metric for task in task_table().of_set(name) if task.protocol == of]
    if found := [metric for metric in known if metric in there]:
        return found
    for metric in ("top1", "map", "roc_auc"):
        if metric in there:
            return [metric]
    return ["image_to_text_recall@1", "text_to_image_recall@1"]


def bare_name(name: str) -> str:
    """The name of a set without the prefix that sets on the hub have."""
    return name.removeprefix(HUB_PREFIX)


@cache
def task_table() -> TaskTable:
    """The table that comes with the package."""
    text = (files(__package__) / _TABLE_FILE).read_text(encoding="utf-8")
    return from_dict(TaskTable, json.loads(text), where=_TABLE_FILE)
