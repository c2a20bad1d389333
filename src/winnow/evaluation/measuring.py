"""One protocol on one set: its results and predictions, written, or found from another time."""

import datetime
import importlib.metadata
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from winnow.evaluation.outcome import Scored
from winnow.evaluation.protocols import Protocol, Protocols
from winnow.evaluation.results import (
    Result,
    not_of,
    predictions_path,
    write_results,
)
from winnow.evaluation.robustness import ON_SUBSET
from winnow.evaluation.shifts import measure_on_subsets
from winnow.evaluation.subject import Subject, UnsuitableError
from winnow.evaluation.task_table import main_metrics


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """Where results go, and how they are made."""

    out: Path
    protocols: Protocols
    device: str
    """Where features are ranked, and probes fitted."""

    def known(self, subject: Subject, protocol: Protocol, there: Sequence[Result]) -> list[Result]:
        """Of what is `there`, that of the same model, pictures, words and options.

        Empty where predictions are missing. Nothing is embedded for it.
        """
        facts = self._facts(subject, protocol)
        rows = [row for row in there if _is(row, facts)]
        if not rows or not self._has_predictions(rows[0]):
            return []
        if protocol.name == "zero-shot":
            of_subsets = facts | {"protocol": "robustness", "metric": ON_SUBSET}
            rows += (row for row in there if _is(row, of_subsets))
        return rows

    def measure(self, subject: Subject, protocol: Protocol) -> tuple[list[Result], list[Result]]:
        """The numbers, written, and those that went for them.

        Raises UnsuitableError where the set has not what the protocol needs.
        """
        lacking = protocol.lacks(subject)
        if lacking is not None:
            raise UnsuitableError(lacking)
        protocol.embed(subject)
        started = time.monotonic()
        outcome = protocol.measure(subject, self.protocols, self.device)
        facts = self._facts(subject, protocol)
        facts["seconds"] = round(time.monotonic() - started, 3)
        results = list(self._results(subject, outcome.scored, facts))
        if protocol.name == "zero-shot":
            of_subsets = measure_on_subsets(subject, device=self.device)
            results += self._results(subject, of_subsets, facts | {"protocol": "robustness"})
        return results, write_results(self.out, results, predictions=outcome.predictions)

    def _has_predictions(self, row: Result) -> bool:
        path = predictions_path(self.out, row)
        try:
            return not not_of(pq.read_schema(path).empty_table(), row)
        except (OSError, ValueError):  # there is none, or it is no parquet
            return False

    def _facts(self, subject: Subject, protocol: Protocol) -> dict[str, Any]:
        """The fields of a result that are known before anything is measured."""
        test, encoder = subject.test, subject.embedder.encoder
        return {
            "model_fingerprint": encoder.fingerprint,
            "task": test.name,
            "dataset_fingerprint": test.fingerprint,
            "split": test.split,
            "protocol": protocol.name,
            "num_classes": len(test.classnames) or None,
            "precision": encoder.precision,
            "prompts": protocol.prompts(subject),
            "asked": protocol.asked(subject, self.protocols),
            "version": importlib.metadata.version("winnow-clip"),
        }

    def _results(
        self, subject: Subject, scored: Iterable[Scored], facts: dict[str, Any]
    ) -> list[Result]:
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        scored = list(scored)
        there = {one.measure.metric for one in scored}
        main = main_metrics(subject.test.name, facts["protocol"], there)
        return [
            Result(
                model=subject.embedder.encoder.name,
                method=one.method,
                shots=one.shots,
                subset=one.subset,
                settings=one.settings or {},
                is_main=one.measure.metric in main,
                date=date,
                **facts,
                **one.measure._asdict(),
            )
            for one in scored
        ]


def _is(row: Result, facts: dict[str, Any]) -> bool:
    return all(getattr(row, name) == value for name, value in facts.items())
