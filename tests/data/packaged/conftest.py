"""A small build of the packaged data, made once for all tests of this folder."""

import pytest

from winnow.data.packaged import Packaged, PackagedConfig, build

TINY = PackagedConfig(max_concepts=40, max_icons=40)


@pytest.fixture(scope="session")
def tiny_config() -> PackagedConfig:
    return TINY


@pytest.fixture(scope="session")
def packaged(tmp_path_factory, tiny_config) -> Packaged:
    return build(tmp_path_factory.mktemp("packaged") / "tiny", config=tiny_config)
