from dataclasses import dataclass

import pytest

from winnow.config import from_dict, read_json
from winnow.data.columns import Columns
from winnow.types import InputError


@pytest.mark.parametrize("content", [None, b"", b'{"a": ', b"\xff\xfe"])
def test_a_damaged_json_file_is_named_with_the_way_out(tmp_path, content):
    path = tmp_path / "facts.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"facts\.json cannot be read as json: .*delete it"):
        read_json(path)


@pytest.mark.parametrize("values", [None, [], "image", 3])
def test_json_that_is_no_object_describes_no_configuration(values):
    with pytest.raises(InputError, match="here does not describe a Columns"):
        from_dict(Columns, values, where="here")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    whole: int = 0
    fraction: float | None = None
    is_so: bool = False


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("whole", value) for value in (2.9, 2.0, "2", True, None)),
        *(("fraction", value) for value in ("nan", "0.5", True)),
        *(("is_so", value) for value in (1, 0, "false")),
    ],
)
def test_what_is_another_kind_of_value_is_refused(field, value):
    with pytest.raises(InputError, match=f"here does not describe a Numbers: .*{field}"):
        from_dict(Numbers, {field: value}, where="here")


def test_what_is_the_kind_is_taken_and_whole_numbers_are_fractions():
    values = {"whole": 3, "fraction": 2, "is_so": True}
    found = from_dict(Numbers, values, where="here")
    assert found == Numbers(whole=3, fraction=2.0, is_so=True)
    assert type(found.fraction) is float
    assert from_dict(Numbers, {"fraction": None}, where="here") == Numbers()


def test_what_a_class_says_of_its_fields_is_the_sentence():
    with pytest.raises(InputError) as caught:
        from_dict(Columns, {"delimiter": "ab"}, where="here")
    assert str(caught.value).startswith("here: Columns(delimiter='ab'): a delimiter is one")
