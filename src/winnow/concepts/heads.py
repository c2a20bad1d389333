"""Concept heads: linear classifiers on a frozen teacher's features, and what they find probable.

    p(c | x) = softmax_c(W x + b)

Two of them, one for objects and one for attributes (Radenovic et al. 2023, arXiv 2301.02280,
section 3.2). How they learn is in `head_training.py`; what they are worth is in their report.
What is kept of their answers is the k most probable concepts, renormalised: the softmax over the
k largest logits.

F is the width of the teacher's features, V the concepts of a head, N pictures, K kept concepts.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from winnow.concepts import HEADS
from winnow.concepts.head_rows import FeatureRows, blocks
from winnow.concepts.heads_facts import FACTS_FILE, HEADS_FILE, HeadsFacts, SavedHeads, damaged
from winnow.config import as_dict, write_json
from winnow.data.folder import Folder
from winnow.progress import track
from winnow.types import InputError

_BLOCK = 2048  # pictures at once: with 10,000 concepts, 80 MB of logits


class LinearHead(NamedTuple):
    """One head: float32, for features as they come from the teacher."""

    weight_VF: Tensor
    bias_V: Tensor


class TopK(NamedTuple):
    """The most probable concepts of pictures, the most probable first, ties by index."""

    index_NK: np.ndarray
    """int64: which concept."""
    mass_NK: np.ndarray
    """float64: its probability among these; each row adds up to 1."""


@dataclass(frozen=True, eq=False)
class Heads:
    """The heads by name."""

    linear: Mapping[str, LinearHead]

    @property
    def width(self) -> int:
        """Of the features that they take."""
        return next(iter(self.linear.values())).weight_VF.shape[1]

    def fingerprint(self) -> str:
        """16 hex digits over the weights: what targets that come from these heads are keyed by."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._tensors().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def logits(self, features_NF: np.ndarray) -> dict[str, np.ndarray]:
        """float32 (N, V) by head, of float16 or float32 features."""
        found = {}
        for name, head in self.linear.items():
            features = torch.tensor(features_NF, dtype=torch.float32, device=head.bias_V.device)
            logits_NV = torch.addmm(head.bias_V, features, head.weight_VF.T)
            found[name] = logits_NV.cpu().numpy()
        return found

    def probabilities(self, features_NF: np.ndarray) -> dict[str, np.ndarray]:
        """float32 (N, V) by head; a row adds up to 1."""
        return {
            name: torch.from_numpy(logits_NV).softmax(dim=1).numpy()
            for name, logits_NV in self.logits(features_NF).items()
        }

    def save(self, folder: Path, facts: HeadsFacts) -> None:
        """Write the weights and, last, `heads.json` with `facts`."""
        target = Folder.at(folder)
        target.remove(FACTS_FILE)  # or it would stand beside other weights for a moment
        with target.writing(HEADS_FILE) as path:
            save_file(self._tensors(), path)
        saved = SavedHeads(fingerprint=self.fingerprint(), facts=facts)
        write_json(folder / FACTS_FILE, as_dict(saved))

    @classmethod
    def open(cls, folder: Path) -> "Heads":
        """The heads in `folder`, on the CPU. Raises InputError where there are none, or damaged."""
        saved = SavedHeads.of(folder)
        if saved is None:
            raise InputError(
                f"{folder} holds no complete concept heads ({FACTS_FILE} is missing): make them "
                "with `winnow concepts DIR`"
            )
        try:
            tensors = load_file(folder / HEADS_FILE)
            heads = cls({name: _head_of(tensors, name) for name in HEADS})
        except (OSError, SafetensorError, KeyError) as error:
            raise damaged(folder, str(error)) from error
        if heads.fingerprint() != saved.fingerprint:
            raise damaged(folder, f"they are not the weights that {FACTS_FILE} describes")
        return heads

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"{name}.{part}": tensor.detach().cpu().contiguous()
            for name, head in self.linear.items()
            for part, tensor in zip(("weight", "bias"), head, strict=True)
        }


def predict(
    heads: Heads, features: FeatureRows, k: int, *, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, dict[str, TopK]]]:
    """The `k` most probable concepts of `rows` (int64), in their order: (some of them, by head).

    A head of fewer concepts gives all of them. Give the same picture once: in a block of another
    size, its last bits may come out otherwise. Raises InputError for features of another width.
    """
    if k < 1:
        raise InputError(f"k is {k}: at least one concept of a picture must be kept")
    if features.width != heads.width:
        raise InputError(
            f"the heads take features of width {heads.width}, and these have {features.width}: "
            "they come from another teacher; train the heads on its features"
        )
    with track("finding concepts", total=len(rows), unit="pictures") as advance:
        for part in blocks(rows, _BLOCK):
            logits = heads.logits(features.take(part))
            yield part, {name: top_k(logits_NV, k) for name, logits_NV in logits.items()}
            advance(len(part))


def top_k(logits_NV: np.ndarray, k: int) -> TopK:
    """The largest `k` of each row, or all where there are fewer; of equal ones, the first."""
    k = min(k, logits_NV.shape[1])
    index_NK = _largest(logits_NV, k)
    logits_NK = np.take_along_axis(logits_NV, index_NK, axis=1).astype(np.float64)
    mass_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    mass_NK /= mass_NK.sum(axis=1, keepdims=True)
    order_NK = np.lexsort((index_NK, -mass_NK), axis=1)
    return TopK(
        np.take_along_axis(index_NK, order_NK, axis=1),
        np.take_along_axis(mass_NK, order_NK, axis=1),
    )


def _largest(logits_NV: np.ndarray, k: int) -> np.ndarray:
    """int64 (N, k): where they are, in any order."""
    kept = torch.topk(torch.from_numpy(logits_NV), k, dim=1)
    index_NK = kept.indices.numpy()
    least_N1 = kept.values[:, -1:].numpy()
    # Which of several equal ones topk takes is not said, so rows with a tie at the edge are sorted.
    tied_N = np.sum(logits_NV >= least_N1, axis=1) > k
    index_NK[tied_N] = np.argsort(-logits_NV[tied_N], axis=1, kind="stable")[:, :k]
    return index_NK


def _head_of(tensors: dict[str, Tensor], name: str) -> LinearHead:
    return LinearHead(tensors[f"{name}.weight"], tensors[f"{name}.bias"])
