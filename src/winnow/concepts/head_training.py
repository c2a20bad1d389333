"""Two linear heads learn, from a frozen teacher's features, the concepts that captions name.

    loss_i = LSE_c(logits_ic) - mean over the caption's concepts of logits_ic,   logits = W z + b

the cross-entropy with a target that is uniform over the caption's concepts (Radenovic et al. 2023,
arXiv 2301.02280, section 3.2). z is the feature, standardised by mean and deviation over the
training rows; the trained head is folded, so that what is kept is linear in the feature itself. A
pair whose caption names no concept of a head is left out of that head's training. Which pairs are
drawn how often, and which are held out, is in `head_rows.py`.

The loss is convex, so no start needs chance: W starts at 0, and b at the logarithms of the
concepts' frequencies, where the head answers like one that does not look at the picture.

Each window of features is read once an epoch and serves both heads. The gradient is written down
(softmax - target), so a step is two matrix products. The same seed gives the same bits on a CPU
with the same number of threads.

F is the width of features, V the concepts of a head, W the rows of a window, B of a batch.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from winnow.concepts.head_rows import (
    FeatureRows,
    blocks,
    counts_of,
    draws,
    frequencies_of,
    held_out,
    repeats,
    targets_of,
    windows,
)
from winnow.concepts.heads import Heads, LinearHead
from winnow.concepts.heads_facts import HeadsConfig
from winnow.concepts.labels import HeadLabels
from winnow.concepts.measures import (
    Frequencies,
    HeadReport,
    Targets,
    measure_batch,
    report_of,
)
from winnow.progress import track
from winnow.types import InputError

_AVERAGED_AT_ONCE = 4096  # rows: at a width of 2,048, 67 MB in float64
_MEASURED_AT_ONCE = 1024  # pictures: with 10,000 concepts, 80 MB of each float64 array


class Standardisation(NamedTuple):
    """z = (x - mean) / deviation, per dimension of the feature: float64 (F,)."""

    mean_F: np.ndarray
    deviation_F: np.ndarray
    """Infinite where the feature is constant: there is nothing to learn from it."""


def train_heads(
    features: FeatureRows,
    labels: Mapping[str, HeadLabels],
    picture_ids: np.ndarray,
    *,
    sizes: Mapping[str, int],
    config: HeadsConfig,
    device: str | torch.device = "cpu",
) -> tuple[Heads, dict[str, HeadReport]]:
    """The heads named by `labels`, each of `sizes` concepts, and what each is worth.

    Row n of `features`, `labels` and `picture_ids` (uint64) is one pair; pairs of one picture have
    one id. Nothing is tuned on the held-out pairs: they are reported on, once. Heads come back on
    `device`. Raises InputError where a head has no pair to learn from, or none to be measured on.
    """
    assert all(len(features) == len(rows.offsets_N1) - 1 for rows in labels.values())
    assert len(features) == len(picture_ids)
    is_held_out = held_out(picture_ids, share=config.held_out, seed=config.seed)
    rows, held_rows = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    frequencies = {
        name: frequencies_of(labels[name], rows, size=size) for name, size in sizes.items()
    }
    for name in sizes:
        _check_rows(name, labels[name], frequencies[name], held_rows, config)
    scale = standardisation(features, rows)
    learners = {
        name: _Learner(
            labels[name],
            frequencies[name],
            rows=rows,
            width=features.width,
            config=config,
            device=device,
        )
        for name in sizes
    }
    _learn(learners, features, is_held_out, scale, config, device)
    heads = Heads({name: learner.folded(scale) for name, learner in learners.items()})
    report = _measure(heads, features, labels, frequencies, trained=len(rows), held_rows=held_rows)
    return heads, report


def standardisation(features: FeatureRows, rows: np.ndarray) -> Standardisation:
    """Of the features of `rows`, in one walk: parts are joined as Chan et al. 1979 do."""
    count, mean_F, squares_F = 0, np.zeros(features.width), np.zeros(features.width)
    with track("measuring features", total=len(rows), unit="rows") as advance:
        for part in blocks(rows, _AVERAGED_AT_ONCE):
            part_NF = features.take(part).astype(np.float64)
            part_mean_F = part_NF.mean(axis=0)
            away_F = part_mean_F - mean_F
            total = count + len(part)
            squares_F += np.square(part_NF - part_mean_F).sum(axis=0)
            squares_F += away_F**2 * (count * len(part) / total)
            mean_F = mean_F + away_F * (len(part) / total)
            count = total
            advance(len(part))
    deviation_F = np.sqrt(squares_F / count)
    if not np.isfinite(deviation_F).all():
        raise InputError(
            "the teacher's features are not finite: its weights or its precision are broken, and "
            "no head can learn from them; compute the features again"
        )
    # What rounding leaves of a constant is no deviation.
    constant_F = deviation_F <= 1e-7 * np.abs(mean_F)
    return Standardisation(mean_F, np.where(constant_F, np.inf, deviation_F))


def gradient_of(logits_BV: Tensor, targets: Targets) -> Tensor:
    """(B, V): of every picture's own loss in its logits; softmax - target."""
    gradient_BV = logits_BV.softmax(dim=1)
    place_P = torch.from_numpy(targets.picture_P * logits_BV.shape[1] + targets.concept_P)
    mass_P = torch.from_numpy(targets.mass_P).to(logits_BV)
    # A picture has a concept once, so no entry is subtracted from twice.
    gradient_BV.view(-1)[place_P.to(logits_BV.device)] -= mass_P
    return gradient_BV


class _Learner:
    """One head on its way: its labels, its parameters for standardised features, its optimizer."""

    def __init__(
        self,
        labels: HeadLabels,
        frequencies: Frequencies,
        *,
        rows: np.ndarray,
        width: int,
        config: HeadsConfig,
        device: str | torch.device,
    ) -> None:
        self.labels, self.config = labels, config
        self.frequency_V = frequencies.count_V / len(rows)
        bias_V = np.log(frequencies.mean_target_V())
        self.weight_VF = torch.zeros(len(bias_V), width, device=device)
        self.bias_V = torch.tensor(bias_V, dtype=torch.float32, device=device)
        # Beyond one over the learning rate, a step would turn weights around.
        decay = min(config.weight_decay / frequencies.pairs, 1 / config.learning_rate)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [self.weight_VF], "weight_decay": decay},
                {"params": [self.bias_V], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            fused=True,
        )

    def learn(
        self, z_WF: Tensor, rows: np.ndarray, *, epoch: int, progress: tuple[float, float]
    ) -> None:
        """Learn from a window: its features, its rows, and from where to where training goes."""
        named = np.flatnonzero(counts_of(self.labels, rows))
        mean_repeats_B = repeats(
            targets_of(self.labels, rows[named]),
            self.frequency_V,
            rows=len(named),
            threshold=self.config.upsampling_threshold,
        )
        drawn = draws(rows[named], mean_repeats_B, seed=self.config.seed, epoch=epoch)
        begin, end = progress
        for number, batch in enumerate(blocks(drawn, self.config.batch_size)):
            done = begin + (end - begin) * number * self.config.batch_size / len(drawn)
            rate = self.config.learning_rate * (1 + math.cos(math.pi * done)) / 2
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self._step(z_WF, named[batch], targets_of(self.labels, rows[named[batch]]))

    def _step(self, z_WF: Tensor, places: np.ndarray, targets: Targets) -> None:
        z_BF = z_WF[torch.from_numpy(places).to(z_WF.device)]
        logits_BV = torch.addmm(self.bias_V, z_BF, self.weight_VF.T)
        # Divided by the full size, so that the few of a window's last batch count as they should.
        gradient_BV = gradient_of(logits_BV, targets) / self.config.batch_size
        self.weight_VF.grad = gradient_BV.T @ z_BF
        self.bias_V.grad = gradient_BV.sum(dim=0)
        self.optimizer.step()

    def folded(self, scale: Standardisation) -> LinearHead:
        """The head for features as they come, computed in float64."""
        weight_VF = self.weight_VF.cpu().numpy() / scale.deviation_F
        bias_V = self.bias_V.cpu().numpy() - weight_VF @ scale.mean_F
        return LinearHead(
            torch.tensor(weight_VF, dtype=torch.float32, device=self.weight_VF.device),
            torch.tensor(bias_V, dtype=torch.float32, device=self.bias_V.device),
        )


def _learn(
    learners: Mapping[str, _Learner],
    features: FeatureRows,
    is_held_out: np.ndarray,
    scale: Standardisation,
    config: HeadsConfig,
    device: str | torch.device,
) -> None:
    mean_F = torch.tensor(scale.mean_F, dtype=torch.float32, device=device)
    factor_F = torch.tensor(1 / scale.deviation_F, dtype=torch.float32, device=device)
    seen, total = 0, config.epochs * len(features)
    with track("training concept heads", total=total, unit="rows") as advance:
        for epoch in range(config.epochs):
            for window in windows(
                len(features), size=config.window_rows, seed=config.seed, epoch=epoch
            ):
                rows = window[~is_held_out[window]]
                x_WF = torch.from_numpy(np.ascontiguousarray(features.take(rows))).to(device)
                z_WF = (x_WF.float() - mean_F) * factor_F
                progress = (seen / total, (seen + len(window)) / total)
                for learner in learners.values():
                    learner.learn(z_WF, rows, epoch=epoch, progress=progress)
                seen += len(window)
                advance(len(window))


def _measure(
    heads: Heads,
    features: FeatureRows,
    labels: Mapping[str, HeadLabels],
    frequencies: Mapping[str, Frequencies],
    *,
    trained: int,
    held_rows: np.ndarray,
) -> dict[str, HeadReport]:
    batches: dict[str, list] = {name: [] for name in heads.linear}
    with track("measuring concept heads", total=len(held_rows), unit="rows") as advance:
        for rows in blocks(held_rows, _MEASURED_AT_ONCE):
            for name, logits_NV in heads.logits(features.take(rows)).items():
                named = np.flatnonzero(counts_of(labels[name], rows))
                if len(named):
                    targets = targets_of(labels[name], rows[named])
                    batches[name].append(
                        measure_batch(logits_NV[named], targets, frequencies[name])
                    )
            advance(len(rows))
    return {
        name: report_of(batches[name], frequencies[name], trained=trained, held_out=len(held_rows))
        for name in batches
    }


def _check_rows(
    name: str,
    labels: HeadLabels,
    frequencies: Frequencies,
    held_rows: np.ndarray,
    config: HeadsConfig,
) -> None:
    if frequencies.pairs == 0:
        raise InputError(
            f"no caption of the training pairs names one of the {len(frequencies.count_V)} {name}: "
            "take a larger selection, or hold out less"
        )
    if not counts_of(labels, held_rows).any():
        raise InputError(
            f"none of the {len(held_rows)} pairs held out (held_out = {config.held_out}) names one "
            f"of the {name}, so the head could not be measured: hold out more, or take a larger "
            "selection"
        )
