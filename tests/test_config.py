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
