import re
import warnings
from importlib.resources import files

import pytest
from set_makers import CODES, NAMES, TEMPLATES, emoji, write_lists

from winnow.evaluation.sets import MissingSetError, open_set, splits_of
from winnow.evaluation.sets.imagenet_names import imagenet_names
from winnow.types import InputError


def flat(folder, ones=None):
    for one in emoji()[:6] if ones is None else ones:
        place = folder / one.name.partition("-")[2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{one.name}.png").write_bytes(one.png)
    return folder


def test_a_folder_a_class_in_each_split(image_folder):
    assert splits_of(image_folder) == ("train", "val")
    found = open_set(image_folder, split="val")
    assert (found.label_kind, found.num_samples, found.has_captions) == ("single", 6, False)
    assert found.classnames == tuple(CODES)
    assert found.templates == ("a photo of a {c}.",)
    for samples in (list(found.samples()), list(found.samples())):
        assert [s.image for s in samples] == [one.png for one in emoji()[6:]]
        assert [s.labels for s in samples] == [(n,) for n in range(6)]
        assert samples[1].key == "1f34e/openmoji-1f34e.PNG"


def test_class_folders_without_a_split_are_the_test_split(tmp_path):
    folder = flat(tmp_path, emoji())
    (folder / ".hidden").mkdir()
    (folder / "readme.txt").write_text("no picture")
    assert splits_of(folder) == ("test",)
    found = open_set(folder)
    assert [s.labels[0] for s in found.samples()] == sorted([*range(6), *range(6)])
    keys = [s.key for s in found.samples()]
    assert keys == sorted(keys)


def test_names_and_prompts_come_from_the_lists(image_folder):
    write_lists(image_folder)
    found = open_set(image_folder, split="val")
    assert (found.classnames, found.templates) == (NAMES, TEMPLATES)


def test_a_list_with_folders_may_hold_classes_that_are_not_here(tmp_path):
    folder = flat(tmp_path / "subset", [emoji()[5], emoji()[1]])
    lines = [f"{code}\t{name}" for code, name in reversed(CODES.items())]
    (folder / "classnames.txt").write_text("\n".join(lines))
    found = open_set(folder)
    assert found.classnames == tuple(reversed(NAMES))
    assert [(s.key[:5], s.labels) for s in found.samples()] == [("1f34e", (4,)), ("1f697", (0,))]


def test_labels_are_the_same_in_all_splits(image_folder):
    (image_folder / "val" / "1f34c").rename(image_folder.parent / "away")
    with pytest.warns(UserWarning, match=r"not every split has \(1: '1f34c'\)"):
        found = open_set(image_folder, split="val")
    assert found.classnames == tuple(CODES)
    assert [s.labels[0] for s in found.samples()] == [1, 2, 3, 4, 5]


def test_a_class_that_one_split_spells_differently_is_said(image_folder):
    (image_folder / "train" / "1f34c").rename(image_folder / "train" / "1F34C")
    with pytest.warns(UserWarning, match=r"\(2: '1F34C', '1f34c'\), and each counts as a class"):
        found = open_set(image_folder, split="val")
    assert found.classnames == ("1F34C", *CODES)
    write_lists(image_folder, names=[f"{code}\t{code}" for code in ("1F34C", *CODES)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_set(image_folder, split="val")


def test_pictures_without_labels_beside_the_splits_are_no_class(image_folder):
    extra = image_folder / "unlabeled" / "0all"
    extra.mkdir(parents=True)
    (extra / "one.png").write_bytes(emoji()[0].png)
    assert splits_of(image_folder) == ("train", "unlabeled", "val")
    found = open_set(image_folder, split="val")
    assert found.classnames == tuple(CODES)
    assert [s.labels for s in found.samples()] == [(n,) for n in range(6)]
    found = open_set(image_folder, split="unlabeled")
    assert (found.classnames, next(found.samples()).labels) == ((*CODES, "0all"), (6,))


@pytest.mark.filterwarnings("ignore:.*not every split has")
def test_labels_that_change_with_another_split_are_read_again(image_folder, tmp_path):
    kept = tmp_path / "records"
    first = open_set(image_folder, split="val", records=kept)
    (image_folder / "train" / "1f34c").rename(image_folder / "train" / "1F34C")
    second = open_set(image_folder, split="val", records=kept)
    assert [s.labels for s in second.samples()] == [(n,) for n in range(1, 7)]
    assert second.fingerprint == open_set(image_folder, split="val").fingerprint
    assert second.fingerprint != first.fingerprint


def by_synset(folder, *synsets):
    for synset in synsets:
        (folder / synset).mkdir(parents=True)
        (folder / synset / "one.png").write_bytes(emoji()[0].png)
    return folder


def test_synsets_of_imagenet_are_prompted_by_name(tmp_path):
    folder = by_synset(tmp_path / "two", "n01443537", "n15075141")
    with pytest.warns(UserWarning, match=r"two/classnames\.txt is missing: .* OpenAI's names"):
        assert open_set(folder).classnames == ("goldfish", "toilet paper")
    (folder / "classnames.txt").write_text("orange fish\nbath tissue\n")
    assert open_set(folder).classnames == ("orange fish", "bath tissue")


def test_other_synsets_are_refused_without_names(tmp_path):
    folder = by_synset(tmp_path / "two", "n01443537", "n00004475")
    with pytest.raises(InputError, match=r"two/classnames\.txt is missing, .*'n00004475'"):
        open_set(folder)
    (folder / "classnames.txt").write_text("n00004475\torganism\nn01443537\tgoldfish\n")
    assert open_set(folder).classnames == ("organism", "goldfish")


def test_every_name_is_its_synsets():
    """Nearly all have a word in common with WordNet's; `jeans` and `jean`, say, have not."""
    names = imagenet_names()
    assert len(names) == 1000
    assert (names["n01440764"], names["n03888257"]) == ("tench", "parachute")
    text = (files("timm.data") / "_info" / "imagenet_synset_to_lemma.txt").read_text()
    lemmas = dict(line.split("\t", 1) for line in text.splitlines())

    def words(phrase):
        return set(re.findall("[a-z]+", phrase.lower()))

    assert sum(bool(words(names[n]) & words(lemmas[n])) for n in names) > 950


def test_a_single_class_is_no_set(tmp_path):
    folder = flat(tmp_path / "flickr" / "flickr30k-images", emoji()[:1])
    (folder / "1f34c").rename(tmp_path / "flickr" / "pictures")
    folder.rmdir()
    (tmp_path / "flickr" / "results.token").write_text("a.jpg#0\ta banana\n")
    with pytest.raises(InputError, match=r"flickr \(test\) .* the class 'pictures', .*Karpathy"):
        open_set(tmp_path / "flickr")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (NAMES[:5], "has 5 names for 6 class folders"),
        ((*NAMES, "owl"), "has 7 names for 6 class folders"),
        ([f"{c}\tx" for c in [*CODES][:5]], r"not '1f697' \(1 class folders are not listed\)"),
        ([f"{c}\tx" for c in [*CODES, "1f34c"]], "lists the folder '1f34c' 2 times"),
        (["1f34c\tbanana", "apple"], "line 2 has no tab between folder and name: 'apple'"),
    ],
)
def test_names_that_do_not_fit_the_folders_are_refused(image_folder, lines, problem):
    (image_folder / "classnames.txt").write_text("\n".join(lines))
    with pytest.raises(InputError, match=rf"classnames\.txt {problem}|{problem}"):
        open_set(image_folder, split="val")


def test_a_template_without_the_class_is_refused(image_folder):
    file = image_folder / "zeroshot_classification_templates.txt"
    file.write_text("a {c}\na photo\n")
    with pytest.raises(InputError, match=r"templates\.txt line 2 has no \{c\}"):
        open_set(image_folder, split="val")


def test_an_empty_class_folder_is_named(tmp_path):
    folder = flat(tmp_path)
    (folder / "1f43a").mkdir()
    with pytest.raises(InputError, match="1f43a holds no picture"):
        open_set(folder)


def test_pictures_one_folder_deeper_are_not_lost_in_silence(tmp_path):
    folder = flat(tmp_path)
    (folder / "1f34c" / "more").mkdir()
    with pytest.raises(InputError, match="1f34c/more is a folder within a class folder"):
        open_set(folder)


def test_an_empty_picture_is_named(tmp_path):
    folder = flat(tmp_path)
    (folder / "1f34c" / "none.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"sample 1f34c/none\.jpg has an empty picture"):
        open_set(folder)


def test_a_picture_that_cannot_be_opened_is_named(tmp_path):
    folder = flat(tmp_path)
    (folder / "1f34c" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(InputError, match=r"1f34c/gone\.jpg, which cannot be read \(No such file"):
        open_set(folder)


def test_a_table_among_class_folders_is_passed_over(tmp_path):
    folder = flat(tmp_path)
    (folder / "metadata.csv").write_text("file_name,label\n1f34c/twemoji-1f34c.png,banana\n")
    found = open_set(folder)
    assert (found.label_kind, found.num_samples) == ("single", 6)
    (folder / "metadata.csv").write_text("file_name,caption\n1f34c/twemoji-1f34c.png,banana\n")
    assert open_set(folder).num_samples == 1
    (folder / "classnames.txt").write_text("\n".join(CODES))
    assert open_set(folder).num_samples == 6


def test_folders_without_pictures_are_no_set(tmp_path):
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat" / "notes.txt").write_text("nothing")
    with pytest.raises(MissingSetError, match="holds no evaluation set"):
        open_set(tmp_path)
    with pytest.raises(MissingSetError, match="nowhere does not exist"):
        open_set(tmp_path / "nowhere")
