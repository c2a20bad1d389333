"""The names of ImageNet's 1,000 classes, for class folders that are called by their synsets.

Sources: timm's package data for the synsets (imagenet_synsets.txt), open_clip for OpenAI's names;
both are in the order of ImageNet's labels, which is that of the sorted synsets.
"""

import re
from functools import cache
from importlib.resources import files

_SYNSET = re.compile(r"n[0-9]{8}")


def is_synset(folder: str) -> bool:
    """Whether a folder is called as WordNet's synsets are, such as n01440764."""
    return _SYNSET.fullmatch(folder) is not None


@cache
def imagenet_names() -> dict[str, str]:
    """The name of each of the 1,000 synsets."""
    from open_clip import IMAGENET_CLASSNAMES  # takes seconds, and few sets need it

    synsets = (files("timm.data") / "_info" / "imagenet_synsets.txt").read_text().split()
    return dict(zip(synsets, IMAGENET_CLASSNAMES, strict=True))
