import json

import pytest
from set_makers import emoji

from winnow.evaluation.sets import open_set, splits_of
from winnow.types import InputError

LIST = "dataset_emoji.json"


def change(folder, number, **values):
    """Change one image of the list; None takes a field away."""
    listed = json.loads((folder / LIST).read_text())
    listed["images"][number] |= values
    for name in [name for name, value in values.items() if value is None]:
        del listed["images"][number][name]
    (folder / LIST).write_text(json.dumps(listed))


def test_splits_pictures_and_captions_are_those_of_the_json(karpathy):
    assert splits_of(karpathy) == ("test", "train", "val")
    found = open_set(karpathy)
    assert (found.num_samples, found.label_kind, found.classnames) == (3, "none", ())
    assert found.has_captions
    for samples in (list(found.samples()), list(found.samples())):
        assert [s.image for s in samples] == [one.png for one in emoji()[9:]]
        assert [s.key for s in samples] == [f"{one.name}.png" for one in emoji()[9:]]
    val = open_set(karpathy, split="val")
    assert next(s.key for s in val.samples()) == "val2014/openmoji-1f34c.png"


def test_restval_belongs_to_train(karpathy):
    keys = [s.key.partition("/")[0] for s in open_set(karpathy, split="train").samples()]
    assert keys == ["train2014"] * 3 + ["restval2014"] * 3


def test_the_first_five_captions_are_taken_and_fewer_are_kept(karpathy):
    change(karpathy, 10, sentences=[{"raw": " one \n"}, {"raw": "two"}])
    found = open_set(karpathy)
    first, second, third = (s.captions for s in found.samples())
    assert first == tuple(f"caption {n} of {emoji()[9].name}" for n in range(5))
    assert second == ("one", "two")
    assert len(third) == 5
    assert found.captions_each == (2, 5)


@pytest.mark.parametrize("place", ["images/", "", "images/test2014/", "test2014/"])
def test_pictures_are_found_in_images_or_beside_the_json(karpathy, place):
    picture = karpathy / "images" / f"{emoji()[9].name}.png"
    (karpathy / place).mkdir(parents=True, exist_ok=True)
    picture.rename(karpathy / place / picture.name)
    if "test2014" in place:
        change(karpathy, 9, filepath="test2014")
    assert next(open_set(karpathy).samples()).image == emoji()[9].png


def test_the_json_itself_may_be_named(karpathy):
    found = open_set(karpathy / LIST)
    assert (found.name, found.fingerprint) == ("dataset_emoji", open_set(karpathy).fingerprint)


def test_other_json_is_passed_over_and_two_lists_are_refused(karpathy):
    (karpathy / "captions_val2014.json").write_text(json.dumps({"images": [], "info": {}}))
    assert open_set(karpathy).num_samples == 3
    (karpathy / "dataset_other.json").write_text((karpathy / LIST).read_text())
    with pytest.raises(InputError, match=r"2 lists of captions \(dataset_emoji\.json, dataset_o"):
        open_set(karpathy)


def test_a_missing_picture_is_named(karpathy):
    (karpathy / "images" / f"{emoji()[10].name}.png").unlink()
    with pytest.raises(InputError, match=rf"{emoji()[10].name}\.png, .*\(1 of 3 pictures"):
        open_set(karpathy)
    assert open_set(karpathy, split="val").num_samples == 3


@pytest.mark.parametrize("text", ["", "<!DOCTYPE html>", '{"images": ['])
@pytest.mark.parametrize("name", ["dataset_coco.json", "dataset_flickr30k.json"])
def test_a_published_list_that_is_broken_makes_no_set_of_class_folders(karpathy, name, text):
    (karpathy / LIST).unlink()
    (karpathy / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name} line 1 is no json"):
        open_set(karpathy)


def test_a_list_that_is_cut_or_begins_late_is_known(karpathy):
    whole = json.loads((karpathy / LIST).read_text())
    (karpathy / LIST).write_text('{"images": [')
    with pytest.raises(InputError, match=r"dataset_emoji\.json line 1 is no json"):
        open_set(karpathy)
    (karpathy / LIST).unlink()
    # The word "images" lies across the end of the first block that is looked through.
    lead = "x" * ((1 << 20) - len('{"about": "", "im'))
    late = karpathy / "captions.json"
    late.write_text(json.dumps({"about": lead, "images": whole["images"]}))
    assert late.read_text()[(1 << 20) - 3 :].startswith('"images"')
    assert open_set(karpathy).num_samples == 3


def test_facts_of_the_hub_are_no_list(karpathy):
    (karpathy / "dataset_info.json").write_text(json.dumps({"features": {"image": {}}}))
    assert open_set(karpathy).num_samples == 3


def test_broken_json_names_its_line(karpathy):
    text = (karpathy / LIST).read_text().replace('"split": "val"', '\n"split": val', 1)
    (karpathy / LIST).write_text(text)
    with pytest.raises(InputError, match=r"dataset_emoji\.json line 2 is no json"):
        open_set(karpathy)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"filename": None}, 'image 10 has no "filename"'),
        ({"split": ""}, 'image 10 has no "split"'),
        ({"filepath": 3}, 'image 10 has a "filepath" that is no text'),
        ({"sentences": None}, 'image 10 has no list "sentences"'),
        ({"sentences": [{"tokens": ["a"]}]}, 'image 10 has no list "sentences"'),
        ({"sentences": [{"raw": " "}]}, "only 2 of 3 pictures have a caption"),
        ({"filename": "../../secret.png"}, "is no path inside the set"),
        ({"filepath": "/etc"}, "is no path inside the set"),
        ({"filename": f"{emoji()[10].name}.png"}, r"sample openmoji-1f680\.png occurs twice"),
        ({"sentences": [{"raw": "a \ud83d"}]}, "has a text that is no valid Unicode"),
    ],
)
def test_an_image_that_is_not_whole_is_named(karpathy, values, problem):
    change(karpathy, 9, **values)
    with pytest.raises(InputError, match=problem):
        open_set(karpathy)


def test_a_list_that_is_not_utf8_or_no_list_is_refused(karpathy):
    whole = (karpathy / LIST).read_bytes()
    (karpathy / LIST).write_bytes(whole.replace(b"caption 0", b"caption \xff"))
    with pytest.raises(InputError, match=r"dataset_emoji\.json is not UTF-8"):
        open_set(karpathy)
    (karpathy / LIST).write_text('["images", "sentences"]')
    with pytest.raises(InputError, match='it has no list "images"'):
        open_set(karpathy)
    (karpathy / LIST).write_text('{"images": [], "sentences": 0}')
    with pytest.raises(InputError, match=r"dataset_emoji\.json lists no picture"):
        open_set(karpathy)
