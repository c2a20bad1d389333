"""Looking at a data set before a long run: a sample of its pairs, each read as training reads it.

The sample is a function of the data set and a seed. Of raw shards it is the first pairs of some of
them: the first shard, the last, and others by hashes of their names; a tar has no index, so what
stands further back could not be reached without reading all before it. Of a selection it is what
the training order begins with, read at its addresses.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from winnow.data.files import state_of
from winnow.data.images import ImageError, ImageFacts, probe
from winnow.data.ledger import Address, make_uid
from winnow.data.order import Order
from winnow.data.sample import RawSample
from winnow.data.selection import KEPT_SCHEMA, KeptSample, Selection, write_selection
from winnow.data.sources import Source, open_reader
from winnow.types import InputError

SHARDS_IN_DEPTH = 8
"""Shards of which pairs are looked at, where there are more."""

_STATES_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """One pair as it was found."""

    shard: str
    address: Address
    uid: str
    caption: str | None
    """None where there is none that can be read."""
    num_bytes: int
    """Of the encoded picture."""
    digest: bytes
    """sha256 of the picture's bytes; empty where there are none."""
    picture: ImageFacts | None
    """None where the picture cannot be read."""
    error: str | None
    """"code: detail", as the ledger records it; None where the pair can be read."""
    has_uid: bool
    """Whether the pair brings its uid with it; otherwise that is the hash of its content."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was looked at."""

    pairs: tuple[LookedAt, ...]
    shards: tuple[str, ...]
    """Of which pairs were looked at, in the order of the data set."""
    unreadable: dict[str, str]
    """Shards among these that cannot be read as a whole, or not to their end, and why."""
    how: str
    """How the sample was drawn, in words."""


def look_at_shards(
    source: Source, *, samples: int, seed: int, advance: Callable[[int], None]
) -> Looked:
    """The first pairs of some shards, about `samples` in all."""
    chosen = choose_shards(source.shards, most=SHARDS_IN_DEPTH, seed=seed)
    share = -(-samples // len(chosen))
    pairs, unreadable = list[LookedAt](), dict[str, str]()
    for shard in chosen:
        try:
            for sample in islice(source.scan(shard), share):
                pairs.append(_looked_at(shard, sample))
                advance(1)
        except InputError as error:
            unreadable[shard] = str(error)
    how = f"the first {share:,} pairs of each of {len(chosen):,} of {len(source.shards):,} shards"
    return Looked(pairs=tuple(pairs), shards=chosen, unreadable=unreadable, how=how)


def look_at_selection(
    selection: Selection, *, samples: int, seed: int, advance: Callable[[int], None]
) -> Looked:
    """What the training order begins with: `samples` pairs, or all where there are fewer."""
    order = Order(shard_counts=selection.shard_counts, seed=seed)
    rows = np.sort(order.rows(np.arange(min(samples, len(selection)))))
    pairs, unreadable = list[LookedAt](), dict[str, str]()
    # Rows stand shard by shard, so every shard is opened once.
    for shard, kept in groupby(selection.samples(rows), key=lambda sample: sample.shard):
        try:
            with open_reader(shard, columns=selection.columns) as reader:
                for sample in kept:
                    pairs.append(_looked_again(sample, reader.read(sample.address)))
                    advance(1)
        except InputError as error:
            unreadable[shard] = str(error)
    shards = tuple(dict.fromkeys([*(pair.shard for pair in pairs), *unreadable]))
    how = f"the first {len(rows):,} of {len(selection):,} pairs in the order of training"
    return Looked(pairs=tuple(pairs), shards=shards, unreadable=unreadable, how=how)


def choose_shards(shards: Sequence[str], *, most: int, seed: int) -> tuple[str, ...]:
    """The first, the last, and others by a hash of seed and name; at most `most`, in order."""
    between = sorted(range(1, len(shards) - 1), key=lambda index: _hash(shards[index], seed))
    chosen = {0, len(shards) - 1, *between[: max(0, most - 2)]}
    return tuple(shards[index] for index in sorted(chosen))


def read_sizes(shards: Sequence[str]) -> dict[str, int]:
    """Bytes of every shard that can be asked for them; none of it is read."""
    with ThreadPoolExecutor(_STATES_AT_ONCE) as threads:
        sizes = threads.map(_size, shards)
        return {shard: size for shard, size in zip(shards, sizes, strict=True) if size is not None}


def as_selection(looked: Looked, source: Source, directory: Path) -> Selection:
    """The readable pairs that were looked at, as a selection in `directory` that the loader reads.

    Raises InputError where none of them can be read.
    """
    readable = [pair for pair in looked.pairs if pair.error is None]
    if not readable:
        raise InputError(
            f"none of the {len(looked.pairs):,} pairs looked at ({looked.how}) can be read, the "
            f"first because of {looked.pairs[0].error if looked.pairs else 'an empty shard'}"
        )
    tables = [_kept(readable, shard) for shard in looked.shards]
    write_selection(directory, list(looked.shards), tables, columns=source.columns)
    return Selection.open(directory)


@dataclass(frozen=True, kw_only=True)
class CaptionFacts:
    """What the captions of a sample are like."""

    count: int
    """Captions that could be read, empty ones too."""
    empty: int
    """With nothing but white space."""
    tokens: tuple[int, int, int]
    """Tokens of a caption, start and end included: the 5th percentile, the median, the 95th."""
    cut: int
    """Longer than the text tower's context, which sees their beginning."""
    repeated: int
    """Captions that an earlier pair of the sample has too, but for case and white space."""
    most_frequent: tuple[tuple[str, int], ...]
    """The commonest captions that occur more than once, with how often."""


def caption_facts(
    captions: Sequence[str], *, count_tokens: Callable[[str], int], context_length: int
) -> CaptionFacts:
    """Facts of at least one caption; `count_tokens` leaves start and end out."""
    lengths = np.array([count_tokens(caption) + 2 for caption in captions])
    words = Counter(" ".join(caption.lower().split()) for caption in captions)
    low, middle, high = np.quantile(lengths, (0.05, 0.5, 0.95), method="nearest").tolist()
    return CaptionFacts(
        count=len(captions),
        empty=words[""],
        tokens=(low, middle, high),
        cut=int((lengths > context_length).sum()),
        repeated=len(captions) - len(words),
        most_frequent=tuple((text, n) for text, n in words.most_common(3) if n > 1 and text),
    )


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """What the pictures of a sample are like."""

    count: int
    """Pictures that can be read."""
    failures: dict[str, int]
    """Pairs that cannot be read, by code, the commonest first."""
    formats: dict[str, int]
    """By name, the commonest first."""
    sides: tuple[int, int]
    """Medians of width and height, pixels."""
    kilobytes: float
    """Mean size of a file, in 1,000 bytes."""
    small: int
    """With a side shorter than what the model takes, so that they are enlarged."""
    copies: int
    """The same file, byte for byte, as an earlier one of the sample."""


def picture_facts(pairs: Sequence[LookedAt], *, image_size: int) -> PictureFacts:
    """Facts of pairs, of which at least one can be read."""
    readable = [pair for pair in pairs if pair.picture is not None and pair.error is None]
    facts = [pair.picture for pair in readable if pair.picture is not None]
    errors = Counter(pair.error.partition(":")[0] for pair in pairs if pair.error is not None)
    widths, heights = [one.width for one in facts], [one.height for one in facts]
    return PictureFacts(
        count=len(facts),
        failures=dict(errors.most_common()),
        formats=dict(Counter(one.format for one in facts).most_common()),
        sides=(int(np.median(widths)), int(np.median(heights))),
        kilobytes=sum(pair.num_bytes for pair in readable) / len(readable) / 1000,
        small=sum(min(one.width, one.height) < image_size for one in facts),
        copies=len(readable) - len({pair.digest for pair in readable}),
    )


def _looked_at(shard: str, sample: RawSample) -> LookedAt:
    image, error, facts = sample.image, sample.error, None
    if error is None and image is not None:
        facts, error = _probed(image)
    uid = make_uid(image or b"", sample.caption or "", sample.metadata)
    return LookedAt(
        shard=shard,
        address=Address(sample.key, sample.offset, sample.size),
        uid=uid,
        caption=sample.caption,
        num_bytes=len(image or b""),
        digest=hashlib.sha256(image).digest() if image else b"",
        picture=facts,
        error=error,
        has_uid=str(sample.metadata.get("uid", "")).lower() == uid,
    )


def _looked_again(sample: KeptSample, image: bytes) -> LookedAt:
    facts, error = _probed(image)
    return LookedAt(
        shard=sample.shard,
        address=sample.address,
        uid=sample.uid,
        caption=sample.caption,
        num_bytes=len(image),
        digest=hashlib.sha256(image).digest(),
        picture=facts,
        error=error,
        has_uid=True,
    )


def _probed(image: bytes) -> tuple[ImageFacts | None, str | None]:
    try:
        return probe(image), None
    except ImageError as error:
        return None, str(error)


def _kept(pairs: Sequence[LookedAt], shard: str) -> pa.Table:
    rows = [_row(pair) for pair in pairs if pair.shard == shard]
    schema = pa.schema([KEPT_SCHEMA.field(name) for name in KEPT_SCHEMA.names[1:]])
    return pa.Table.from_pylist(rows, schema=schema)


def _row(pair: LookedAt) -> dict[str, object]:
    key, offset, size = pair.address
    return {"key": key, "offset": offset, "size": size, "uid": pair.uid, "caption": pair.caption}


def _hash(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()


def _size(shard: str) -> int | None:
    try:
        return state_of(shard)[0]
    except InputError:
        return None
