"""The packaged data as the demo uses it: which pictures, and how much noise is planted."""

from winnow.data.packaged import NoiseRates, Packaged, PackagedConfig, build, default_directory

CONFIG = PackagedConfig(
    side=64,
    noise=NoiseRates(
        swapped=0.10,
        boilerplate=0.04,
        filename=0.02,
        burnt_in=0.04,
        exact_duplicate=0.03,
        near_duplicate=0.03,
    ),
)
"""The rates are shares of all pairs; what was planted where is in `truth.parquet`."""


PACKAGED = "packaged"
"""What the command line calls the packaged tasks."""


def packaged_data() -> Packaged:
    """The packaged data in the user's cache, built where it is not there yet."""
    return build(default_directory(CONFIG), config=CONFIG)
