"""Thumbnails as data URIs, from pictures by their key or address, and a fair way to choose few."""

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from winnow.data.columns import DETECT, Columns
from winnow.data.images import ImageError, View, evaluation_view
from winnow.data.ledger import Address
from winnow.data.sources import open_reader, open_source

THUMBNAIL = 80
"""Pixels a side; the page shows them at half to all of it."""

LONGEST = 140
"""Characters of a caption that are shown: scraped ones can be megabytes."""


def choose(names: Iterable[str], count: int) -> list[str]:
    """`count` of `names`, those whose sha256 is smallest: nobody's choice, and always the same."""
    return sorted(set(names), key=order)[:count]


def order(name: str) -> str:
    """What `choose` sorts by."""
    return hashlib.sha256(name.encode()).hexdigest()


def shorten(caption: str) -> str:
    """A caption short enough to stand under a picture."""
    return caption if len(caption) <= LONGEST else caption[: LONGEST - 1] + "…"


def thumbnail(data: bytes) -> str | None:
    """The picture's centre square as a data URI (WebP); None where it cannot be read."""
    from PIL import Image

    try:
        view = evaluation_view(data, view=View(THUMBNAIL))
    except ImageError:
        return None
    file = io.BytesIO()
    Image.fromarray(view.transpose(1, 2, 0)).save(file, "webp", quality=72)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def thumbnails(
    shard: str, addresses: Iterable[Address], *, columns: Columns = DETECT
) -> dict[Address, str | None]:
    """The thumbnails of some pictures of one shard, read in its order."""
    with open_reader(shard, columns=columns) as reader:
        return {
            address: thumbnail(reader.read(address))
            for address in sorted(addresses, key=lambda address: address.offset)
        }


class TaskPictures:
    """The pictures of an evaluation set (a folder in clip-benchmark's layout), by key."""

    def __init__(self, folder: Path) -> None:
        self._places: dict[str, tuple[str, Address]] = {}
        self._captions: dict[str, tuple[str, ...]] = {}
        source = open_source(str(folder / "test"))
        for shard in source.shards:
            for sample in source.scan(shard):
                address = Address(sample.key, sample.offset, sample.size)
                self._places[sample.key] = (shard, address)
                lines = (sample.caption or "").splitlines()
                self._captions[sample.key] = tuple(line.strip() for line in lines)

    @property
    def captions(self) -> Mapping[str, tuple[str, ...]]:
        """The captions of every picture, one or several or none."""
        return self._captions

    def thumbnails(self, keys: Iterable[str]) -> dict[str, str | None]:
        """By key; None for a picture that cannot be read, or that is not there."""
        by_shard: dict[str, list[Address]] = {}
        found: dict[str, str | None] = dict.fromkeys(keys)
        for key in found:
            if key in self._places:
                shard, address = self._places[key]
                by_shard.setdefault(shard, []).append(address)
        for shard, addresses in by_shard.items():
            for address, picture in thumbnails(shard, addresses).items():
                found[address.key] = picture
        return found
