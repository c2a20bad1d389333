"""Near duplicates: another file of the same picture, encoded anew, scaled or shifted a little."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from winnow.curation.corpus import Corpus
from winnow.curation.hamming import check_radius
from winnow.curation.ledger_files import PLACE, describe_place
from winnow.curation.rules.rule import Measure, Rule


@dataclass(frozen=True, kw_only=True)
class NearDuplicate(Rule):
    """Drops pictures whose perceptual hash is near that of one that is kept, in ledger order.

    Near is not transitive. A picture is compared with those before it that are kept, never with
    dropped ones; so each reason names a kept pair whose hash really is that near. Pictures that are
    almost one colour have no hash and are never dropped. It belongs behind the rules on captions,
    as DuplicatePicture does, whose copies it finds too.
    """

    codes: ClassVar[tuple[str, ...]] = ("near-duplicate",)
    asks_corpus: ClassVar[bool] = True

    radius: int = 2
    """In how many of 64 bits two hashes may differ, 0 to 10."""

    def __post_init__(self) -> None:
        check_radius(self.radius, of="NearDuplicate")

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule."""
        kept = corpus.kept_near(rows, radius=self.radius)
        found = zip(
            kept.places.tolist(),
            rows[PLACE].to_pylist(),
            kept.uids.to_pylist(),
            kept.distances.tolist(),
            strict=True,
        )
        reasons = [
            f"near-duplicate: of {describe_place(place)}, uid {uid}, {distance} of 64 bits differ"
            if place not in (-1, own)
            else None
            for place, own, uid, distance in found
        ]
        return pa.array(reasons, type=pa.string())

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        """See Rule. Null where no other picture that is kept is within the radius."""
        kept = corpus.kept_near(rows, radius=self.radius)
        is_own = (kept.places == -1) | (kept.places == rows[PLACE].to_numpy())
        distances = pa.array(kept.distances, mask=is_own)
        return (Measure("bits from a kept picture", distances, least=self.radius + 1),)
