"""Thumbnails as data URIs, from pictures by their key or address, and a fair way to choose few."""

import base64
import hashlib
import io
from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from winnow.data.columns import DETECT, Columns
from winnow.data.images import ImageError, View, evaluation_view
from winnow.data.ledger import Address
from winnow.data.sources import open_reader
from winnow.reports.hostile import visible
from winnow.types import InputError

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
    return visible(caption, longest=LONGEST)


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


class ShownSample(Protocol):
    """What the page needs of a picture of an evaluation set, whatever else is known of it."""

    @property
    def key(self) -> str:
        """Unique in its set."""
        ...

    @property
    def image(self) -> bytes:
        """Encoded."""
        ...

    @property
    def captions(self) -> tuple[str, ...]:
        """One or several or none."""
        ...

    @property
    def statements(self) -> tuple[str, ...]:
        """Candidates of which one is true of the picture, or none."""
        ...


class ShownPicture(NamedTuple):
    """A picture of an evaluation set, small, and what is said of it."""

    thumbnail: str | None
    """None where it cannot be read."""
    captions: tuple[str, ...]
    statements: tuple[str, ...]


def shown_pictures(
    samples: Iterable[ShownSample], keys: Collection[str]
) -> dict[str, ShownPicture]:
    """Those with these keys, in one pass that ends with the last of them.

    Raises InputError where there is no such picture.
    """
    missing, found = set(keys), {}
    for sample in samples if missing else ():
        if sample.key in missing:
            missing.remove(sample.key)
            picture = thumbnail(sample.image)
            found[sample.key] = ShownPicture(picture, sample.captions, sample.statements)
        if not missing:
            break
    if missing:
        raise InputError(
            f"the set has changed since it was measured (picture {min(missing)!r} is not in it): "
            "run `winnow evaluate` again"
        )
    return found
