"""A sample of a data set: which pairs it is of, and what is counted of them."""

import hashlib

import numpy as np
import pytest
from data_makers import picture, sample_members, select_all, write_tar

from winnow.data.augmentation import Augmentation
from winnow.data.images import ImageFacts
from winnow.data.inspection import (
    LookedAt,
    as_selection,
    caption_facts,
    choose_shards,
    look_at_selection,
    look_at_shards,
    picture_facts,
    read_sizes,
)
from winnow.data.ledger import Address
from winnow.data.loader import load_batches
from winnow.data.order import Order
from winnow.data.sources import open_reader, open_source
from winnow.types import InputError


def count(advanced):
    return lambda number: advanced.append(number)


@pytest.fixture
def folder(tmp_path):
    """Three shards of six pairs; those of the first have uids, one picture of the second is cut."""
    for shard in range(3):
        members = []
        for index in range(6):
            key = f"{shard}{index:04d}"
            seed = 0 if index < 2 else shard * 10 + index
            extra = {"uid": f"{shard:016x}{index:016x}"} if shard == 0 else {}
            image, text, metadata = sample_members(key, seed, **extra)
            if (shard, index) == (1, 3):
                image = (image[0], image[1][:200])
            members += [image, text, metadata]
        write_tar(tmp_path / f"{shard:05d}.tar", members)
    return tmp_path


def test_the_first_and_the_last_shard_and_others_by_a_hash_are_looked_into():
    shards = [f"{index:05d}.tar" for index in range(100)]
    chosen = choose_shards(shards, most=8, seed=3)
    hashes = {name: hashlib.sha256(f"3\0{name}".encode()).digest() for name in shards[1:-1]}
    expected = {shards[0], shards[-1], *sorted(hashes, key=hashes.__getitem__)[:6]}
    assert chosen == tuple(sorted(expected))
    assert choose_shards(shards, most=8, seed=4) != chosen
    assert choose_shards(shards[:3], most=8, seed=3) == tuple(shards[:3])
    assert choose_shards(shards[:1], most=8, seed=3) == (shards[0],)


def test_pairs_of_shards_are_read_as_they_stand_there(folder):
    source, advanced = open_source(str(folder)), []
    looked = look_at_shards(source, samples=13, seed=0, advance=count(advanced))
    assert len(looked.pairs) == sum(advanced) == 15
    assert looked.how == "the first 5 pairs of each of 3 of 3 shards"
    assert [pair.address.key for pair in looked.pairs[:5]] == [f"0{i:04d}" for i in range(5)]
    assert [pair.has_uid for pair in looked.pairs] == [True] * 5 + [False] * 10
    assert looked.pairs[1].uid == f"{0:016x}{1:016x}"
    by_key = {pair.address.key: pair for pair in looked.pairs}
    assert by_key["10003"].error.startswith("truncated picture")
    assert by_key["10003"].picture is None and by_key["10003"].caption == "caption of 10003"
    assert by_key["10000"].digest == hashlib.sha256(picture(0)).digest()
    assert by_key["10000"].picture[:3] == (64, 48, "jpeg")
    assert looked.unreadable == {}


def test_a_shard_that_cannot_be_read_is_named_and_the_others_are_looked_into(folder):
    source = open_source(str(folder))
    (folder / "00001.tar").unlink()
    looked = look_at_shards(source, samples=6, seed=0, advance=lambda number: None)
    assert [shard.rpartition("/")[2] for shard in looked.unreadable] == ["00001.tar"]
    assert len(looked.pairs) == 4


def test_a_selection_is_looked_at_in_the_order_of_training(folder):
    shards = [str(folder / "00000.tar"), str(folder / "00002.tar")]
    selection = select_all(shards, folder / "selection")
    looked = look_at_selection(selection, samples=5, seed=7, advance=lambda number: None)
    rows = Order(shard_counts=selection.shard_counts, seed=7).rows(np.arange(5))
    assert {pair.uid for pair in looked.pairs} == {one.uid for one in selection.samples(rows)}
    assert all(pair.error is None and pair.picture is not None for pair in looked.pairs)
    everything = look_at_selection(selection, samples=99, seed=7, advance=lambda number: None)
    assert len(everything.pairs) == 12
    assert everything.how == "the first 12 of 12 pairs in the order of training"


def test_what_a_selection_has_lost_is_noticed(folder):
    shards = [str(folder / "00000.tar"), str(folder / "00002.tar")]
    selection = select_all(shards, folder / "selection")
    (folder / "00002.tar").unlink()
    looked = look_at_selection(selection, samples=12, seed=0, advance=lambda number: None)
    assert list(looked.unreadable) == [shards[1]]
    assert {pair.shard for pair in looked.pairs} == {shards[0]}


def test_what_was_looked_at_can_be_loaded(folder, tmp_path):
    source = open_source(str(folder))
    looked = look_at_shards(source, samples=18, seed=0, advance=lambda number: None)
    selection = as_selection(looked, source, tmp_path / "looked-at")
    readable = [pair for pair in looked.pairs if pair.error is None]
    assert len(selection) == len(readable) == 17
    with open_reader(readable[7].shard) as reader:
        data = reader.read(readable[7].address)
    assert hashlib.sha256(data).digest() == readable[7].digest
    batches = load_batches(
        selection,
        Order(shard_counts=selection.shard_counts, seed=0),
        tokenize=lambda captions: np.zeros((len(captions), 3)),
        image_size=16,
        augmentation=Augmentation(),
        workers=0,
        batch_size=17,
        first_step=0,
        last_step=1,
    )
    (batch,) = batches
    assert sorted(batch.row_B.tolist()) == list(range(17))


def test_nothing_readable_is_said_with_the_reason(tmp_path):
    write_tar(tmp_path / "00000.tar", [("a.jpg", b"no picture"), ("a.txt", b"a cat")])
    source = open_source(str(tmp_path))
    looked = look_at_shards(source, samples=2, seed=0, advance=lambda number: None)
    with pytest.raises(InputError, match=r"none of the 1 pairs .* unknown picture format"):
        as_selection(looked, source, tmp_path / "looked-at")


def test_sizes_are_asked_for_without_reading(folder):
    shards = open_source(str(folder)).shards
    sizes = read_sizes([*shards, str(folder / "gone.tar")])
    assert sizes == {shard: (folder / shard).stat().st_size for shard in shards}


def test_captions_are_counted():
    captions = ["a", "b b", "A ", "  ", "c c c c", "b  b"]
    facts = caption_facts(captions, count_tokens=lambda text: len(text.split()), context_length=4)
    assert facts.count == 6
    assert facts.empty == 1
    assert facts.tokens == (2, 3, 6)  # of 2, 3, 3, 4, 4 and 6
    assert facts.cut == 1
    assert facts.repeated == 2
    assert facts.most_frequent == (("a", 2), ("b b", 2))


def pair(*, width=100, height=80, kind="jpeg", num_bytes=1000, digest=b"x", error=None):
    picture = None if error else ImageFacts(width, height, kind, None)
    return LookedAt(
        shard="a.tar",
        address=Address("k", 0, num_bytes),
        uid="0" * 32,
        caption="a cat",
        num_bytes=num_bytes,
        digest=digest,
        picture=picture,
        error=error,
        has_uid=False,
    )


def test_pictures_are_counted():
    pairs = [
        pair(digest=b"a"),
        pair(digest=b"a", num_bytes=3000),
        pair(digest=b"b", width=40, kind="png"),
        pair(digest=b"c", error="truncated picture: 3 bytes"),
        pair(digest=b"c", error="empty picture: 0 bytes"),
        pair(digest=b"c", error="truncated picture: 5 bytes"),
    ]
    facts = picture_facts(pairs, image_size=48)
    assert facts.count == 3
    assert facts.failures == {"truncated picture": 2, "empty picture": 1}
    assert facts.formats == {"jpeg": 2, "png": 1}
    assert facts.sides == (100, 80)
    assert facts.kilobytes == pytest.approx(5 / 3)
    assert facts.small == 1
    assert facts.copies == 1
