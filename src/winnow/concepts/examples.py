"""Three captions for every concept, to see what it was found in.

Of the distinct captions of its pairs those with the smallest hash: chance enough, and the same
whatever the order of the pairs.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from winnow.concepts import KeptRows
from winnow.concepts.candidates import Candidates, check_number
from winnow.progress import track

NUM_EXAMPLES = 3
LONGEST = 200
"""Characters of a caption that are shown."""

_Found = list[tuple[int, str]]


def find_examples(
    rows: KeptRows, candidates: dict[str, Candidates], place: dict[str, np.ndarray]
) -> dict[str, list[list[str]]]:
    """Up to three captions for every place of every head; see `Candidates.places`.

    Goes through the captions once more. Raises InputError where they are not as many as before.
    """
    found = {head: _Smallest(int(where.max(initial=-1)) + 1) for head, where in place.items()}
    total = len(next(iter(candidates.values())))
    start = 0
    with track("examples", total=total, unit="pairs") as advance:
        for batch in rows():
            stop = start + batch.num_rows
            if stop > total:
                check_number(stop, total)
            captions = batch["caption"].to_pylist()
            hashes = np.fromiter(map(caption_hash, captions), np.uint64, len(captions))
            for head, smallest in found.items():
                pair, concept = candidates[head].places(place[head], start, stop)
                smallest.add(concept, hashes[pair], pair, captions)
            advance(batch.num_rows)
            start = stop
    check_number(start, total)
    return {head: list(smallest.captions()) for head, smallest in found.items()}


def caption_hash(caption: str) -> int:
    """The order in which captions are taken for examples: 64 bits of blake2b."""
    return int.from_bytes(hashlib.blake2b(caption.encode(), digest_size=8).digest(), "big")


class _Smallest:
    """The captions with the smallest hashes, for each of `size` places."""

    def __init__(self, size: int) -> None:
        self._found: list[_Found] = [[] for _ in range(size)]
        # The largest hash that stands among them, so that few pairs need a look.
        self._worst = np.full(size, np.iinfo(np.uint64).max, dtype=np.uint64)

    def add(
        self, concept: np.ndarray, hashes: np.ndarray, pair: np.ndarray, captions: Sequence[str]
    ) -> None:
        """Take in that the captions of `pair`, with `hashes`, have `concept`."""
        for n in np.flatnonzero(hashes < self._worst[concept]):
            place, entry = concept[n], (int(hashes[n]), captions[pair[n]])
            found = self._found[place]
            if entry in found:
                continue
            self._found[place] = found = sorted([*found, entry])[:NUM_EXAMPLES]
            if len(found) == NUM_EXAMPLES:
                self._worst[place] = found[-1][0]

    def captions(self) -> Iterator[list[str]]:
        """Of each place, by hash."""
        for found in self._found:
            yield [caption[:LONGEST] for _, caption in found]
