import pytest
from kept_pairs import keep_everything, picture, uid, write_pairs


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Two shards of 20 pairs: row r has picture r, but rows 5, 30 and 31 have picture 4."""
    folder = tmp_path_factory.mktemp("kept")
    pictures = [picture(4 if row in (5, 30, 31) else row) for row in range(40)]
    for shard in range(2):
        rows = range(20 * shard, 20 * shard + 20)
        pairs = [(pictures[row], f"thing {row}", uid(row)) for row in rows]
        write_pairs(folder / f"{shard:05d}.tar", pairs)
    return keep_everything(folder, folder / "out")
