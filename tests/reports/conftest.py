"""What pages are made of: `page_folders` writes it."""

import pytest
from page_folders import opener, write_curation, write_places, write_runs


@pytest.fixture
def selection(tmp_path):
    """`basic` over one shard: 2 kept, 2 + 1 dropped, 1 error."""
    return write_curation(tmp_path)


@pytest.fixture
def places(tmp_path):
    """Ten pictures of ten classes, one of them with a hostile name and caption."""
    return write_places(tmp_path)


@pytest.fixture
def tasks(places):
    """The same for the page."""
    return {name: opener(place) for name, place in places.items()}


@pytest.fixture
def runs(tmp_path, places):
    """Two runs; `a` knows 6 of the 10 pictures, `b` all."""
    return write_runs(tmp_path, places)
