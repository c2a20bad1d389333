"""Sets made of Debian packages: small files in the packages' own formats, no network."""

import gzip
import io
import shutil
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image

from winnow.evaluation.sets.evaluation_set import open_set, splits_of
from winnow.recipes import fetched
from winnow.recipes.fetched import fetch, write_fashion_mnist, write_tuxpaint
from winnow.types import InputError

IMAGE_NHW = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = bytes(number % 10 for number in range(12))
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="30pt" height="60pt">'
    '<rect width="9" height="99"/></svg>'
)


def idx(magic, shape, content):
    # Names of tests are made of it, and every process of pytest has to have the same.
    return gzip.compress(struct.pack(f">{1 + len(shape)}I", magic, *shape) + content, mtime=0)


@pytest.fixture
def fashion(tmp_path):
    """Twelve pictures to train on and five to test on, as the package has them."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    for stem, count in (("train", 12), ("t10k", 5)):
        images = idx(2051, (count, 28, 28), IMAGE_NHW[:count].tobytes())
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(images)
        labels = idx(2049, (count,), LABELS[:count])
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(labels)
    return folder


@pytest.fixture
def stamps(tmp_path):
    """Stamps as the package has them: png or svg, with translations, copies and things beside."""
    folder = tmp_path / "stamps"
    for name, sentence in (
        ("animals/frog", "A frog.\nfr.utf8=Une grenouille.\n"),
        ("animals/frog-2", "a frog\n"),
        ("animals/owl", "An owl.\n"),
        ("town/door", "A door.\nde.utf8=Eine Tür.\n"),
        ("town/no-picture", "A gift.\n"),
        ("town/silent", "\n"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text(sentence, encoding="utf-8")
    half_clear = Image.new("RGBA", (20, 10), (255, 0, 0, 255))
    half_clear.paste((0, 0, 0, 0), (0, 0, 10, 10))
    for name in ("animals/frog", "animals/frog-2", "animals/owl", "animals/owl_mirror"):
        half_clear.save(folder / f"{name}.png")
    half_clear.save(folder / "town" / "silent.png")
    (folder / "town" / "door.svg").write_text(SVG)
    (folder / "town" / "door.ogg").write_bytes(b"sound")
    return folder


def test_fashion_mnist_comes_back_pixel_by_pixel_with_its_labels(fashion, tmp_path):
    folder = tmp_path / "fashion-mnist"
    assert write_fashion_mnist(fashion, folder) == {"train": 12, "test": 5}
    assert splits_of(folder) == ("test", "train")
    train = open_set(folder, split="train")
    assert (train.num_samples, train.label_kind, len(train.classnames)) == (12, "single", 10)
    assert train.classnames[9] == "ankle boot"
    for sample, image_HW, label in zip(train.samples(), IMAGE_NHW, LABELS, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(sample.image))), image_HW)
        assert sample.labels == (label,)


def test_many_pictures_are_spread_over_tars(fashion, tmp_path, monkeypatch):
    monkeypatch.setattr(fetched, "_SAMPLES_PER_TAR", 5)
    folder = tmp_path / "fashion-mnist"
    write_fashion_mnist(fashion, folder)
    assert sorted(path.name for path in (folder / "train").glob("*.tar")) == [
        "0.tar",
        "1.tar",
        "2.tar",
    ]
    assert (folder / "train" / "nshards.txt").read_text() == "3\n"
    assert [sample.labels[0] for sample in open_set(folder, split="train").samples()] == [*LABELS]


def test_the_same_package_gives_the_same_bytes(fashion, stamps, tmp_path):
    for name in ("one", "two"):
        write_fashion_mnist(fashion, tmp_path / name / "fashion-mnist")
        write_tuxpaint(stamps, tmp_path / name / "tuxpaint")
    files = sorted(path for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 9
    for file in files:
        other = tmp_path / "two" / file.relative_to(tmp_path / "one")
        assert file.read_bytes() == other.read_bytes()


def test_stamps_with_a_sentence_of_their_own_become_a_retrieval_set(stamps, tmp_path):
    folder = tmp_path / "tuxpaint"
    assert write_tuxpaint(stamps, folder) == {"test": 3}
    found = open_set(folder)
    assert (found.label_kind, found.has_captions, found.num_samples) == ("none", True, 3)
    samples = {sample.key: sample for sample in found.samples()}
    assert {key: sample.captions for key, sample in samples.items()} == {
        "animals-frog": ("A frog.",),
        "animals-owl": ("An owl.",),
        "town-door": ("A door.",),
    }
    frog = Image.open(io.BytesIO(samples["animals-frog"].image))
    assert (frog.mode, frog.getpixel((0, 0)), frog.getpixel((19, 0))) == (
        "RGB",
        (255, 255, 255),
        (255, 0, 0),
    )


def test_an_svg_in_points_is_drawn_in_its_proportions(stamps, tmp_path):
    write_tuxpaint(stamps, tmp_path / "tuxpaint")
    (door,) = [s for s in open_set(tmp_path / "tuxpaint").samples() if s.key == "town-door"]
    picture = Image.open(io.BytesIO(door.image))
    assert picture.size == (128, 256)
    assert picture.getpixel((2, 2)) == (0, 0, 0)
    assert picture.getpixel((120, 100)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip", "train-images-idx3-ubyte.gz cannot be unpacked: .*; fetch it again"),
        (idx(2049, (12,), LABELS), "is no IDX file with magic number 2051"),
        (idx(2051, (12, 28, 28), b"short"), "holds 5 bytes, but its header says"),
        (idx(2051, (1, 28, 28), bytes(784)), "has 1 pictures, .* 12"),
        (idx(2051, (12, 28, 28), bytes(12 * 784))[:-9], "cannot be unpacked"),
    ],
)
def test_damaged_pictures_are_named(fashion, tmp_path, content, message):
    (fashion / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(InputError, match=message):
        write_fashion_mnist(fashion, tmp_path / "out")


def test_a_label_beyond_the_classes_is_named(fashion, tmp_path):
    (fashion / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(2049, (5,), bytes([0, 1, 10, 3, 4])))
    with pytest.raises(InputError, match=r"t10k-labels.* has a label 10"):
        write_fashion_mnist(fashion, tmp_path / "out")


def test_stamps_that_cannot_be_used_are_named(stamps, tmp_path):
    (stamps / "animals" / "owl.png").write_bytes(b"\x89PNG no")
    with pytest.raises(InputError, match=r"owl\.png is not a whole picture"):
        write_tuxpaint(stamps, tmp_path / "one")
    (stamps / "animals" / "owl.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"owl\.txt line 1 is not UTF-8"):
        write_tuxpaint(stamps, tmp_path / "two")
    with pytest.raises(InputError, match="holds no stamp"):
        write_tuxpaint(tmp_path / "nothing", tmp_path / "three")


def build_deb(folder, place, *, package, content):
    """A .deb with `content` at the given place in it."""
    control = folder / package / "DEBIAN"
    control.mkdir(parents=True)
    (control / "control").write_text(
        f"Package: {package}\nVersion: 1.5\nArchitecture: all\nMaintainer: us <us@example.org>\n"
        "Description: a test\n"
    )
    shutil.copytree(content, folder / package / place)
    deb = folder / f"{package}.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(folder / package), str(deb)]
    subprocess.run(command, check=True, capture_output=True)
    return deb


needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is Debian's")


@needs_dpkg
def test_a_set_is_made_of_a_package_at_hand(fashion, stamps, tmp_path):
    debs = [
        build_deb(tmp_path, place, package=package, content=content)
        for package, place, content in (
            ("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps", stamps),
            ("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist", fashion),
        )
    ]
    root = tmp_path / "root"
    made = fetch("fashion-mnist", root, debs=debs, say=print)
    assert made.counts == {"train": 12, "test": 5}
    assert sorted(path.name for path in root.iterdir()) == ["fashion-mnist"]
    source = (made.folder / "source.json").read_text()
    assert '"package": "dataset-fashion-mnist"' in source
    assert '"version": "1.5"' in source
    with pytest.raises(InputError, match="is there already: delete it to make it again"):
        fetch("fashion-mnist", root, debs=debs, say=print)
    with pytest.raises(InputError, match="is the Debian package tuxpaint-stamps-default"):
        fetch("tuxpaint", root, debs=debs[1:], say=print)
    with pytest.raises(InputError, match=r"gone\.deb is not there"):
        fetch("tuxpaint", root, debs=[tmp_path / "gone.deb"], say=print)


@needs_dpkg
def test_what_fails_half_way_leaves_nothing(fashion, tmp_path):
    (fashion / "t10k-labels-idx1-ubyte.gz").write_bytes(b"torn")
    name, place = "dataset-fashion-mnist", "usr/share/datasets/fashion-mnist"
    deb = build_deb(tmp_path, place, package=name, content=fashion)
    with pytest.raises(InputError, match="t10k-labels"):
        fetch("fashion-mnist", tmp_path / "root", debs=[deb], say=print)
    assert list((tmp_path / "root").iterdir()) == []


@needs_dpkg
def test_a_package_without_the_pictures_and_a_file_that_is_none_are_named(fashion, tmp_path):
    deb = build_deb(tmp_path, "elsewhere", package="dataset-fashion-mnist", content=fashion)
    with pytest.raises(InputError, match="has no folder usr/share/datasets/fashion-mnist"):
        fetch("fashion-mnist", tmp_path / "root", debs=[deb], say=print)
    deb.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"dpkg-deb --field .* failed: "):
        fetch("fashion-mnist", tmp_path / "root", debs=[deb], say=print)


def test_without_debians_tools_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="apt-get is not on this machine: fetching needs Debian's"):
        fetch("fashion-mnist", tmp_path / "root", say=print)
    assert list((tmp_path / "root").iterdir()) == []
