import io
import pickle

import numpy as np
import pytest
from PIL import Image
from set_makers import (
    NAMES,
    TEMPLATES,
    captioned,
    emoji,
    joined,
    labelled,
    write_lists,
    write_shards,
    write_tar,
    write_webdataset,
)

from winnow.evaluation.sets import MissingSetError, open_set, splits_of
from winnow.types import InputError

FIRST, SECOND = emoji()[0], emoji()[7]


def npy(values) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


def write_set(folder, members, *, kind=None):
    if kind:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dataset_type.txt").write_text(kind + "\n")
    return write_shards(write_lists(folder), [members])


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def test_a_set_holds_what_its_files_say(webdataset):
    found = open_set(webdataset)
    assert (found.name, found.split, found.num_samples) == ("emoji-tars", "test", 12)
    assert (found.label_kind, found.has_captions, found.has_statements) == ("single", True, False)
    assert (found.classnames, found.templates) == (NAMES, TEMPLATES)
    for samples in (list(found.samples()), list(found.samples())):
        assert [s.key for s in samples] == [one.name for one in emoji()]
        assert [s.image for s in samples] == [one.png for one in emoji()]
        assert [s.labels for s in samples] == [(one.label,) for one in emoji()]
        assert [s.captions for s in samples] == [one.captions for one in emoji()]
    assert splits_of(webdataset) == ("test", "train")
    train = open_set(webdataset, split="train", name="other")
    assert (train.name, [s.labels for s in train.samples()]) == ("other", [(0,), (1,)])


class Drawings(list):
    """What clip-benchmark's writer takes."""

    def __init__(self, samples):
        super().__init__(samples)
        self.classes, self.templates = list(NAMES), list(TEMPLATES)


@pytest.fixture
def builder(monkeypatch):
    """clip-benchmark's writer, in this process instead of eight others."""
    module = pytest.importorskip("clip_benchmark.webdataset_builder")
    monkeypatch.setattr(
        module.torch.utils.data, "DataLoader", lambda data, **_: (sample for sample in data)
    )
    return module


@pytest.mark.parametrize("suffix", ["webp", "png", "jpg"])
def test_what_clip_benchmark_writes_is_read(tmp_path, builder, suffix):
    transform = builder.PIL_to_bytes(suffix)
    encoded = [transform(Image.open(io.BytesIO(one.png)).convert("RGB")) for one in emoji()]
    drawings = Drawings((e, one.label) for e, one in zip(encoded, emoji(), strict=True))
    builder.convert_dataset(
        drawings, "test", str(tmp_path), image_format=suffix, max_count=5, verbose=False
    )
    found = open_set(tmp_path)
    assert (found.classnames, found.templates) == (NAMES, TEMPLATES)
    samples = list(found.samples())
    assert [s.image for s in samples] == encoded
    assert [s.labels for s in samples] == [(one.label,) for one in emoji()]
    assert samples[11].key == "s0000011"


def test_what_clip_benchmark_writes_of_several_labels_is_read(tmp_path, builder):
    hot = [np.isin(np.arange(6), (n % 6, n // 2)).astype(np.float32) for n in range(12)]
    data = Drawings((one.png, h) for one, h in zip(emoji(), hot, strict=True))
    options = {"image_format": "png", "max_count": 5, "verbose": False}
    builder.convert_dataset(data, "test", str(tmp_path), multilabel=True, **options)
    found = open_set(tmp_path)
    assert (found.label_kind, found.classnames) == ("multi", NAMES)
    labels = [tuple(np.flatnonzero(h).tolist()) for h in hot]
    assert [s.labels for s in found.samples()] == labels


def test_what_clip_benchmark_writes_of_captions_is_read(tmp_path, builder):
    data = Drawings((one.png, list(one.captions)) for one in emoji())
    options = {"image_format": "png", "max_count": 5, "verbose": False}
    builder.convert_retrieval_dataset(data, "test", str(tmp_path), **options)
    found = open_set(tmp_path)
    assert (found.label_kind, found.classnames, found.templates) == ("none", (), ())
    assert [s.captions for s in found.samples()] == [one.captions for one in emoji()]


@pytest.mark.parametrize("kind", ["classification", "retrieval", "multilabel"])
def test_clip_benchmark_reads_of_ours_what_we_read(tmp_path, kind):
    build = pytest.importorskip("clip_benchmark.datasets.builder").build_wds_dataset
    members = []
    for number, one in enumerate(emoji()):
        hot = npy(np.isin(np.arange(6), (number % 6, 3)))
        members.append([*labelled(one), captioned(one)[1], (f"{one.name}.npy", hot)])
    write_set(tmp_path, [], kind=kind)
    write_shards(tmp_path, [joined(members[:5]), joined(members[5:])])
    theirs = build("emoji", np.asarray, split="test", data_dir=str(tmp_path))
    ours = open_set(tmp_path)
    assert list(ours.classnames) == (theirs.classes or [])
    assert list(ours.templates) == (theirs.templates or [])
    count = 0
    for sample, (picture, target) in zip(ours.samples(), theirs, strict=True):
        count += 1
        assert np.array_equal(pixels(sample.image), picture[..., :3])
        if kind == "classification":
            assert sample.labels == (target,)
        elif kind == "retrieval":
            assert list(sample.captions) == target
        else:
            assert sample.labels == tuple(np.flatnonzero(target))
    assert count == 12


def test_a_text_file_holds_one_caption_a_line(tmp_path):
    folder = write_set(tmp_path, [*labelled(FIRST), (f"{FIRST.name}.txt", b"a\n\n two b \r\n")])
    found = open_set(folder)
    assert next(found.samples()).captions == ("a", "two b")
    assert found.captions_each == (2, 2)


def test_a_picture_may_have_none_of_several_labels(tmp_path):
    hot = (f"{FIRST.name}.npy", npy([0, 0, 0, 0, 0, 0]))
    folder = write_set(tmp_path, [labelled(FIRST)[0], hot], kind="multilabel")
    assert next(open_set(folder).samples()).labels == ()


def test_only_trailing_blank_class_names_are_dropped(tmp_path):
    folder = write_set(tmp_path, labelled(FIRST))
    (folder / "classnames.txt").write_text("\ufeffcat\r\n\r\n dog \n\n\n", encoding="utf-8")
    assert open_set(folder).classnames == ("cat", "", "dog")


def test_the_fingerprint_is_of_the_samples_not_of_tars_names_or_prompts(webdataset, tmp_path):
    first = open_set(webdataset).fingerprint
    second = open_set(write_webdataset(tmp_path / "again", per_tar=12)).fingerprint
    write_lists(webdataset, names=[f"a {name}" for name in NAMES], templates=["{c}!"])
    assert first == second == open_set(webdataset).fingerprint


@pytest.mark.parametrize("what", ["picture", "label", "caption", "key", "order"])
def test_the_fingerprint_changes_with(tmp_path, what):
    one, two = [*captioned(FIRST), labelled(FIRST)[1]], [*captioned(SECOND), labelled(SECOND)[1]]
    name = FIRST.name
    changed = {
        "picture": [(f"{name}.png", emoji()[6].png), *one[1:]],
        "label": [*one[:2], (f"{name}.cls", b"5")],
        "caption": [one[0], (f"{name}.txt", b"other words"), one[2]],
        "key": [("other" + member[len(name) :], data) for member, data in one],
    }
    before = open_set(write_set(tmp_path / "before", one + two)).fingerprint
    members = two + one if what == "order" else changed.get(what, one) + two
    assert open_set(write_set(tmp_path / "after", members)).fingerprint != before


def test_the_fingerprint_changes_with_one_of_several_labels(tmp_path):
    found = set()
    for hot in ([1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]):
        folder = tmp_path / "".join(map(str, hot))
        members = [labelled(FIRST)[0], (f"{FIRST.name}.npy", npy(hot))]
        found.add(open_set(write_set(folder, members, kind="multilabel")).fingerprint)
    assert len(found) == 3


def test_a_missing_set_says_how_to_get_one(tmp_path):
    with pytest.raises(MissingSetError, match=r"nshards.txt is missing.*winnow demo.*wds_"):
        open_set(tmp_path)


def test_a_missing_split_names_those_that_are_there(webdataset):
    with pytest.raises(MissingSetError, match="has no split 'val': it has test, train"):
        open_set(webdataset, split="val")


NAME = FIRST.name
PNG, CLS = labelled(FIRST)
BROKEN = {
    r"0\.tar, sample twemoji-1f34c has no picture": [CLS],
    r"0\.tar, sample twemoji-1f34c has no label": [PNG],
    r"twemoji-1f34c occurs twice": [PNG, CLS, *labelled(SECOND), PNG, CLS],
    r"has a caption \(\.txt\) that is not UTF-8": [PNG, CLS, (f"{NAME}.txt", b"\xff\xfe")],
    r"only 1 of 2 pictures have a caption": [PNG, CLS, captioned(FIRST)[1], *labelled(SECOND)],
    r"holds no picture": [],
    r"twemoji-1f34c has an empty picture": [(f"{NAME}.png", b""), CLS],
    r"has label '6', which is none of the 6 classes": [PNG, (f"{NAME}.cls", b"6")],
    r"has label '-1'": [PNG, (f"{NAME}.cls", b"-1")],
    r"has label '1.0'": [PNG, (f"{NAME}.cls", b"1.0")],
    r"has label ''": [PNG, (f"{NAME}.cls", b"")],
    r"has label 'cat'": [PNG, (f"{NAME}.cls", b"cat")],
    r"has label '²'": [PNG, (f"{NAME}.cls", "²".encode())],
}


@pytest.mark.parametrize("problem", BROKEN)
def test_a_set_that_is_not_whole_is_refused(tmp_path, problem):
    with pytest.raises(InputError, match=problem):
        open_set(write_set(tmp_path, BROKEN[problem]))


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}] * 6, dtype=object), allow_pickle=True)
    return file.getvalue()


HOT_BROKEN = {
    r"has no labels \(\.npy\)": None,
    r"of shape \(5,\), but classnames\.txt lists 6 classes": npy([0, 1, 0, 0, 0]),
    r"not 0 or 1": npy([0, 2, 0, 0, 0, 0]),
    r"are not 0 or": npy(["a"] * 6),
    r"cannot be read: .*allow_pickle": pickled(),
    r"cannot be read: .*magic": pickle.dumps([0, 1]),
    r"labels \(\.npy\) that cannot be read": npy([0, 1, 0, 0, 0, 0])[:-9],
}


@pytest.mark.parametrize("problem", HOT_BROKEN)
def test_labels_that_are_no_multi_hot_vector_are_refused(tmp_path, problem):
    data = HOT_BROKEN[problem]
    members = [PNG] if data is None else [PNG, (f"{NAME}.npy", data)]
    with pytest.raises(InputError, match=f"sample {NAME} .*{problem}"):
        open_set(write_set(tmp_path, members, kind="multilabel"))


def test_a_header_that_claims_a_huge_array_is_refused(tmp_path):
    huge = npy(np.zeros(6, dtype=bool)).replace(b"(6,), }", b"(%d,), }" % (1 << 60))
    members = [PNG, (f"{NAME}.npy", huge)]
    with pytest.raises(InputError, match=r"labels \(\.npy\)"):
        open_set(write_set(tmp_path, members, kind="multilabel"))


def test_a_key_comes_once_in_all_tars_of_a_split(tmp_path):
    write_shards(write_lists(tmp_path), [labelled(FIRST), labelled(FIRST)])
    with pytest.raises(InputError, match=r"\(test\), sample twemoji-1f34c occurs twice"):
        open_set(tmp_path)


@pytest.mark.parametrize("cut", [100, 3000, 3 * 512, 6 * 512])
def test_a_truncated_tar_is_named_wherever_it_is_cut(webdataset, cut):
    tar = webdataset / "test" / "1.tar"
    tar.write_bytes(tar.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"1\.tar is not a whole"):
        open_set(webdataset)


def test_tars_and_their_number_must_agree(webdataset):
    counted = webdataset / "test" / "nshards.txt"
    counted.write_text("4\n")
    with pytest.raises(InputError, match=r"3\.tar is missing: nshards\.txt counts 4 tars"):
        open_set(webdataset)
    counted.write_text("2\n")
    with pytest.raises(InputError, match=r"2\.tar is not counted: .*nshards\.txt says 2"):
        open_set(webdataset)
    for wrong in ("0", "-1", "two", "", "²"):
        counted.write_text(wrong)
        with pytest.raises(InputError, match=r"nshards\.txt should hold the number"):
            open_set(webdataset)
    counted.unlink()
    with pytest.raises(InputError, match=r"test/nshards\.txt is missing"):
        open_set(webdataset)


def test_labels_without_class_names_are_refused(webdataset):
    (webdataset / "classnames.txt").unlink()
    with pytest.raises(InputError, match=r"has a label .* classnames\.txt is missing"):
        open_set(webdataset)


@pytest.mark.parametrize("names", [NAMES[:5], ()])
def test_too_few_class_names_are_refused(webdataset, names):
    (webdataset / "classnames.txt").write_text("\n".join(names))
    with pytest.raises(InputError, match=r"has (a )?label"):
        open_set(webdataset)


def test_a_set_needs_labels_or_captions(tmp_path):
    write_shards(tmp_path, [[PNG]])
    with pytest.raises(InputError, match=r"neither labels .* nor captions"):
        open_set(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{c}\na photo\n", r"line 2 has no \{c\}"), ("\n", "missing or empty")],
)
def test_templates_must_be_prompts_for_a_class(webdataset, text, problem):
    (webdataset / "zeroshot_classification_templates.txt").write_text(text)
    with pytest.raises(InputError, match=rf"templates\.txt (is )?{problem}"):
        open_set(webdataset)


def test_a_kind_that_is_not_known_is_refused(webdataset):
    (webdataset / "dataset_type.txt").write_text("captioning")
    with pytest.raises(InputError, match=r"dataset_type\.txt says 'captioning'.*retrieval"):
        open_set(webdataset)


@pytest.mark.parametrize("file", ["classnames.txt", "test/nshards.txt", "dataset_type.txt"])
def test_a_list_that_is_not_utf8_is_named(webdataset, file):
    (webdataset / file).write_bytes(b"\xff\xfe1")
    with pytest.raises(InputError, match=f"{file} is not UTF-8"):
        open_set(webdataset)


def test_a_member_name_never_reaches_the_disk(tmp_path):
    folder = write_set(tmp_path / "set", [])
    outside = [("../../escaped.png", FIRST.png), ("../../escaped.cls", b"0")]
    write_tar(folder / "test" / "0.tar", [("README", b"no sample"), *outside])
    assert [s.key for s in open_set(folder).samples()] == ["../../escaped"]
    assert not list(tmp_path.rglob("escaped*"))
