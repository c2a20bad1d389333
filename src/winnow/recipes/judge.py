"""Evaluation while training: what `winnow evaluate` measures, of a model that is still learning."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from winnow.distributed import barrier, world
from winnow.evaluation.embed import Embedder
from winnow.evaluation.evaluate import evaluate
from winnow.models.encoder import Encoder
from winnow.models.towers import Towers
from winnow.training.judging import Judge

_NAME = "the model in training"


def judge_of(
    sets: Mapping[str, Path | str], *, scratch: Path, precision: str, device: str
) -> Judge:
    """A function that measures towers on `sets` by all protocols that fit nothing.

    Measures are called `SET METRIC`, accuracies from 0 to 1, the set's main one first. Every rank
    embeds its share into `scratch`, which all have to see, and which is gone afterwards.
    """

    def judge(towers: Towers) -> dict[str, float]:
        _clear(scratch)
        encoder = Encoder.around(
            towers.clip,
            towers.tokenize,
            view=towers.view,
            mean=towers.preprocessing["mean"],
            std=towers.preprocessing["std"],
            name=_NAME,
            precision=precision,
            device=device,
        )
        embedder = Embedder(encoder=encoder, cache=scratch / "embeddings", batch_size=256)
        done = evaluate(embedder, sets, scratch / "results", device=device)
        _clear(scratch)
        in_turn = sorted(done.results, key=lambda row: not row.is_main)
        return {f"{row.task} {row.metric}": row.value for row in in_turn}

    return judge


def _clear(scratch: Path) -> None:
    barrier()
    if world().rank == 0:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    barrier()
