import pytest
from coloured_pairs import curate, write_shards


@pytest.fixture(scope="session")
def coloured(tmp_path_factory):
    """A curated folder of nine pairs that can be read; nothing writes to it."""
    root = tmp_path_factory.mktemp("coloured")
    return curate(write_shards(root / "raw"), root / "curated")
