"""The ledger: one parquet file per shard, one row for every sample of it, unreadable ones too.

Rows stand in the order of the shard. A row's **address** (shard, offset, size) says where the
picture's bytes are; its **uid** says which pair it is, wherever it lies.
"""

import hashlib
import re
from typing import Any, NamedTuple

import pyarrow as pa

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),  # 32 hex digits
        pa.field("key", pa.string(), nullable=False),  # the sample's own name in its shard
        pa.field("offset", pa.int64(), nullable=False),  # see Address
        pa.field("size", pa.int64(), nullable=False),
        pa.field("sha256", pa.string()),  # of the picture's bytes; null where there are none
        pa.field("caption", pa.string()),  # null where there is none
        pa.field("url", pa.string()),  # from the sample's json, where it has one
        pa.field("width", pa.int32()),  # pixels; null where the picture is unreadable
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),  # jpeg, png, webp, ...
        pa.field("picture_hash", pa.uint64()),  # see `perceptual`; null where there is none
        pa.field("error", pa.string()),  # "code: detail"; null where the pair can be read
    ]
)

_UID = re.compile(r"[0-9a-f]{32}")


class Address(NamedTuple):
    """Where the bytes of one picture are, in a shard.

    `offset` and `size` count bytes in a tar; in a parquet file they are the row group and the row
    within it; for a folder with a table, `key` is the picture's path and `offset` is 0.
    """

    key: str
    offset: int
    size: int


def make_uid(image: bytes, caption: str, metadata: dict[str, Any]) -> str:
    """The pair's identity, 32 hex digits: its json `uid`, or else the hash of its content.

    The hash is the first 16 bytes of sha256(image bytes + NUL + caption in UTF-8), so exact copies
    share it.
    """
    given = metadata.get("uid")
    if isinstance(given, str) and _UID.fullmatch(given.lower()):
        return given.lower()
    return hashlib.sha256(image + b"\0" + caption.encode()).hexdigest()[:32]
