"""What a rule is: thresholds in, at most one reason per row out.

A **reason** is a short code, or "code: detail". Counts go by code; the detail says what a person
looking at the row wants to know.
"""

import json
import math
import os
import re
from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.corpus import Corpus
from winnow.types import InputError


class Measure(NamedTuple):
    """What a rule compares with its thresholds; a row is kept from `least` to `most`, inclusive."""

    name: str
    """For people, with its unit: "words", "shorter side (px)"."""
    values: pa.Array
    """One number per row."""
    least: float | None = None
    most: float | None = None


class Rule(ABC):
    """A frozen keyword-only dataclass of thresholds that judges rows of the ledger."""

    asks_corpus: ClassVar[bool] = False
    """Whether the verdict on a row depends on other rows."""

    @property
    @abstractmethod
    def codes(self) -> tuple[str, ...]:
        """Every code that a reason of this rule can begin with; most often a class variable."""

    @property
    def weighs(self) -> bool:
        """Whether it says of pairs how much they count, in `weights`."""
        return False

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns it reads beyond the ledger's own; annotators fill them."""
        return ()

    @abstractmethod
    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """One string per row: the reason to drop it, or null to keep it.

        `rows` are readable rows of the ledger with their PLACE and the columns of what it `needs`,
        all computed without error. `corpus` covers the rows that no earlier rule drops.
        """

    def weights(self, rows: pa.RecordBatch, corpus: Corpus) -> np.ndarray:
        """float32, one per row, above 0: how much a row counts in the loss where it is kept."""
        return np.ones(rows.num_rows, dtype=np.float32)

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """The numbers behind `verdicts`, for people to look at; none where there is no number."""
        return ()

    @classmethod
    def name(cls) -> str:
        """What the command line calls it: `caption-length` for CaptionLength."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def settings(self) -> dict[str, Any]:
        """Its name and thresholds, as json has them; `rule_specs.from_settings` makes it again.

        Paths are absolute: what is saved is read from wherever the next command is run.
        """
        return {"rule": self.name(), **asdict(self, dict_factory=_plain)}  # type: ignore[call-overload]

    def identity(self) -> str:
        """All that decides the verdict on a row; of a file, its size and time too.

        A rule that can say more cheaply what is in its file overrides this.
        """
        files = [value for value in vars(self).values() if isinstance(value, Path)]
        stamps = [(f.stat().st_size, f.stat().st_mtime_ns) if f.exists() else None for f in files]
        return json.dumps([self.settings(), stamps], sort_keys=True)


def _plain(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: _as_json(value) for name, value in fields}


def _as_json(value: Any) -> Any:
    if isinstance(value, Path):
        return os.path.abspath(value)  # noqa: PTH100 - resolves `..`, leaves links alone
    return list(value) if isinstance(value, tuple) else value


def check_range(rule: Rule, field: str, *, least: float, most: float = math.inf) -> None:
    """Raise InputError where a threshold is out of its range, the ends of which are allowed."""
    value = getattr(rule, field)
    if not (least <= value <= most and math.isfinite(value)):
        upward = most == math.inf
        wanted = f"{least:g} or more" if upward else f"a number from {least:g} to {most:g}"
        raise InputError(f"{type(rule).__name__}({field}={value!r}): give {wanted}")


def reason_where(drop: pa.Array | np.ndarray, reason: str | pa.Array) -> pa.Array:
    """`reason` where `drop` is true, null elsewhere."""
    mask = pa.array(drop) if isinstance(drop, np.ndarray) else drop
    return pc.if_else(mask, reason, pa.scalar(None, pa.string()))


def code_of(reasons: pa.Array) -> pa.Array:
    """The code that each reason begins with."""
    return pc.replace_substring_regex(reasons, r"(?s)^([^:]+):.*$", r"\1")
