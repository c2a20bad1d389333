"""Which split of a set plays which part: nothing is fitted or chosen on what is measured."""

import pytest
from colour_tasks import ColourEncoder, sample, write_task

from winnow.evaluation.embed import Embedder
from winnow.evaluation.subject import Presentation, Subject


@pytest.mark.parametrize(
    ("present", "asked", "test", "train", "validation"),
    [
        (["train", "val"], None, "val", "train", None),
        (["train", "val", "dev"], None, "val", "train", "dev"),
        (["train", "test", "val"], None, "test", "train", "val"),
        (["train", "test"], None, "test", "train", None),
        (["train", "val"], "train", "train", None, "val"),
        (["train", "test", "val"], "train", "train", None, "val"),
        (["train", "test", "val"], "val", "val", "train", None),
        (["train", "val", "dev"], "dev", "dev", "train", "val"),
    ],
)
def test_what_is_measured_on_is_neither_fitted_nor_chosen_on(
    tmp_path, present, asked, test, train, validation
):
    for number, split in enumerate(present):
        write_task(tmp_path / "c", [sample(f"s{number}", "red")])
        (tmp_path / "c" / "test").rename(tmp_path / "c" / f"{split}.written")
    for split in present:
        (tmp_path / "c" / f"{split}.written").rename(tmp_path / "c" / split)
    options = {
        "name": "c",
        "embedder": Embedder(encoder=ColourEncoder(), cache=tmp_path / "cache"),
        "presentation": Presentation(split=asked),
        "records": tmp_path / "records",
    }
    subject = Subject.open(tmp_path / "c", with_training=True, **options)
    roles = (subject.test, subject.train, subject.validation)
    assert [role and role.split for role in roles] == [test, train, validation]
    alone = Subject.open(tmp_path / "c", with_training=False, **options)
    assert (alone.test.split, alone.train, alone.validation) == (test, None, None)
