"""The benchmark's two sizes."""

from dataclasses import dataclass

from icon_split import SplitConfig

_SMALL_SETS = """
    akar-icons ant-design basil bi boxicons bytesize charm cil emojione emojione-monotone ep eva
    f7 fa6-solid feather flowbite fluent-color fontisto fxemoji garden gg glyphs-poly gravity-ui
    grommet-icons guidance healthicons heroicons humbleicons icon-park ion jam la lineicons
    lsicon lucide mage majesticons maki marketeq mdi mingcute mynaui octicon oi pepicons-pop
    pixel prime proicons radix-icons ri si simple-line-icons solar stash streamline-color
    streamline-emojis system-uicons tabler tdesign teenyicons temaki uil vaadin zondicons
"""
SMALL_SETS = tuple(_SMALL_SETS.split())
"""Sets of as many hands and styles as can be, in about the numbers that sets come in."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a size holds."""

    sets: tuple[str, ...] | None
    """The sets that are trained on; None takes all that may be."""
    most_of_a_set: int | None
    """Concepts of one set; where it has more, those that most sets draw."""
    split: SplitConfig
    shares: tuple[tuple[str, float], ...]
    """Nested parts of the training pairs, smallest first."""
    sentences: int
    """Pairs in the pool for caption filters."""


SIZES = {
    "small": Size(
        sets=SMALL_SETS,
        most_of_a_set=700,
        split=SplitConfig(least_families=6, held_out_most=4, most_classes=1_000, pairs=24_000),
        shares=(("1-of-9", 1 / 9), ("1-of-3", 1 / 3)),
        sentences=10_000,
    ),
    "medium": Size(
        sets=None,
        most_of_a_set=None,
        split=SplitConfig(least_families=8, held_out_most=4, most_classes=1_000, pairs=130_000),
        shares=(("1-of-100", 0.01), ("1-of-10", 0.1)),
        sentences=12_000,
    ),
}
NOISES = (20, 40, 60)
"""Per cent of the pairs with swapped captions, besides none."""
