import itertools
import re

import numpy as np
import pyarrow as pa
import pytest
from curation_samples import ledger_rows

from winnow.curation.corpus import Corpus
from winnow.curation.ledger_files import PLACE
from winnow.curation.rules.caption_duplicate import CaptionDuplicate
from winnow.curation.rules.near_duplicate import NearDuplicate
from winnow.types import InputError

OF = re.compile(r"near-duplicate: of row (\d+) of (\d{5}), uid (\w{32}), (\d+) of 64 bits differ")


def rows_with(hashes: list[int | None], *, number: int = 0, captions=None) -> pa.RecordBatch:
    samples = [{"caption": captions[i] if captions else f"caption {i}"} for i in range(len(hashes))]
    rows = ledger_rows(*samples, number=number)
    column = rows.schema.get_field_index("picture_hash")
    return rows.set_column(column, "picture_hash", pa.array(hashes, pa.uint64()))


def judged(*batches: pa.RecordBatch, radius: int) -> dict[int, str | None]:
    """The verdicts by PLACE; the batches are the whole corpus."""
    corpus = Corpus(lambda: batches)
    rule = NearDuplicate(radius=radius)
    return {
        place: reason
        for rows in batches
        for place, reason in zip(
            rows[PLACE].to_pylist(), rule.verdicts(rows, corpus).to_pylist(), strict=True
        )
    }


def crowd(seed: int, count: int) -> list[int | None]:
    random = np.random.default_rng(seed)
    centres = random.integers(0, 1 << 63, count // 6, dtype=np.uint64)
    hashes: list[int | None] = []
    for _ in range(count):
        value = int(random.choice(centres))
        for bit in random.integers(0, 64, random.integers(0, 5)):
            value ^= 1 << int(bit)
        hashes.append(value if random.random() > 0.05 else None)
    return hashes


def test_a_chain_is_dropped_by_what_is_kept_not_by_what_is_dropped():
    chain = [0b0, 0b1, 0b11, 0b111, 0b1111]
    rows = rows_with(chain)
    uids = rows["uid"].to_pylist()
    assert list(judged(rows, radius=1).values()) == [
        None,
        f"near-duplicate: of row 0 of 00000, uid {uids[0]}, 1 of 64 bits differ",
        None,
        f"near-duplicate: of row 2 of 00000, uid {uids[2]}, 1 of 64 bits differ",
        None,
    ]


@pytest.mark.parametrize("radius", [0, 2, 5])
def test_every_dropped_row_names_a_kept_one_that_near_in_whatever_order_the_shards_come(radius):
    shards = [crowd(seed, 70) for seed in (1, 1, 2)]
    kept_by_order = set()
    for order in itertools.permutations(range(3)):
        batches = [rows_with(shards[of], number=number) for number, of in enumerate(order)]
        verdicts = judged(*batches, radius=radius)
        hashes, uids = {}, {}
        for rows in batches:
            for row in rows.to_pylist():
                hashes[row[PLACE]], uids[row[PLACE]] = row["picture_hash"], row["uid"]
        kept = [place for place, reason in verdicts.items() if reason is None]
        for place, reason in verdicts.items():
            if reason is not None:
                row, number, uid, distance = OF.fullmatch(reason).groups()
                named = (int(number) << 32) + int(row)
                assert named in kept and uids[named] == uid
                assert (hashes[named] ^ hashes[place]).bit_count() == int(distance) <= radius
                assert any(
                    (hashes[k] ^ hashes[place]).bit_count() <= radius
                    for k in kept
                    if k < place and hashes[k] is not None
                )
        for one, other in itertools.combinations([hashes[k] for k in kept if hashes[k]], 2):
            assert (one ^ other).bit_count() > radius
        kept_by_order.add(len(kept))
        assert all(verdicts[place] is None for place, value in hashes.items() if value is None)
    assert min(kept_by_order) > 10


def test_verdicts_do_not_depend_on_how_rows_are_batched():
    hashes = crowd(3, 120)
    whole = rows_with(hashes)
    expected = list(judged(whole, radius=3).values())
    assert 10 < sum(reason is not None for reason in expected) < 110
    for size in (1, 7, 50):
        pieces = [whole.slice(start, size) for start in range(0, 120, size)]
        assert list(judged(*pieces, radius=3).values()) == expected


def test_rows_outside_the_corpus_are_compared_with_what_is_kept_in_it():
    inside, outside = rows_with([0b0, 0b1]), rows_with([0b10, 1 << 40 | 0b11111], number=1)
    reasons = NearDuplicate(radius=1).verdicts(outside, Corpus(lambda: [inside]))
    assert reasons[0].as_py().startswith("near-duplicate: of row 0 of 00000")
    assert reasons[1].as_py() is None
    assert NearDuplicate().verdicts(outside, Corpus(list)).to_pylist() == [None, None]


def test_the_measure_is_the_distance_to_another_picture_that_is_kept():
    rows = rows_with([0b0, 0b11, None, 0xFF << 50, 0b0])
    (measure,) = NearDuplicate(radius=2).measures(rows, Corpus(lambda: [rows]))
    assert measure.values.to_pylist() == [None, 2, None, None, 0]
    assert measure.least == 3


@pytest.mark.parametrize("radius", [-1, 11])
def test_a_radius_out_of_range_is_refused(radius):
    with pytest.raises(InputError, match=r"NearDuplicate\(radius="):
        NearDuplicate(radius=radius)


def test_one_pair_per_caption_keeps_the_first_and_names_it():
    captions = ["A  red apple", "two pears", "a red apple", "a red apple"]
    rows = rows_with([None] * 4, captions=captions)
    corpus = Corpus(lambda: [rows])
    of = f"caption-duplicate: of row 0 of 00000, uid {rows['uid'][0]}"
    assert CaptionDuplicate().verdicts(rows, corpus).to_pylist() == [None, None, of, of]
    (measure,) = CaptionDuplicate().measures(rows, corpus)
    assert measure.values.to_pylist() == [3, 1, 3, 3]
    later = Corpus(lambda: [rows.slice(1)])
    assert (
        CaptionDuplicate()
        .verdicts(rows, later)[0]
        .as_py()
        .startswith("caption-duplicate: of row 2 of 00000")
    )
