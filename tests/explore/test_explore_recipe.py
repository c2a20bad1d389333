import pytest

from winnow.data.folder import Folder
from winnow.recipes import explore
from winnow.recipes.explore import Explore, open_explorer, run_explore
from winnow.types import InputError


def options(data, **others):
    return Explore(data=str(data), model="no-model", **others)


def test_a_selection_is_named_or_alone(coloured, tmp_path):
    folder = Folder.at(coloured)
    assert explore._chosen(options(coloured, selection="words")) == (folder, "words")
    assert explore._chosen(options(coloured / "selections" / "none")) == (folder, "none")
    alone = tmp_path / "alone"
    (alone / "selections" / "one").mkdir(parents=True)
    (alone / "selections" / "one" / "summary.json").write_text("{}")
    assert explore._chosen(options(alone)) == (Folder.at(alone), "one")


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ({}, r"several selections \(none, words\): say which with --selection"),
        ({"selection": "other"}, "no selection 'other': take one of these: none, words"),
        ({"selection": "../words"}, "cannot be called"),
    ],
)
def test_what_cannot_be_chosen_is_said(coloured, others, says):
    with pytest.raises(InputError, match=says):
        open_explorer(options(coloured, **others))


def test_two_selections_are_one_too_many(coloured, tmp_path):
    with pytest.raises(InputError, match="is the selection none, and --selection says words"):
        open_explorer(options(coloured / "selections" / "none", selection="words"))
    with pytest.raises(InputError, match="holds no selection"):
        open_explorer(options(tmp_path))


def test_a_missing_library_is_said_before_anything_is_embedded(tmp_path, monkeypatch):
    monkeypatch.setattr(explore, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs starlette.*pip install 'winnow-clip\[explore\]'"):
        run_explore(options(tmp_path), ready=print, say=print)


def test_options_are_checked():
    with pytest.raises(InputError, match="batch_size is 0"):
        options("data", batch_size=0)
