"""winnow's own data as a retrieval set: raw shards, or what a selection kept of them.

Every pair is a picture with one caption. Its key is its uid, which depends neither on the format
of the shards nor on how pairs are spread over them; an exact copy of an earlier pair counts on,
UID-2. The one split is "test". Of raw shards every pair must be readable; a selection holds no
other.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from winnow.data.files import is_remote
from winnow.data.ledger import make_uid
from winnow.data.selection import FACTS_FILE, KEPT_FILE, Selection
from winnow.data.sources import TABLES, Source, open_reader, open_source
from winnow.evaluation.sets.contents import Contents, Sample, Splits
from winnow.evaluation.sets.text_files import CLASSNAMES_FILE
from winnow.types import InputError

ONLY_SPLIT = "test"
_SHARDS = (".tar", ".parquet")


def selection_splits(path: Path) -> Splits:
    """The one split of a selection's folder."""
    return {ONLY_SPLIT: partial(_open_selection, path)} if (path / FACTS_FILE).is_file() else {}


def shard_splits(path: Path) -> Splits:
    """The one split of a tar or parquet file, or of a folder of them."""
    return _splits_by_suffix(path, _SHARDS)


def table_splits(path: Path) -> Splits:
    """The one split of a table with pictures beside it, or of a folder of them."""
    return _splits_by_suffix(path, TABLES)


def pair_table_splits(path: Path) -> Splits:
    """The same, but none for tables that lie in an ImageFolder and say something else."""
    found = {} if (path / CLASSNAMES_FILE).is_file() else table_splits(path)
    return found if found and _have_pairs(path) else {}


def _have_pairs(path: Path) -> bool:
    source = open_source(str(path))
    try:
        return all(next(source.scan(shard), True) for shard in source.shards)
    except InputError:  # no columns for picture and caption
        return False


def source_splits(spec: str) -> Splits:
    """The one split of what else `winnow curate` takes: a URL, or a pattern of several shards."""
    return {ONLY_SPLIT: partial(_open_source, spec)}


def _splits_by_suffix(path: Path, suffixes: tuple[str, ...]) -> Splits:
    files = [path] if path.is_file() else path.glob("*")
    return source_splits(str(path)) if any(f.name.endswith(suffixes) for f in files) else {}


def _open_source(spec: str) -> Contents:
    source = open_source(spec)
    return Contents(
        folder=Path(spec), files=_files(source.shards), read=partial(_read_source, source)
    )


def _open_selection(path: Path) -> Contents:
    selection = Selection.open(path)
    shards = _files(selection.shards)
    own = (str(path / FACTS_FILE), str(path / KEPT_FILE))
    return Contents(
        folder=path,
        files=None if shards is None else (*own, *shards),
        read=partial(_read_selection, selection),
        num_samples=len(selection),
    )


def _files(shards: tuple[str, ...]) -> tuple[str, ...] | None:
    # The pictures beside a table are files of their own, which nothing lists but its rows.
    return None if any(shard.endswith(TABLES) for shard in shards) else shards


def _read_source(source: Source) -> Iterator[Sample]:
    copies: Counter[str] = Counter()
    for shard in source.shards:
        for raw in source.scan(shard):
            if raw.error is not None or raw.image is None or raw.caption is None:
                raise InputError(
                    f"{shard}, sample {raw.key} cannot be read ({raw.error}): `winnow curate "
                    "SHARDS --out DIR --rules none` leaves such pairs out, and its selection can "
                    "be evaluated on instead"
                )
            uid = make_uid(raw.image, raw.caption, raw.metadata)
            where = f"{shard}, sample {raw.key}"
            yield _sample(copies, uid, raw.image, raw.caption, where=where)


def _read_selection(selection: Selection) -> Iterator[Sample]:
    copies: Counter[str] = Counter()
    for shard, kept in selection.by_shard():
        where = f"{shard}, sample {kept[0].address.key}"
        with open_reader(shard, columns=selection.columns) as reader:
            for one in kept:
                image = reader.read(one.address)
                yield _sample(copies, one.uid, image, one.caption, where=where)


def _sample(copies: Counter[str], uid: str, image: bytes, caption: str, *, where: str) -> Sample:
    if not caption.strip():
        raise InputError(
            f"{where} has a blank caption: `winnow curate SHARDS --out DIR --rules clean` drops "
            "such pairs, and its selection can be evaluated on instead"
        )
    copies[uid] += 1
    key = uid if copies[uid] == 1 else f"{uid}-{copies[uid]}"
    return Sample(key, image, captions=(caption.strip(),))


def is_source_spec(spec: str) -> bool:
    """Whether `spec` can only name shards: a URL, or a pattern rather than a path."""
    return is_remote(spec) or (any(mark in spec for mark in "*?{") and not Path(spec).exists())
