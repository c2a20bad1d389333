"""All that is computed of a study, in one place for verdicts and tables."""

from dataclasses import dataclass

from winnow.evaluation.study.axes import Growth, LevelRow, axis_tables
from winnow.evaluation.study.base import MacroRow, TaskRow, base_tables
from winnow.evaluation.study.cost import CostRow, cost_table
from winnow.evaluation.study.few_shot import FewShotRow, few_shot_table
from winnow.evaluation.study.pictures import PictureScores
from winnow.evaluation.study.reading import Study, StudyFacts
from winnow.evaluation.study.shifts import RobustnessRow, ShiftTable, shift_tables


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Each list is empty where nothing of its kind was measured."""

    facts: StudyFacts
    tasks: list[TaskRow]
    macros: list[MacroRow]
    levels: list[LevelRow]
    growths: list[Growth]
    shifts: list[ShiftTable]
    robustness: list[RobustnessRow]
    cost: list[CostRow]
    few_shot: list[FewShotRow]


def answers_of(study: Study) -> Answers:
    """Reads the cells' predictions; everything else is in the study."""
    scores = PictureScores()
    tasks, macros = base_tables(study, scores)
    levels, growths = axis_tables(study, scores)
    shifts, robustness = shift_tables(study)
    return Answers(
        facts=study.facts,
        tasks=tasks,
        macros=macros,
        levels=levels,
        growths=growths,
        shifts=shifts,
        robustness=robustness,
        cost=cost_table(study),
        few_shot=few_shot_table(study),
    )
