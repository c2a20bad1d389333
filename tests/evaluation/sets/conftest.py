import pytest
from set_makers import write_image_folder, write_karpathy, write_statements, write_webdataset


@pytest.fixture
def webdataset(tmp_path):
    return write_webdataset(tmp_path / "emoji-tars")


@pytest.fixture
def image_folder(tmp_path):
    return write_image_folder(tmp_path / "emoji-folders")


@pytest.fixture
def karpathy(tmp_path):
    return write_karpathy(tmp_path / "emoji-captions")


@pytest.fixture
def statements(tmp_path):
    return write_statements(tmp_path / "emoji-statements")
