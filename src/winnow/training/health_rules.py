"""What goes wrong in runs, read off the rows of metrics: each rule a function of the rows so far.

A rule says one sentence while something is wrong, and None else; `health.py` says when that begins
and ends. Windows are medians over rows, so that one odd batch says nothing. Rows may lack any
number; a rule that misses one is silent.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from winnow.training.health_history import CLAMP, REMEMBERED, History
from winnow.types import InputError

RuleName = Literal[
    "non-finite",
    "stuck-at-chance",
    "scale-at-clamp",
    "scale-falling",
    "gradient-spikes",
    "waiting-for-data",
    "collapsed",
    "overfitting",
]

_CHANCE_MARGIN = 0.02
"""Share of ln N that a loss may be below it and still be no better than guessing."""
_FP16_OVERFLOWS = 5
"""Rows in a row with an infinite gradient before fp16's search for its scale has failed."""


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """When the health rules speak. The thresholds are our reading; healthy runs stay well clear."""

    stop_on: tuple[RuleName, ...] = ()
    """Rules that stop the run, saved, when they begin to speak; the others only say so."""
    patience_steps: int = 500
    """Steps after the warm-up in which a loss at chance, embeddings alike or a scale at its clamp
    say nothing."""
    falling_scale: float = 0.7
    """`scale-falling` below this share of the first scale; the demo's runs stay above 0.97."""
    spike_factor: float = 10.0
    """`gradient-spikes` above this many times the median norm; the demo's stay below 2.2."""
    waiting_share: float = 0.3
    """`waiting-for-data` from this share of the time on."""
    alike_cosine: float = 0.9
    """`collapsed` from this mean cosine between different pairs' embeddings on."""
    validation_rise: float = 0.05
    """`overfitting` where the validation loss is by this share above its best, twice running."""

    def __post_init__(self) -> None:
        shares = (self.falling_scale, self.waiting_share, self.alike_cosine)
        if not all(0 < share < 1 for share in shares):
            raise InputError(
                "falling_scale, waiting_share and alike_cosine of a HealthConfig must lie between "
                f"0 and 1 (given: {self})"
            )
        if self.patience_steps < 0 or self.validation_rise <= 0 or self.spike_factor <= 1:
            raise InputError(
                "patience_steps of a HealthConfig must be at least 0, validation_rise above 0 and "
                f"spike_factor above 1 (given: {self})"
            )


class Rule(NamedTuple):
    """One thing that goes wrong."""

    says: Callable[[History, HealthConfig], str | None]
    """What is wrong and what to do about it, while it is."""
    over: str
    """What is said when it ends."""


def _non_finite(history: History, config: HealthConfig) -> str | None:
    row = history.row
    watched = ("loss", "scale", "bias", "weight_norm", "validation_loss")
    names = [n for n in row if n in watched or n.startswith("loss_")]
    broken = [name for name in names if not math.isfinite(row[name])]
    if not broken and _gradient_is_broken(history):
        broken = ["gradient_norm"]
    if not broken:
        return None
    return (
        f"{' and '.join(broken)} is not finite: lower the learning rate or warm up longer, and "
        "train from the start or from a checkpoint before this step"
    )


def _gradient_is_broken(history: History) -> bool:
    """fp16 overflows now and then while its loss scale is sought, and such a step is skipped."""
    allowed = _FP16_OVERFLOWS if "skipped_steps" in history.row else 1
    last = [row.get("gradient_norm", 0.0) for row in list(history.rows)[-allowed:]]
    return len(last) == allowed and not any(map(math.isfinite, last))


def _stuck_at_chance(history: History, config: HealthConfig) -> str | None:
    chance, loss = math.log(history.batch_size), history.training_loss()
    if history.is_within(config.patience_steps) or loss is None or chance == 0:
        return None
    first = history.median("rank_1_image_to_text", "rank_1_text_to_image")
    # Where pairs rank first more often than by chance, a loss above ln N is the objective's own.
    learns = first is not None and first > 2 / history.batch_size
    if learns or loss < (1 - _CHANCE_MARGIN) * chance:
        return None
    return (
        f"the loss is {loss:.3f}, and guessing among {history.batch_size:,} pairs gives "
        f"{chance:.3f}: nothing has been learnt since the warm-up ended at step "
        f"{history.warm_at:,}; check that captions belong to their pictures, then try a learning "
        "rate three times as large or as small"
    )


def _scale_at_clamp(history: History, config: HealthConfig) -> str | None:
    since = history.clamped_at
    if (
        since is None
        or history.is_within(config.patience_steps)
        or history.step - since < config.patience_steps
    ):
        return None
    return (
        f"the scale has been at its clamp of {CLAMP:.0f} since step {since:,}: usual late in runs "
        "over hundreds of millions of pairs, a sign of pairs learnt by heart in smaller ones; then "
        "train on more pairs or for fewer epochs"
    )


def _scale_falling(history: History, config: HealthConfig) -> str | None:
    scale, first = history.median("scale"), history.first_scale
    if history.warm_at is None or scale is None or first is None:
        return None
    if scale >= config.falling_scale * first:
        return None
    return (
        f"the scale fell from {first:.1f} to {scale:.1f}: the model trusts its similarities less "
        "and less, as it does where captions do not belong to their pictures; look at some pairs, "
        "and lower the learning rate if they do belong"
    )


def _gradient_spikes(history: History, config: HealthConfig) -> str | None:
    now = history.now("gradient_norm")
    if now is None or history.warm_at is None:
        return None
    before = [
        row["gradient_norm"]
        for row in list(history.rows)[:-1]
        if math.isfinite(row.get("gradient_norm", math.nan))
    ]
    if len(before) < REMEMBERED // 5:
        return None
    usual = statistics.median(before)
    if now <= config.spike_factor * usual:
        return None
    return (
        f"the gradient's norm is {now:.3g}, {now / max(usual, 1e-30):,.0f} times the {usual:.3g} "
        f"that is usual here: if spikes come back, lower the learning rate, the optimizer's second "
        "beta or max_gradient_norm"
    )


def _waiting_for_data(history: History, config: HealthConfig) -> str | None:
    share, rate = history.median("data_wait_share"), history.median("samples_per_second")
    if share is None or share < config.waiting_share:
        return None
    speed = "" if rate is None else f" at {rate:,.0f} samples/s"
    return (
        f"the model waits for data {share:.0%} of the time{speed}: raise --runtime.workers up to "
        "the number of cores, put the shards on a local disk or in the cache, or store smaller "
        "pictures; `winnow doctor` measures which of them limits"
    )


def _collapsed(history: History, config: HealthConfig) -> str | None:
    if history.is_within(config.patience_steps):
        return None
    found = {
        side: cosine
        for side in ("image", "text")
        if (cosine := history.median(f"{side}_similarity")) is not None
        and cosine >= config.alike_cosine
    }
    if not found:
        return None
    cosines = " and ".join(f"{side}s {cosine:.2f}" for side, cosine in found.items())
    return (
        "embeddings of different pairs are nearly the same (mean cosine, 1 is equal: "
        f"{cosines}): lower the learning rate or warm up longer, and check that "
        f"the {' and '.join(f'{side}s' for side in found)} of a batch differ"
    )


def _overfitting(history: History, config: HealthConfig) -> str | None:
    best, later = history.best, history.since_best
    if best is None or len(later) < 2:
        return None
    limit = best.validation_loss + config.validation_rise * abs(best.validation_loss)
    last = later[-1]
    is_rising = min(evaluation.validation_loss for evaluation in later[-2:]) > limit
    if not is_rising or last.training_loss >= best.training_loss:
        return None
    return (
        f"the validation loss is {last.validation_loss:.3f}, its best was "
        f"{best.validation_loss:.3f} at step {best.step:,}, while the training loss went from "
        f"{best.training_loss:.3f} to {last.training_loss:.3f}: pairs are learnt by heart; keep "
        "the model of that step, and train on more pairs, for fewer epochs or with more "
        "augmentation"
    )


RULES: Mapping[RuleName, Rule] = {
    "non-finite": Rule(_non_finite, "all numbers are finite again"),
    "stuck-at-chance": Rule(_stuck_at_chance, "the loss is better than guessing"),
    "scale-at-clamp": Rule(_scale_at_clamp, "the scale has left its clamp"),
    "scale-falling": Rule(_scale_falling, "the scale has risen again"),
    "gradient-spikes": Rule(_gradient_spikes, "the gradient's norm is as usual again"),
    "waiting-for-data": Rule(_waiting_for_data, "the data comes in time again"),
    "collapsed": Rule(_collapsed, "embeddings of different pairs differ again"),
    "overfitting": Rule(_overfitting, "the validation loss no longer parts from the training loss"),
}
