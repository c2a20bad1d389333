"""Rows on disk, a clock that is told the time, and the line that people read."""

import json
import math

import pytest
import torch

from winnow.training.memory import memory_gb
from winnow.training.metrics import Clock, MetricsFile, by_source, progress_note, read_metrics
from winnow.types import InputError


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


def write(run, steps, *, resumed_at=0):
    with MetricsFile(run, resumed_at=resumed_at) as file:
        for step in steps:
            file.append(step, {"loss": 1 / step})


def test_rows_come_back_as_they_were(tmp_path):
    write(tmp_path, [10, 20, 30])
    assert read_metrics(tmp_path) == [{"step": step, "loss": 1 / step} for step in (10, 20, 30)]


def test_a_lost_future_is_dropped_and_written_anew(tmp_path):
    write(tmp_path, [10, 20, 30, 40])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "lo')
    write(tmp_path, [30, 40, 50], resumed_at=20)
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 20, 30, 40, 50]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_what_is_not_finite_is_null_in_the_file_and_nan_when_read(tmp_path):
    with MetricsFile(tmp_path, resumed_at=0) as file:
        file.append(1, {"loss": math.nan, "gradient_norm": math.inf, "scale": 2.0})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert line == '{"step": 1, "loss": null, "gradient_norm": null, "scale": 2.0}\n'
    (row,) = read_metrics(tmp_path)
    assert math.isnan(row["loss"]) and math.isnan(row["gradient_norm"])
    write(tmp_path, [2], resumed_at=1)
    assert (tmp_path / "metrics.jsonl").read_text().startswith(line)


@pytest.mark.parametrize(
    "line", ["\x00\x00\x00", "[1]", '{"loss": 1}', '{"step": "1"}', '{"step": 2']
)
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1}\n' + line + "\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl line 2 is no .*take the line out"):
        read_metrics(tmp_path)


def test_a_run_without_metrics_has_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


def test_a_lap_is_the_time_it_took():
    now = Time()
    clock = Clock(64, forward_flops=lambda tokens: 1e9 * tokens, peak_flops=1e12, now=now)
    for _ in range(5):
        with clock.waiting_for_data():
            now.seconds += 0.5
        now.seconds += 1.5
        clock.step_done(tokens=2)
    # 5 steps of 64 pairs in 10 s; each pair costs 3 x 2 GFLOP of 1 TFLOP/s.
    assert clock.lap() == {"samples_per_second": 32.0, "data_wait_share": 0.25, "mfu": 0.192}
    now.seconds += 4
    clock.step_done(tokens=5)  # the captions of each batch have their own length
    assert clock.lap() == {
        "samples_per_second": 16.0,
        "data_wait_share": 0.0,
        "mfu": pytest.approx(0.24),
    }


def test_no_lap_counts_what_is_no_training():
    now = Time()
    clock = Clock(10, now=now)
    now.seconds += 2
    clock.step_done()
    with clock.paused():
        now.seconds += 100
    assert clock.lap() == {"samples_per_second": 5.0, "data_wait_share": 0.0}


@pytest.mark.parametrize("known", [{"forward_flops": float}, {"peak_flops": 1.0}, {}])
def test_half_of_what_mfu_needs_gives_none(known):
    clock = Clock(1, **known)
    clock.step_done()
    assert clock.lap().keys() == {"samples_per_second", "data_wait_share"}


def test_memory_of_a_cpu_grows_with_what_is_allocated():
    device = torch.device("cpu")
    before = memory_gb(device)
    block = torch.ones(50_000_000)
    assert memory_gb(device) - before == pytest.approx(0.2, abs=0.05)
    del block


ROW = {
    "step": 10,
    "loss": 2.1234,
    "loss_contrastive": 1.5,
    "loss_objects": 6.25,
    "scale": 14.26,
    "gradient_norm": 0.4321,
    "update_norm": 0.0123,
    "samples_per_second": 12345.6,
    "data_wait_share": 0.034,
    "memory_gb": 61.24,
    "mfu": 0.412,
}


def test_the_progress_line_has_what_people_look_for():
    assert progress_note(ROW) == (
        "loss 2.123 (contrastive 1.500, objects 6.250), scale 14.3, gradient 0.43, update 0.012, "
        "12,346 samples/s, waiting for data 3%, 61.2 GB, MFU 41%"
    )


def test_the_progress_line_has_no_more_than_the_row():
    assert progress_note({"loss": 1.0, "scale": 9.0}) == "loss 1.000, scale 9.0"
    assert progress_note({}) == ""
    assert progress_note({"loss": math.nan}) == "loss nan"


def test_the_progress_line_names_the_largest_sources():
    row = {"loss": 1.0}
    for name, samples in (("a", 100), ("cc12m-recaptioned", 600), ("b", 200), ("c", 100)):
        row[f"source/{name}/samples"] = samples
    row["source/a/loss"] = 1.25
    row["source/b/loss"] = 2.5
    assert progress_note(row) == (
        "loss 1.000, cc12m-recap… 60%; b 20% at 2.50; a 10% at 1.25; 1 more"
    )


def test_a_name_of_a_source_commands_no_terminal():
    row = {"source/\x1b[31m/[b]/samples": 3}
    assert by_source(row, "samples") == {"\x1b[31m/[b]": 3}
    assert progress_note(row) == "__31m/_b_ 100%"


def test_a_source_is_not_mistaken_for_another_number():
    row = {"source/samples": 1, "source//samples": 2, "source/loss/samples": 3, "loss": 4}
    assert by_source(row, "samples") == {"loss": 3}
    assert by_source(row, "loss") == {}


def test_every_line_is_strict_json(tmp_path):
    write(tmp_path, [1])
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
