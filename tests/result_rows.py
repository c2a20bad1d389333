"""A result of an evaluation, for tests that care about a few of its fields."""

from winnow.evaluation.results import Result

ANY = {
    "task": "things",
    "split": "test",
    "protocol": "zero-shot",
    "metric": "top1",
    "value": 0.5,
    "standard_error": 0.0,
    "low": 0.0,
    "high": 1.0,
    "interval": "wilson",
    "n": 1_000,
    "chance": 0.001,
    "num_classes": 1_000,
    "precision": "fp32",
    "prompts": "",
    "seconds": 0.0,
    "version": "0",
    "date": "2026-11-22T00:00:00+00:00",
}


def measured(weights="m", **given):
    """Unless said, the model is called like its weights, and the set's pictures like its task."""
    row = ANY | {"model": weights, "model_fingerprint": weights} | given
    return Result(**{"dataset_fingerprint": row["task"]} | row)
