from pathlib import Path

import pytest
from curation_samples import picture, write_shard


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of three shards with sound, junk, repeated and broken pairs."""
    folder = tmp_path / "shards"
    same = picture(1)
    write_shard(
        folder / "000.tar",
        [
            (same, "IMG_2041.JPG"),
            (same, "a red apple on a table"),
            (picture(2), "two green pears"),
            (picture(3)[:60], "a picture that is cut off"),
            (b"", "a picture without a byte"),
        ],
    )
    write_shard(
        folder / "001.tar",
        [
            (same, "A red apple  on a table"),
            (same, "fruit, still life"),
            (picture(4, width=20, height=20), "a bullet"),
            (b"this is no picture", "this is no picture"),
        ],
    )
    write_shard(
        folder / "002.tar",
        [(picture(100 + n), "Free shipping") for n in range(11)] + [(picture(5), "a grey cat")],
    )
    return folder
