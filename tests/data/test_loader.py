import hashlib
import os
import signal
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from data_makers import picture, sample_members, select_all, write_tar
from open_clip import SimpleTokenizer

from winnow.data.augmentation import Augmentation
from winnow.data.batch import Batch
from winnow.data.block_cache import BlockCache
from winnow.data.captions import CaptionChoice, Captions
from winnow.data.concept_targets import ConceptTargets, TargetFacts, write_targets
from winnow.data.images import evaluation_view, training_view
from winnow.data.keyed import hex_digits
from winnow.data.loader import image_random, load_batches
from winnow.data.mixture import Mixture
from winnow.data.order import Order
from winnow.data.selection import Selection, write_selection
from winnow.types import InputError, View

CROPS = Augmentation(crop_area=(0.5, 1.0))


def tokenize(captions: list[str]) -> torch.Tensor:
    digests = [hashlib.sha256(caption.encode()).digest()[:8] for caption in captions]
    return torch.tensor([list(digest) for digest in digests], dtype=torch.int32)


def first_8_bytes_of_sha256(data: bytes) -> int:
    return struct.unpack("<q", hashlib.sha256(data).digest()[:8])[0]


@pytest.fixture(scope="module")
def selection(tmp_path_factory) -> Selection:
    directory = tmp_path_factory.mktemp("loader")
    counts, shards = [17, 1, 30], []
    for shard, count in enumerate(counts):
        members = []
        for n in range(count):
            members += sample_members(f"{shard}-{n}", seed=100 * shard + n)
        shards.append(write_tar(directory / f"{shard}.tar", members))
    return select_all(shards, directory / "selection")


@pytest.fixture(scope="module")
def targets(selection, tmp_path_factory) -> ConceptTargets:
    """Of every pair: the concept number row % 7 with 3/4 of the mass, and its neighbour."""
    folder = tmp_path_factory.mktemp("targets")
    uids, rows = selection.table["uid"].to_pylist(), np.arange(len(selection))
    index = np.stack([rows % 7, (rows + 1) % 7], axis=1)
    mass = np.tile([0.75, 0.25], (len(rows), 1))
    facts = TargetFacts(
        selection="selection",
        selection_fingerprint=selection.fingerprint,
        vocabulary="v",
        teacher="t",
        teacher_identity="i",
        heads="h",
        sizes={"objects": 7},
        top_k=2,
    )
    write_targets(folder, [(uids, {"objects": (index, mass)})], facts)
    return ConceptTargets.open(folder)


@pytest.fixture(scope="module")
def mixture(selection, tmp_path_factory) -> Mixture:
    """The selection, and a fifth as often one of 7 pairs in a parquet file."""
    folder = tmp_path_factory.mktemp("mixture")
    images = [{"bytes": picture(n), "path": None} for n in range(7)]
    pairs = {"image": images, "text": [f"{n}" for n in range(7)]}
    pq.write_table(pa.table(pairs), folder / "0.parquet")
    small = select_all([str(folder / "0.parquet")], folder / "selection")
    return Mixture.of({"large": selection, "small": small}, {"large": 5, "small": 1})


def load(selection: Selection | Mixture, **options) -> list[Batch]:
    facts = {
        "tokenize": tokenize,
        "image_size": 16,
        "augmentation": CROPS,
        "workers": 0,
        "batch_size": 10,
        "first_step": 0,
        "last_step": 12,
        "image_ids": True,
    }
    if isinstance(selection, Mixture):
        order = selection.order(3)
    else:
        order = Order(shard_counts=selection.shard_counts, seed=3, run_length=8, window_runs=3)
    return list(load_batches(selection, order, **facts | options))


def tensors(batch: Batch) -> list[torch.Tensor]:
    targets = batch.targets or {}
    parts = [*batch._replace(targets=None), *(t for own in targets.values() for t in own)]
    return [part for part in parts if part is not None]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(tensors(left), tensors(right), strict=True)
    )


def test_a_batch_is_the_pairs_of_its_positions(selection):
    batches = load(selection)
    order = Order(shard_counts=selection.shard_counts, seed=3, run_length=8, window_runs=3)
    for step, batch in enumerate(batches):
        positions = np.arange(10 * step, 10 * step + 10)
        assert np.array_equal(batch.row_B.numpy(), order.rows(positions))
        samples = selection.samples(batch.row_B.numpy())
        assert torch.equal(batch.text_BT, tokenize([s.caption for s in samples]).long())
        for place, sample in enumerate(samples):
            start, size = sample.address.offset, sample.address.size
            data = Path(sample.shard).read_bytes()[start : start + size]
            epoch = int(positions[place]) // len(selection)
            random = image_random(seed=3, epoch=epoch, uid=sample.uid)
            expected = training_view(data, size=16, augmentation=CROPS, random=random)
            assert np.array_equal(batch.image_BCHW[place].numpy(), expected)
            assert int(batch.epoch_B[place]) == epoch
            assert int(batch.id_B[place]) % 2**64 == int(sample.uid[:16], 16)
            assert int(batch.image_id_B[place]) == first_8_bytes_of_sha256(data)
            tokens = batch.text_BT[place].numpy().tobytes().rstrip(b"\0")  # of no padding
            assert int(batch.caption_id_B[place]) == first_8_bytes_of_sha256(tokens)
    kinds = [tensor.dtype for tensor in tensors(batches[0])]
    assert kinds == [torch.uint8, *[torch.int64] * 7]
    assert batches[0].image_BCHW.shape == (10, 3, 16, 16)


def test_captions_and_pictures_share_an_id_where_they_are_the_same(tmp_path):
    """Captions by what the text tower reads of them, pictures by their bytes."""
    one_byte_off = picture(2)[:13] + b"\x02" + picture(2)[14:]  # the unit of a JPEG's resolution
    pictures = [picture(0), picture(0), picture(1), picture(2), one_byte_off]
    captions = ["a cat", "a dog", "A   Cat", "a cat on a mat", "a cat on a hat"]
    members = []
    for n, (data, caption) in enumerate(zip(pictures, captions, strict=True)):
        members += [(f"{n}.jpg", data), (f"{n}.txt", caption.encode())]
    selection = select_all([write_tar(tmp_path / "0.tar", members)], tmp_path / "selection")
    tokenize = SimpleTokenizer(context_length=5)  # start, three words, end
    (batch,) = load(selection, tokenize=tokenize, batch_size=5, last_step=1)
    by_row = batch.row_B.argsort()
    assert groups(batch.image_id_B[by_row]) == [0, 0, 2, 3, 4]
    assert groups(batch.caption_id_B[by_row]) == [0, 1, 0, 3, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_have_ids_where_they_are_asked_for(selection, workers):
    with_ids = load(selection, last_step=2, workers=workers)
    without = load(selection, last_step=2, workers=workers, image_ids=False)
    assert [batch.image_id_B for batch in without] == [None, None]
    for bare, whole in zip(without, with_ids, strict=True):
        assert same([bare._replace(image_id_B=whole.image_id_B)], [whole])


def groups(ids: torch.Tensor) -> list[int]:
    """For each id, where it occurs first."""
    return [ids.tolist().index(value) for value in ids.tolist()]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_stream_does_not_depend_on_the_workers(selection, targets, workers):
    alone = load(selection, targets=targets)
    assert len(tensors(alone[0])) == 10
    assert same(load(selection, workers=workers, targets=targets), alone)


@pytest.mark.parametrize("world_size", [2, 4, 5])
@pytest.mark.parametrize("kind", ["selection", "mixture"])
def test_the_ranks_together_see_what_one_process_sees(request, targets, kind, world_size):
    options = {"batch_size": 20, "last_step": 6}
    if kind == "selection":
        options["targets"] = targets
    data = request.getfixturevalue(kind)
    shares = [load(data, rank=r, world_size=world_size, **options) for r in range(world_size)]
    alone = load(data, **options)
    assert len(alone) == len(shares[0])
    for parts, whole in zip(zip(*shares, strict=True), alone, strict=True):
        joined = [torch.cat(split) for split in zip(*map(tensors, parts), strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(joined, tensors(whole), strict=True))


def test_targets_are_joined_by_uid_and_move_with_their_pairs(selection, targets):
    assert load(selection)[0].targets is None
    assert load(selection)[0].to(torch.device("meta")).source_B.is_meta
    for batch in load(selection, targets=targets):
        own = batch.targets["objects"]
        assert torch.equal(own.index_BK[:, 0], batch.row_B % 7)
        assert torch.equal(own.index_BK[:, 1], (batch.row_B + 1) % 7)
        torch.testing.assert_close(own.mass_BK, torch.tensor([[0.75, 0.25]] * 10))
        moved = batch.to(torch.device("meta"))
        assert moved.targets["objects"].mass_BK.is_meta and moved.image_BCHW.is_meta
        part = batch.targets_of(slice(2, 5))["objects"]
        assert torch.equal(part.index_BK, own.index_BK[2:5])


def test_a_pair_without_targets_stops_the_loading(selection, targets):
    without = replace(targets, rows=targets.rows[:-1])
    missing = hex_digits(targets.rows[-1:])[0]
    with pytest.raises(InputError, match=f"none for the sample {missing}"):
        load(selection, targets=without)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mixture_is_loaded_by_its_order(mixture, workers):
    """Each pair in its source's own epoch, which keys its view."""
    batches = load(mixture, workers=workers)
    places = mixture.order(3).places(np.arange(120))
    for name, expected in places._asdict().items():
        field = {"rows": "row_B", "epochs": "epoch_B", "sources": "source_B"}[name]
        assert torch.cat([getattr(b, field) for b in batches]).tolist() == expected.tolist()
    assert places.epochs[places.sources == 1].max() >= 2
    samples = mixture.samples(places.rows)
    images = torch.cat([batch.image_BCHW for batch in batches]).numpy()
    for sample, epoch, source, image in zip(*(samples, *places[1:], images), strict=True):
        if source == 1:
            random = image_random(seed=3, epoch=int(epoch), uid=sample.uid)
            data = picture(int(sample.caption))
            view = training_view(data, size=16, augmentation=CROPS, random=random)
            assert np.array_equal(image, view)


def test_one_source_mixed_with_nothing_is_that_source(selection):
    alone = Mixture.of({"a": selection})
    assert same(load(alone), list(load_as_trained(selection)))


def load_as_trained(selection: Selection):
    return load_batches(
        selection,
        selection.order(3),
        tokenize=tokenize,
        image_size=16,
        augmentation=CROPS,
        workers=0,
        batch_size=10,
        first_step=0,
        last_step=12,
        image_ids=True,
    )


@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_a_view_is_the_evaluations_and_the_same_every_epoch(selection, resize):
    view = View(size=16, resize=resize)
    batches = load(selection, augmentation=view, batch_size=len(selection), last_step=2, workers=1)
    for batch in batches:
        for sample, image in zip(
            selection.samples(batch.row_B.numpy()), batch.image_BCHW.numpy(), strict=True
        ):
            start, size = sample.address.offset, sample.address.size
            data = Path(sample.shard).read_bytes()[start : start + size]
            assert np.array_equal(image, evaluation_view(data, view=view))


def test_weights_come_with_their_pairs_and_of_all_or_of_none(selection, mixture, tmp_path):
    assert load(selection)[0].weight_B is None
    weight = np.linspace(0.125, 1, len(selection)).astype(np.float32)
    table = selection.table.append_column("weight", pa.array(weight))
    ends = np.cumsum(selection.shard_counts)
    parts = [table.slice(e - n, n) for e, n in zip(ends, selection.shard_counts, strict=True)]
    write_selection(tmp_path, list(selection.shards), parts, weighted=True)
    weighted = Selection.open(tmp_path)
    for batch in load(weighted):
        assert np.array_equal(batch.weight_B.numpy(), weight[batch.row_B.numpy()])
    both = Mixture.of({"large": weighted, "small": mixture.selections[1]}, {"large": 5, "small": 1})
    for batch in load(both):
        expected = np.where(batch.source_B == 0, np.resize(weight, len(both))[batch.row_B], 1)
        assert np.array_equal(batch.weight_B.numpy(), expected.astype(np.float32))


def test_captions_are_chosen_anew_in_every_epoch(selection, tmp_path):
    uids = selection.table["uid"].to_pylist()
    texts = [f"other {n}" for n in range(len(uids))]
    pq.write_table(pa.table({"uid": uids, "caption": texts}), tmp_path / "captions.parquet")
    captions = Captions.open(
        [str(tmp_path / "captions.parquet")], selection=selection, cache=tmp_path / "cache"
    )
    options = {"captions": captions, "choice": CaptionChoice(original=0.5), "last_step": 10}
    batches = load(selection, **options)
    others = 0
    for batch in batches:
        samples = selection.samples(batch.row_B.numpy())
        texts = captions.choose(
            samples, batch.epoch_B.numpy(), seed=3, choice=CaptionChoice(original=0.5)
        )
        assert torch.equal(batch.text_BT, tokenize(texts).long())
        others += sum(text.startswith("other") for text in texts)
    assert 30 < others < 70
    assert same(load(selection, workers=2, **options), batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_shards_are_read_through_the_cache(selection, tmp_path, workers):
    urls = [f"file://{shard}" for shard in selection.shards]
    remote = replace(selection, shards=tuple(urls))
    cache = BlockCache(folder=tmp_path / "cache", gigabytes=0.1)
    assert same(load(remote, workers=workers, cache=cache), load(selection))
    assert any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


@pytest.mark.parametrize("prefetch", [1, 5])
def test_how_far_workers_read_ahead_changes_nothing(selection, prefetch):
    assert same(load(selection, workers=2, prefetch=prefetch), load(selection))


@pytest.mark.parametrize("step", [1, 5, 11])
def test_what_is_loaded_from_a_step_on_is_the_tail_of_the_whole(selection, step):
    assert same(load(selection, first_step=step, workers=1), load(selection)[step:])


def test_an_epoch_holds_every_row_once_and_the_next_has_other_views(selection):
    size = len(selection)
    first, second = load(selection, batch_size=size, last_step=2)
    for batch in (first, second):
        assert torch.equal(batch.row_B.sort().values, torch.arange(size))
    one = first.image_BCHW[first.row_B.argsort()]
    other = second.image_BCHW[second.row_B.argsort()]
    assert (one != other).flatten(1).any(dim=1).float().mean() > 0.9


def test_chance_is_keyed_by_seed_epoch_and_every_digit_of_the_uid():
    keys = [(0, 0, "0" * 32), (1, 0, "0" * 32), (-1, 0, "0" * 32), (0, 1, "0" * 32)]
    keys += [(0, 0, "0" * 31 + "1"), (0, 0, "1" + "0" * 31), (0, 0, "f" * 32)]
    draws = {
        tuple(image_random(seed=s, epoch=e, uid=u).integers(2**32, size=4)) for s, e, u in keys
    }
    assert len(draws) == len(keys)
    again = image_random(seed=0, epoch=1, uid="0" * 32).integers(2**32, size=4)
    assert tuple(again) in draws


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_changed_since_the_ledger_names_shard_and_key(tmp_path, workers):
    members = sample_members("good", seed=1) + sample_members("bad", seed=2)
    shard = write_tar(tmp_path / "0.tar", members)
    selection = select_all([shard], tmp_path / "selection")
    damaged = bytearray(Path(shard).read_bytes())
    (address,) = (s.address for s in selection.samples(np.arange(2)) if s.address.key == "bad")
    damaged[address.offset : address.offset + address.size] = bytes(address.size)
    Path(shard).write_bytes(damaged)
    with pytest.raises(InputError, match=r"^\S+0\.tar: bad .*curate the shard again$"):
        load(selection, batch_size=2, workers=workers)
    Path(shard).unlink()
    with pytest.raises(InputError, match=r"0\.tar cannot be read"):
        load(selection, batch_size=2, workers=workers)


def test_parquet_and_tables_are_loaded_as_tars_are(tmp_path):
    images = [{"bytes": picture(n), "path": None} for n in range(8)]
    columns = {"image": images, "text": [f"{n}" for n in range(8)]}
    pq.write_table(pa.table(columns), tmp_path / "0.parquet", row_group_size=3)
    for n in range(8):
        (tmp_path / f"{n}.jpg").write_bytes(picture(n))
    lines = "".join(f"{n}.jpg,{n}\n" for n in range(8))
    (tmp_path / "t.csv").write_text("path,caption\n" + lines)
    members = [
        member
        for n in range(8)
        for member in ((f"{n}.jpg", picture(n)), (f"{n}.txt", str(n).encode()))
    ]
    shards = [
        str(tmp_path / "0.parquet"),
        str(tmp_path / "t.csv"),
        write_tar(tmp_path / "0.tar", members),
    ]
    loaded = [
        load(select_all([shard], tmp_path / f"selection {n}"), batch_size=8, last_step=2)
        for n, shard in enumerate(shards)
    ]
    assert same(loaded[0], loaded[1]) and same(loaded[1], loaded[2])


def open_in(folder):
    """How many files of a folder this process has open: other tests leave descriptors of theirs."""
    links = Path("/proc/self/fd").iterdir()
    return sum(os.path.realpath(link).startswith(f"{os.path.realpath(folder)}/") for link in links)


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_few_shards_are_open_at_once_and_none_afterwards(tmp_path):
    shards = [
        write_tar(tmp_path / f"{n:02d}.tar", sample_members(str(n), seed=n)) for n in range(40)
    ]
    selection = select_all(shards, tmp_path / "selection")
    open_files = []

    def count_open_files(captions: list[str]) -> torch.Tensor:
        open_files.append(open_in(tmp_path))
        return tokenize(captions)

    batches = load(selection, batch_size=40, last_step=2, tokenize=count_open_files)
    assert sorted(batches[1].row_B.tolist()) == list(range(40))
    assert 0 < max(open_files) <= 16
    assert open_in(tmp_path) == 0


def test_workers_leave_interrupts_to_the_main_process(selection):
    order = Order(shard_counts=selection.shard_counts, seed=3)
    batches = load_batches(
        selection,
        order,
        tokenize=interrupt_own_process,
        image_size=16,
        augmentation=CROPS,
        workers=1,
        batch_size=4,
        first_step=0,
        last_step=3,
    )
    assert len(list(batches)) == 3


def interrupt_own_process(captions: list[str]) -> torch.Tensor:
    os.kill(os.getpid(), signal.SIGINT)
    return tokenize(captions)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(selection):
    with pytest.raises(InputError, match="10 cannot be shared by 3"):
        load(selection, world_size=3)


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_draws_nothing_from_torchs_own_chance(selection, workers):
    """A resumed run starts its workers once more, and its dropout must not notice."""
    before = torch.get_rng_state()
    load(selection, workers=workers, last_step=1)
    assert torch.equal(torch.get_rng_state(), before)
