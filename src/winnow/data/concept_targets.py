"""Concept targets: for every picture, the concepts that a teacher finds most probable in it.

    targets.npy     a row per uid, sorted: the key, then of every head K concepts and their masses
    targets.json    TargetFacts, written last

A mass is kept in steps of 1 / 65,535, so rounded that those of a row make 1 exactly. With K = 10
and two heads a row takes 96 bytes: 48 per picture and head. The file is memory-mapped and processes
share its pages. Radenovic et al. (DiHT), CVPR 2023, arXiv 2301.02280, section 3.2.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from winnow.config import as_dict, from_dict, read_json, write_json
from winnow.data.files import sha256_of
from winnow.data.keyed import KeyConflictError, find, parse_uids, write_sorted
from winnow.types import InputError

TARGETS_FILE, FACTS_FILE = "targets.npy", "targets.json"
UNIT = 65_535
"""A mass of 1 on disk."""
TARGETS_VERSION = 1
"""Raised when the same heads and features can give other targets: they are then made again."""
MAX_CONCEPTS = 65_536
"""A concept is a uint16 on disk."""


class SparseTargets(NamedTuple):
    """Soft targets of some pictures over one vocabulary; concepts that are not named have none."""

    index_BK: torch.Tensor
    """int64, distinct in a row."""
    mass_BK: torch.Tensor
    """float32; a row sums to 1."""


@dataclass(frozen=True, kw_only=True)
class TargetFacts:
    """What targets are of, and who made them."""

    selection: str
    """Name of the selection whose pictures and captions they are made from."""
    selection_fingerprint: str
    vocabulary: str
    """Fingerprint of the two vocabularies."""
    teacher: str
    teacher_identity: str
    """Of its weights and its preprocessing."""
    heads: str
    """Fingerprint of the linear heads on the teacher's features."""
    sizes: dict[str, int]
    """Concepts in the vocabulary of every head."""
    top_k: int
    """Concepts kept of a picture, fewer where the vocabulary has fewer."""
    version: int = TARGETS_VERSION


@dataclass(frozen=True, kw_only=True)
class ConceptTargets:
    """The targets of one teacher for one selection."""

    folder: Path
    facts: TargetFacts
    sha256: str
    """Of all rows."""
    rows: np.ndarray
    """Memory-mapped, by key."""

    def __len__(self) -> int:
        return len(self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the file again instead of being sent what is in it.
        return _mapped, (self.folder, self.facts, self.sha256)

    def of(self, uids: Sequence[str]) -> dict[str, SparseTargets]:
        """The targets of every head for these samples, in their order.

        Raises InputError where one has none.
        """
        places = find(self.rows, parse_uids(pa.array(uids, pa.string()), where="the selection"))
        if (places < 0).any():
            missing = uids[int(np.flatnonzero(places < 0)[0])]
            raise InputError(
                f"the concept targets in {self.folder} have none for the sample {missing}: they "
                f"were made from another state of the selection {self.facts.selection!r}; make "
                "them again with `winnow concepts`"
            )
        found = self.rows[places]
        return {
            head: SparseTargets(
                torch.from_numpy(found[_index(head)].astype(np.int64)),
                torch.from_numpy(found[_mass(head)].astype(np.float32) / np.float32(UNIT)),
            )
            for head in self.facts.sizes
        }

    @classmethod
    def open(cls, folder: Path) -> "ConceptTargets":
        """The targets in `folder`. Raises InputError where there are none, or damaged ones."""
        if not (folder / FACTS_FILE).is_file():
            raise InputError(
                f"{folder} holds no concept targets ({FACTS_FILE} is missing): make them with "
                "`winnow concepts DIR --teacher NAME`"
            )
        stored = from_dict(_Stored, read_json(folder / FACTS_FILE), where=str(folder / FACTS_FILE))
        try:
            digest = sha256_of(folder / TARGETS_FILE)
        except OSError as error:
            raise _damaged(folder, str(error)) from error
        if digest != stored.sha256:
            raise _damaged(folder, f"its sha256 is not the one in {FACTS_FILE}")
        return _mapped(folder, stored.facts, stored.sha256)


def write_targets(
    folder: Path,
    batches: Iterable[tuple[Sequence[str], Mapping[str, tuple[np.ndarray, np.ndarray]]]],
    facts: TargetFacts,
) -> None:
    """Write the targets of `folder`, from batches of (uids, by head (concepts, masses)).

    Concepts are integers (n, K), distinct in a row; masses (n, K) sum to 1. Samples of one uid are
    exact copies and have the same. Raises InputError where they have not.
    """
    widths = {head: min(facts.top_k, size) for head, size in facts.sizes.items()}
    if max(facts.sizes.values()) > MAX_CONCEPTS:
        raise InputError(f"a vocabulary holds at most {MAX_CONCEPTS:,} concepts: {facts.sizes}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS_FILE).unlink(missing_ok=True)
    dtype = _dtype(widths)
    try:
        write_sorted(folder / TARGETS_FILE, _packed(batches, dtype), dtype=dtype)
    except KeyConflictError as error:
        raise InputError(
            f"two different pictures have the uid {error}: give every sample its own, or leave "
            "out `uid` from their json so that it is made from the content"
        ) from error
    stored = _Stored(facts=facts, sha256=sha256_of(folder / TARGETS_FILE))
    write_json(folder / FACTS_FILE, as_dict(stored))


def in_units(mass_NK: np.ndarray) -> np.ndarray:
    """uint16: masses in steps of 1 / UNIT, each rounded up or down so that a row sums to UNIT.

    The largest remainders go up (Hamilton's method); of equal ones the first.
    """
    exact = mass_NK.astype(np.float64) * (UNIT / mass_NK.sum(axis=1, keepdims=True, dtype=float))
    units = np.floor(exact)
    lacking = UNIT - units.sum(axis=1, keepdims=True)
    rank = np.argsort(np.argsort(units - exact, axis=1, kind="stable"), axis=1, kind="stable")
    return (units + (rank < lacking)).astype(np.uint16)


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What stands in `targets.json`."""

    facts: TargetFacts
    sha256: str


def _dtype(widths: Mapping[str, int]) -> np.dtype:
    heads = [
        field
        for head, width in widths.items()
        for field in ((_index(head), "<u2", (width,)), (_mass(head), "<u2", (width,)))
    ]
    return np.dtype([("f0", "<u8"), ("f1", "<u8"), *heads])


def _index(head: str) -> str:
    return f"{head}_index"


def _mass(head: str) -> str:
    return f"{head}_mass"


def _packed(
    batches: Iterable[tuple[Sequence[str], Mapping[str, tuple[np.ndarray, np.ndarray]]]],
    dtype: np.dtype,
) -> Iterator[np.ndarray]:
    for uids, heads in batches:
        keys = parse_uids(pa.array(uids, pa.string()), where="the selection")
        rows = np.empty(len(keys), dtype=dtype)
        rows["f0"], rows["f1"] = keys["f0"], keys["f1"]
        for head, (index_NK, mass_NK) in heads.items():
            rows[_index(head)] = index_NK
            rows[_mass(head)] = in_units(mass_NK)
        yield rows


def _mapped(folder: Path, facts: TargetFacts, sha256: str) -> ConceptTargets:
    rows = np.load(folder / TARGETS_FILE, mmap_mode="r", allow_pickle=False)
    return ConceptTargets(folder=folder, facts=facts, sha256=sha256, rows=rows)


def _damaged(folder: Path, detail: str) -> InputError:
    return InputError(
        f"{folder / TARGETS_FILE} is missing or damaged ({detail}): make it again with "
        "`winnow concepts`"
    )
