"""Multinomial logistic regression on fixed features, by full-batch L-BFGS: the linear probe's fit.

    F(W, b) = C Σ_n CE(y_n, x_nᵀ W + b) + ½ ‖W‖²

scikit-learn's `LogisticRegression` minimizes the same for three classes and more; for two it fits
one vector, and its optimum at 2C is this one at C. The bias is not penalized.

**Coordinates.** With x centred and V the eigenvectors of its scatter Σ x xᵀ = V diag(λ) Vᵀ, one
walks over U = Vᵀ W and the bias of the centred features. The penalty is the same, ½ ‖U‖², and the
Hessian is near the diagonal

    C h_k λ_d + 1   of U_dk,      C h_k N   of b_k,      h_k = mean over n of p_nk (1 - p_nk)

with the probabilities p where the fit starts: L-BFGS in that metric (`lbfgs.py`) needs a small part
of the steps. Where the diagonal has become another by the end, it is taken anew and the fit goes
on. What all classes have in common changes no loss, and the penalty wants none of it: it is 0 from
the start, and P keeps it so. Neighbours along a path of C start where the last one ended, and with
its pairs: those of the sum of losses, which C only multiplies.

**Numbers.** Matrix products are float32, sums over blocks of rows, parameters and steps float64. A
loss is log1p(Σ_{j≠y} exp(z_j - z_y)) and its own gradient -Σ_{j≠y} p_j, both of full precision
where a sample is fitted well, which at a large C is where everything happens.

N samples, D features, K classes, L those of them that occur. Samples come in one part or several
and are read in blocks, so they may stay on disk. Memory beside them: one centred copy on the
device, logits of one block, 2 `lbfgs.MEMORY` vectors of (D + 1) L float64.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from winnow.evaluation.features import Labelled, LinearClassifier
from winnow.evaluation.lbfgs import Pair, minimize
from winnow.types import InputError

UNSEEN = -1e30
"""The bias of a class without samples: its optimum is minus infinity, and it is never predicted."""
TOLERANCE = 1e-6
MAX_ITERATIONS = 1000
BLOCK_ELEMENTS = 2**22
"""Of features or logits at once: 16 MB."""
_LEAST_CURVATURE = 1e-7  # of h_k: all probabilities may round to 0 and 1, and the steps to dust
_STALE = 2.0  # powers of two by which the diagonal may be off where a fit ends


class Samples(Protocol):
    """Features with their labels, of which a block of rows at a time is in memory.

    `Labelled` is one.
    """

    @property
    def label_N(self) -> np.ndarray:
        """int64, 0 to K - 1."""

    def rows(self, index: np.ndarray) -> Labelled:
        """A copy of some samples."""


class Fit(NamedTuple):
    """What was fitted, and how near it is."""

    classifier: LinearClassifier
    loss: float
    """F of the classifier."""
    iterations: int
    evaluations: int
    """Walks over all samples."""
    gradient_norm: float
    """The largest entry of ∇F / (C N), by W and b: what scikit-learn's `tol` is compared with."""
    converged: bool
    """F is within about `tolerance` of its least value, relatively."""


def fit(
    train: Labelled,
    *,
    num_classes: int,
    strength: float,
    start: LinearClassifier | None = None,
    max_iterations: int = MAX_ITERATIONS,
    tolerance: float = TOLERANCE,
    device: str | torch.device = "cpu",
    block_elements: int = BLOCK_ELEMENTS,
) -> Fit:
    """One fit at C = `strength`. Raises what `Regression` raises."""
    regression = Regression(
        train, num_classes=num_classes, device=device, block_elements=block_elements
    )
    return regression.fit(strength, start=start, max_iterations=max_iterations, tolerance=tolerance)


class Regression:
    """The samples of all parts on their device, ready to be fitted at any strength.

    Each fit leaves its pairs to the next, which shortens the way and does not move the optimum.
    Raises InputError where there is nothing to learn: no samples, one class, or features that are
    not finite; ValueError for a label that is none of the classes.
    """

    def __init__(
        self,
        *parts: Samples,
        num_classes: int,
        device: str | torch.device = "cpu",
        block_elements: int = BLOCK_ELEMENTS,
    ) -> None:
        class_N = _checked_labels(parts, num_classes)
        self.num_classes = num_classes
        self.class_L, index_N, count_L = np.unique(class_N, return_inverse=True, return_counts=True)
        self.frequency_L = torch.from_numpy(count_L / len(class_N)).to(device)
        self.label_N = torch.from_numpy(index_N).to(device)
        self.device = device
        num_samples, width = len(class_N), parts[0].rows(np.arange(0)).feature_ND.shape[1]
        rows = max(1, block_elements // max(width, len(self.class_L)))
        self.blocks = [slice(i, min(i + rows, num_samples)) for i in range(0, num_samples, rows)]
        self.mean_D = _mean(parts, rows=rows, width=width)
        self.x_ND = torch.empty(num_samples, width, device=device)
        scatter_DD = torch.zeros(width, width, dtype=torch.float64, device=device)
        for start, feature_CD in _blocks(parts, rows=rows):
            feature_CD -= self.mean_D  # rows of its own, whatever they were read from
            x_CD = self.x_ND[start : start + len(feature_CD)]
            x_CD.copy_(torch.from_numpy(feature_CD))
            scatter_DD += x_CD.T @ x_CD
        # Small, and float64 decides how well the smallest directions are known: on the CPU.
        eigenvalue_D, vector_DD = torch.linalg.eigh(scatter_DD.cpu())
        self.eigenvalue_D = eigenvalue_D.clamp(min=0).to(device)
        self.vector_DD = vector_DD.to(device)
        self.pairs: list[Pair] = []

    def fit(
        self,
        strength: float,
        *,
        start: LinearClassifier | None = None,
        max_iterations: int = MAX_ITERATIONS,
        tolerance: float = TOLERANCE,
    ) -> Fit:
        """The optimum at C = `strength`, from `start` or W = 0 and the classes' frequencies."""
        if not 0 < strength < np.inf:
            raise ValueError(f"the strength C must be a positive number, not {strength}")
        at_PL = self._parameters(start)
        # The loss grows with C and the penalty does not; so do their parts of a pair's change.
        pairs = [Pair(step, strength * change + _penalized(step)) for step, change in self.pairs]
        diagonal_PL = self._diagonal(at_PL, strength)
        iterations = evaluations = 0
        while True:
            minimum = minimize(
                lambda at_PL: self._objective(at_PL, strength),
                at_PL,
                _preconditioner(diagonal_PL),
                pairs=pairs,
                tolerance=tolerance,
                max_iterations=max_iterations - iterations,
            )
            iterations += minimum.iterations
            evaluations += minimum.evaluations
            at_PL, pairs = minimum.point.at, minimum.pairs
            before_PL, diagonal_PL = diagonal_PL, self._diagonal(at_PL, strength)
            stale = bool((before_PL / diagonal_PL).log2().abs().max() > _STALE)
            # What is still to be gained, and that no step succeeds, was judged in a metric that may
            # not be that of this place.
            if not stale or minimum.iterations == 0 or iterations >= max_iterations:
                break
        if start is not None and not minimum.converged and iterations < max_iterations:
            # Rounding lets no step succeed so far out; the optimum does not depend on the start.
            return self.fit(strength, max_iterations=max_iterations, tolerance=tolerance)
        self.pairs = [
            Pair(step, (change - _penalized(step)) / strength) for step, change in minimum.pairs
        ]
        point = minimum.point
        return Fit(
            classifier=self._classifier(point.at),
            loss=point.value,
            iterations=iterations,
            evaluations=evaluations,
            gradient_norm=self._largest(point.gradient) / (strength * len(self.x_ND)),
            converged=minimum.converged,
        )

    def _objective(self, at_PL: Tensor, strength: float) -> tuple[float, Tensor]:
        """F and its gradient, rows of (P, L) being the D eigenvectors and then the bias."""
        weight_DL, bias_L = self._weights(at_PL)
        total = at_PL.new_zeros(())
        gradient_DL, gradient_L = torch.zeros_like(at_PL[:-1]), torch.zeros_like(at_PL[-1])
        for block in self.blocks:
            residual_CL, loss_C1 = _losses(
                torch.addmm(bias_L, self.x_ND[block], weight_DL), self.label_N[block, None]
            )
            total += loss_C1.sum(dtype=torch.float64)
            gradient_DL += self.x_ND[block].T @ residual_CL
            gradient_L += residual_CL.sum(dim=0, dtype=torch.float64)
        gradient_PL = torch.cat([self.vector_DD.T @ gradient_DL, gradient_L[None]])
        penalty_PL = _penalized(at_PL)
        value = strength * float(total) + float(penalty_PL.square().sum()) / 2
        return value, strength * gradient_PL + penalty_PL

    def _diagonal(self, at_PL: Tensor, strength: float) -> Tensor:
        weight_DL, bias_L = self._weights(at_PL)
        curvature_L = torch.zeros_like(at_PL[-1])
        for block in self.blocks:
            p_CL = torch.addmm(bias_L, self.x_ND[block], weight_DL).softmax(dim=1)
            curvature_L += (p_CL * (1 - p_CL)).sum(dim=0, dtype=torch.float64)
        mean_L = (curvature_L / len(self.x_ND)).clamp(min=_LEAST_CURVATURE)
        of_weights_DL = strength * self.eigenvalue_D[:, None] * mean_L + 1
        return torch.cat([of_weights_DL, strength * len(self.x_ND) * mean_L[None]])

    def _weights(self, at_PL: Tensor) -> tuple[Tensor, Tensor]:
        return (self.vector_DD @ at_PL[:-1]).float(), at_PL[-1].float()

    def _parameters(self, start: LinearClassifier | None) -> Tensor:
        frequent_L = self.frequency_L.log()
        if start is None:
            weights_DL = frequent_L.new_zeros(len(self.vector_DD), len(frequent_L))
            return torch.cat([weights_DL, frequent_L[None] - frequent_L.mean()])
        bias_L = np.asarray(start.bias_K, np.float64)[self.class_L]
        weight_DL = np.asarray(start.weight_DK, np.float64)[:, self.class_L]
        known_L = torch.from_numpy(bias_L > UNSEEN / 2).to(self.device)
        centred_L = torch.from_numpy(bias_L + self.mean_D @ weight_DL).to(self.device)
        # A class that the start has not seen begins as if it were a mean one.
        begin_L = torch.where(known_L, centred_L, centred_L[known_L].mean())
        rotated_DL = self.vector_DD.T @ torch.from_numpy(weight_DL).to(self.device)
        begin_PL = torch.cat([rotated_DL, begin_L[None]])
        return begin_PL - begin_PL.mean(dim=1, keepdim=True)

    def _classifier(self, at_PL: Tensor) -> LinearClassifier:
        weight_DL = self._weights(at_PL)[0].cpu().numpy()
        bias_L = at_PL[-1].cpu().numpy() - self.mean_D @ weight_DL
        weight_DK = np.zeros((len(weight_DL), self.num_classes), np.float32)
        bias_K = np.full(self.num_classes, UNSEEN, np.float32)
        weight_DK[:, self.class_L], bias_K[self.class_L] = weight_DL, bias_L
        return LinearClassifier(weight_DK, bias_K)

    def _largest(self, gradient_PL: Tensor) -> float:
        weights_DL = self.vector_DD @ gradient_PL[:-1]
        mean_D = torch.from_numpy(self.mean_D).to(weights_DL)
        weights_DL += mean_D[:, None] * gradient_PL[-1]  # for x as it came, not centred
        return max(float(weights_DL.abs().max()), float(gradient_PL[-1].abs().max()))


def _preconditioner(diagonal_PL: Tensor) -> Callable[[Tensor], Tensor]:
    """The inverse of the diagonal among the steps whose sum over the classes is 0."""
    inverse_PL = diagonal_PL.reciprocal()
    inverse_P1 = inverse_PL.sum(dim=1, keepdim=True)

    def precondition(slope_PL: Tensor) -> Tensor:
        step_PL = inverse_PL * slope_PL
        return step_PL - inverse_PL * (step_PL.sum(dim=1, keepdim=True) / inverse_P1)

    return precondition


def _losses(logits_CL: Tensor, label_C1: Tensor) -> tuple[Tensor, Tensor]:
    """softmax - one-hot in the place of the logits, and the loss of each row (C, 1)."""
    logits_CL -= logits_CL.amax(dim=1, keepdim=True)
    own_C1 = logits_CL.gather(1, label_C1)
    others_CL = logits_CL.exp_().scatter_(1, label_C1, 0)
    others_C1 = others_CL.sum(dim=1, keepdim=True)
    sum_C1 = others_C1 + own_C1.exp()
    loss_C1 = torch.where(own_C1 == 0, others_C1.log1p(), sum_C1.log() - own_C1)
    return others_CL.div_(sum_C1).scatter_(1, label_C1, -others_C1 / sum_C1), loss_C1


def _penalized(at_PL: Tensor) -> Tensor:
    """The gradient of the penalty: the weights, and 0 for the bias."""
    return torch.cat([at_PL[:-1], torch.zeros_like(at_PL[-1:])])


def _checked_labels(parts: Sequence[Samples], num_classes: int) -> np.ndarray:
    label_N = np.concatenate([part.label_N for part in parts])
    if len(label_N) == 0:
        raise InputError("there are no training samples, so no linear probe can be fitted")
    if label_N.min() < 0 or label_N.max() >= num_classes:
        wrong = label_N.min() if label_N.min() < 0 else label_N.max()
        raise ValueError(f"label {wrong} is none of the {num_classes} classes")
    if label_N.min() == label_N.max():
        raise InputError(
            f"all {len(label_N)} training samples are of class {label_N[0]}: a linear probe needs "
            "samples of two classes or more"
        )
    return label_N


def _blocks(parts: Sequence[Samples], *, rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """Features of the parts, one behind the other, float32: where a block starts, and its rows."""
    first = 0
    for part in parts:
        num_samples = len(part.label_N)
        for start in range(0, num_samples, rows):
            block = part.rows(np.arange(start, min(start + rows, num_samples)))
            yield first + start, block.feature_ND.astype(np.float32, copy=False)
        first += num_samples


def _mean(parts: Sequence[Samples], *, rows: int, width: int) -> np.ndarray:
    """float32 (D,): the centre need not be exact, only the same for every row."""
    sum_D, num_samples = np.zeros(width), 0
    for _, feature_CD in _blocks(parts, rows=rows):
        sum_D += feature_CD.sum(axis=0, dtype=np.float64)
        num_samples += len(feature_CD)
    if not np.isfinite(sum_D).all():
        raise InputError(
            "the training features are not finite, so no linear probe can be fitted: the model's "
            "weights or its precision are broken; embed again, in fp32"
        )
    return (sum_D / num_samples).astype(np.float32)
