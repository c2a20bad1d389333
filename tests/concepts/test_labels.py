import numpy as np
import pyarrow as pa
import pytest
from parsed_captions import build, pairs, table

from winnow.concepts import HEADS
from winnow.concepts.candidates import CHUNK
from winnow.concepts.labels import LABELS_FILE, Labels
from winnow.types import InputError

NAMES = np.array([f"thing {n}" for n in range(1000)])


def many(count: int) -> tuple[pa.Table, np.ndarray]:
    """Pairs whose row says their objects, null for every seventh; made without a loop."""
    row = np.arange(count)
    named = np.stack([row % 1000, row % 900, (row * row) % 800])
    lemma = pa.array(NAMES[named.T.ravel()])
    said = pa.ListArray.from_arrays(np.arange(0, 3 * count + 1), pa.array(["red"] * 3 * count))
    objects = pa.StructArray.from_arrays(
        [lemma, lemma, said, *[pa.array(np.zeros(3 * count, np.int32))] * 2],
        names=["text", "lemma", "attributes", "start", "end"],
    )
    nulls = pa.array(row % 7 == 0)
    lists = pa.ListArray.from_arrays(
        pa.array(np.arange(0, 3 * count + 1, 3, np.int32)), objects, mask=nulls
    )
    uid = pa.array([f"{n:032x}" for n in row])
    return pa.table({"uid": uid, "sha256": uid, "caption": uid, "objects": lists}), named.T


def test_the_labels_of_more_than_a_chunk_of_pairs(tmp_path):
    count = CHUNK + 5000
    rows, named_N3 = many(count)
    built = build(tmp_path, rows, batch_size=32_768, min_count=50)
    labels = Labels.open(tmp_path, built)
    assert len(labels) == count and labels.table["objects"].num_chunks == 2
    offsets, values = labels.head("objects")
    assert offsets.dtype == np.int64 and values.dtype == np.uint16
    assert offsets[0] == 0 and offsets[-1] == len(values) and len(offsets) == count + 1
    position = {concept: n for n, concept in enumerate(built.concepts["objects"])}
    assert len(position) == 1000
    place = np.array([position[name] for name in NAMES])
    for row in [0, 1, 6, 7, 8, CHUNK - 1, CHUNK, CHUNK + 1, count - 1]:
        expected = [] if row % 7 == 0 else sorted({place[n] for n in named_N3[row]})
        assert values[offsets[row] : offsets[row + 1]].tolist() == expected
    assert np.bincount(values, minlength=1000).tolist() == built.counts["objects"].tolist()
    red = labels.head("attributes")
    assert np.diff(red.offsets_N1).tolist() == [int(row % 7 != 0) for row in range(count)]
    build(tmp_path / "other", rows, batch_size=9_999, min_count=50)
    assert (tmp_path / LABELS_FILE).read_bytes() == (tmp_path / "other" / LABELS_FILE).read_bytes()


def test_lists_are_ascending_and_distinct(tmp_path):
    found = pairs("red big red+cat, dog, cat", "big+dog, red+cat", "dog", times=5)
    built = build(tmp_path, found)
    labels = Labels.open(tmp_path, built)
    assert built.concepts == {"objects": ("dog", "cat"), "attributes": ("big", "red")}
    assert labels.table["objects"].to_pylist() == [[0, 1], [0, 1], [0]] * 5
    assert labels.table["attributes"].to_pylist() == [[0, 1], [0, 1], []] * 5
    assert labels.head("attributes").offsets_N1.tolist()[:5] == [0, 2, 4, 4, 6]


def test_they_lie_in_the_file_as_they_are(tmp_path):
    built = build(tmp_path, many(20_000)[0])
    size = (tmp_path / LABELS_FILE).stat().st_size
    assert size > 2 * 20_000 * 4 + 2 * (built.counts["objects"].sum() + 20_000 * 6 // 7)
    # Nothing of a memory-mapped file is in Arrow's memory.
    before = pa.total_allocated_bytes()
    labels = Labels.open(tmp_path, built)
    assert pa.total_allocated_bytes() - before < 4096 and len(labels) == 20_000
    assert labels.table.schema.names == list(HEADS)
    assert set(labels.table.schema.types) == {pa.list_(pa.uint16())}


def beyond(path):
    with pa.ipc.open_file(path) as file:
        schema = file.schema
        columns = [pa.array([[0], [7], [0], [0], [0]], pa.list_(pa.uint16()))] * 2
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        beyond,
    ],
)
def test_damaged_ones_are_refused(tmp_path, damage):
    built = build(tmp_path, pairs("red+cat", times=5))
    damage(tmp_path / LABELS_FILE)
    with pytest.raises(InputError, match=r"labels.arrow.*damaged.*`winnow concepts DIR`"):
        Labels.open(tmp_path, built).head("objects")


def test_those_of_another_vocabulary_are_refused(tmp_path):
    built = build(tmp_path, pairs("red+cat", times=5))
    for found in (pairs("red+cat, dog", times=5), pairs("red+cat", times=6)):
        build(tmp_path / "other", found)
        (tmp_path / LABELS_FILE).write_bytes((tmp_path / "other" / LABELS_FILE).read_bytes())
        with pytest.raises(InputError, match="its sha256 is not the one that the vocabulary names"):
            Labels.open(tmp_path, built)
    # They are made again, though the vocabulary itself is whole.
    again = build(tmp_path, pairs("red+cat", times=5))
    assert len(Labels.open(tmp_path, again)) == 5


def test_a_caption_that_names_nothing_has_no_labels(tmp_path):
    rows = table([("...", []), *pairs("red+cat", times=5)])
    assert rows["objects"].null_count == 1
    built = build(tmp_path, rows)
    assert Labels.open(tmp_path, built).head("objects").offsets_N1.tolist() == [0, 0, 1, 2, 3, 4, 5]
