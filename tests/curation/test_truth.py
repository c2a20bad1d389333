from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.curation.truth import Share, against_truth
from winnow.types import InputError


def write(tmp_path: Path, reasons: dict[str, str | None], planted: dict[str, str | None]) -> None:
    folder = tmp_path / "verdicts"
    folder.mkdir()
    for number, key in enumerate(reasons):
        table = pa.table({"key": [key], "reason": pa.array([reasons[key]], pa.string())})
        pq.write_table(table, folder / f"{number:05d}.parquet")
    table = pa.table({"key": list(planted), "planted": pa.array(planted.values(), pa.string())})
    pq.write_table(table, tmp_path / "truth.parquet")


def test_recall_by_kind_and_precision_by_reason(tmp_path):
    write(
        tmp_path,
        {
            "a": "caption-url",
            "b": None,
            "c": "duplicate-pair: of row 0 of 00000",
            "d": "caption-url",
        },
        {"d": None, "c": "copy", "b": "copy", "a": "swapped"},
    )
    found = against_truth(tmp_path, tmp_path / "truth.parquet")
    assert found.recall == {"copy": Share(count=1, of=2), "swapped": Share(count=1, of=1)}
    assert found.precision == {
        "caption-url": Share(count=1, of=2),
        "duplicate-pair": Share(count=1, of=1),
    }
    assert found.recall_overall.value == pytest.approx(2 / 3)
    assert found.precision_overall.value == pytest.approx(2 / 3)
    assert found.dropped == {
        "caption-url": {"sound": 1, "swapped": 1},
        "duplicate-pair": {"copy": 1},
    }


def test_truth_of_other_samples_is_refused(tmp_path):
    write(tmp_path, {"a": None, "b": None}, {"a": None, "c": None})
    with pytest.raises(InputError, match="not about the same samples"):
        against_truth(tmp_path, tmp_path / "truth.parquet")
