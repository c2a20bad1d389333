"""CLIP_benchmark's own command line, in an environment without its captioning metrics.

Two things stand between it and a run here, and neither is measured: it imports pycocoevalcap, which
only captioning uses, and its `accuracy` takes float() of an array of one number, which numpy 2.4
refuses.

    python benchmarks/clip_benchmark_cli.py eval --dataset wds/NAME --dataset_root FOLDER ...
"""

import sys
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

if TYPE_CHECKING:
    from torch import Tensor


def main() -> None:
    """Run it."""
    for module in (
        "pycocoevalcap",
        "pycocoevalcap.tokenizer.ptbtokenizer",
        *(f"pycocoevalcap.{name}.{name}" for name in ("bleu", "meteor", "rouge", "cider", "spice")),
    ):
        sys.modules[module] = MagicMock()
    from clip_benchmark import cli
    from clip_benchmark.metrics import zeroshot_classification

    zeroshot_classification.accuracy = accuracy
    cli.main()


def accuracy(output: "Tensor", target: "Tensor", topk: tuple[int, ...] = (1,)) -> list[float]:
    """The same numbers."""
    predicted = output.topk(max(topk), 1, True, True)[1].t()
    correct = predicted.eq(target.view(1, -1).expand_as(predicted))
    return [correct[:k].reshape(-1).float().sum().item() / len(target) for k in topk]


if __name__ == "__main__":
    main()
