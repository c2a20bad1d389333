"""The account of a selection: every sample that was seen is kept, dropped or an error."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from winnow.config import from_dict
from winnow.curation.numbered import read_json
from winnow.curation.rules.rule import Rule, code_of
from winnow.data.folder import Folder
from winnow.types import InputError

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a selection did, in numbers; `seen = kept + sum(dropped) + errors`, always."""

    selection: str
    ledger: str
    """Fingerprint of the ledger, and of the annotations, that it was made from."""
    seen: int
    kept: int
    errors: int
    """Samples that cannot be read. No rule judged them."""
    errors_by_code: dict[str, int]
    dropped: dict[str, int]
    """Samples by the code of their first reason, in the order of the rules, zeros included."""
    fired: dict[str, int]
    """Samples by the code of any of their reasons: what each rule drops of what it saw."""
    only: dict[str, int]
    """Samples by the code of their only reason: kept if the rule were left out, as far as is known,
    since what it drops may never have been annotated for a later one."""
    rules: list[dict[str, Any]]
    """Class name and thresholds of every rule, in order."""
    shards: list[str]
    """Path or URL of every shard, in ledger order."""

    def __post_init__(self) -> None:
        accounted = self.kept + sum(self.dropped.values()) + self.errors
        assert self.seen == accounted, f"{self.seen} samples seen, {accounted} accounted for"

    def write(self, directory: Path) -> None:
        """Write the account into the directory of its selection."""
        # Not sorted: the order of the rules is the order of the funnel.
        (directory / SUMMARY_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, selection: Folder | Path) -> "Summary":
        """The account of the selection in a folder. Raises InputError where there is none."""
        folder = Folder.at(selection)
        if not folder.exists(SUMMARY_FILE):
            raise InputError(
                f"{folder.url} holds no selection ({SUMMARY_FILE} is missing): make one with "
                "`winnow curate SHARDS --out DIR`"
            )
        values = read_json(folder, SUMMARY_FILE)
        return from_dict(cls, values, where=f"{folder.url}/{SUMMARY_FILE}")


class Tally:
    """Counts verdicts, batch after batch."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._seen = self._kept = 0
        self._errors: Counter[str] = Counter()
        codes = {code: 0 for rule in rules for code in rule.codes}
        self._dropped = Counter(codes)
        self._fired = Counter(codes)
        self._only = Counter(codes)

    def add(self, verdicts: pa.RecordBatch) -> None:
        """Count rows of VERDICT_SCHEMA."""
        self._seen += verdicts.num_rows
        self._kept += pc.sum(verdicts["kept"]).as_py() or 0
        self._errors.update(_count_codes(verdicts["error"]))
        self._dropped.update(_count_codes(verdicts["reason"]))
        reasons = verdicts["reasons"]
        self._fired.update(_count_codes(reasons.flatten()))
        alone = pc.and_(pc.equal(pc.list_value_length(reasons), 1), verdicts["reason"].is_valid())
        self._only.update(_count_codes(verdicts["reason"].filter(alone)))

    def summary(self, *, selection: str, ledger: str, shards: list[str]) -> Summary:
        """The account of all that was counted."""
        return Summary(
            selection=selection,
            ledger=ledger,
            seen=self._seen,
            kept=self._kept,
            errors=self._errors.total(),
            errors_by_code=dict(sorted(self._errors.items())),
            dropped=dict(self._dropped),
            fired=dict(self._fired),
            only=dict(self._only),
            rules=[rule.settings() for rule in self._rules],
            shards=shards,
        )


def _count_codes(reasons: pa.Array) -> dict[str, int]:
    counts = pc.value_counts(code_of(reasons.drop_null()))
    return {entry["values"].as_py(): entry["counts"].as_py() for entry in counts}
