"""Pictures for the browser: decoded here and encoded anew, so that no byte of a shard gets out.

What a browser is given is a WebP that Pillow wrote, whatever the shard has under that row: an svg
with a script or a page that calls itself a png never arrives. Pictures are known by their row.
"""

import hashlib
import io
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from winnow.data.images import ImageError, decode_rgb
from winnow.explore.pairs import Pairs
from winnow.types import InputError

THUMBNAIL, WHOLE = 224, 1024
"""Pixels of the longer side."""
MEDIA_TYPE = "image/webp"

_QUALITY = 82
DECODING = threading.Semaphore(4)
"""A picture may take 200 MB while it is decoded."""


def reencoded(data: bytes, *, longest: int) -> bytes:
    """The picture as WebP, its longer side at most `longest` pixels. Raises ImageError."""
    from PIL import Image

    with DECODING:
        decoded = decode_rgb(data, longest=longest)
        file = io.BytesIO()
        Image.fromarray(decoded.pixels).save(file, "webp", quality=_QUALITY)
    return file.getvalue()


def picture_of(pairs: Pairs, row: int, *, longest: int) -> bytes | None:
    """The picture of a row as WebP; None where it cannot be read any more."""
    try:
        with pairs.reader(pairs.shard(row)) as reader:
            data = reader.read(pairs.address(row))
        if hashlib.sha256(data).hexdigest() != pairs.table["sha256"][row].as_py():
            return None
        return reencoded(data, longest=longest)
    except (ImageError, InputError, OSError):
        return None


class Upload(NamedTuple):
    """A picture that was handed in: what is kept of it."""

    feature_D: np.ndarray
    """Not normalized."""
    thumbnail: bytes
    """WebP."""


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """The last pictures that were handed in, by token; in memory only."""

    most: int = 64
    """How many are kept."""
    _held: OrderedDict[str, Upload] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, token: str, upload: Upload) -> None:
        """Keep one; the one that was asked for longest ago goes where there are too many."""
        with self._lock:
            self._held[token] = upload
            self._held.move_to_end(token)
            while len(self._held) > self.most:
                self._held.popitem(last=False)

    def get(self, token: str) -> Upload | None:
        """The one with that token, if it is still kept."""
        with self._lock:
            if token in self._held:
                self._held.move_to_end(token)
            return self._held.get(token)
