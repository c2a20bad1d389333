"""Pairs that must not be used: takedowns, opt-outs, pictures of an evaluation set.

A list is only as good as its certainty to be applied, so an entry that cannot be understood stops
the selection, with its line.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Rule
from winnow.curation.rules.stamp import stamp
from winnow.types import InputError

_COMMENT = re.compile(r"(?:^|\s)#.*")
_HOST = re.compile(r"(?i)(?:[a-z][a-z0-9+.-]*:)?//(?:[^/?#@\\]*@)?(\[[^\]]*\]|[^/?#:\\]*)")
_FORMS = {
    "uid": re.compile(r"[0-9a-fA-F]{32}\Z"),
    "sha256": re.compile(r"[0-9a-fA-F]{64}\Z"),
    "host": re.compile(r"\.[^\s/.][^\s/]*\Z"),
    "url": _HOST,
}
_FOR_PEOPLE = {
    "uid": "uid (32 hex digits)",
    "sha256": "sha256 (64 hex digits)",
    "host": "host such as '.example.com'",
    "url": "URL with '//'",
}
_COLUMNS = ("uid", "url", "sha256")
_KINDS_IN = {"": tuple(_FORMS), "uid": ("uid",), "sha256": ("sha256",), "url": ("host", "url")}
_ENTRIES_AT_ONCE = 1 << 16

_MEND = "give a list of uids, URLs, hosts or hashes"


@dataclass(frozen=True, kw_only=True)
class Exclude(Rule):
    """Drops the pairs that a file names by uid, by URL, by host or by the sha256 of the picture.

    One entry a line: 32 hex digits are a uid, 64 a picture, `.example.com` is that host with all
    hosts below it, and `https://...` is one URL, character by character. A `#` at the start
    of a line or behind a space begins a comment. A csv or parquet file has its entries in columns
    called `uid`, `url` and `sha256`, or in its only column. The reason names the entry.

    An entry costs 8 bytes, three times that while they are sorted. They are known by 64 bits of
    their hash: of a billion pairs against ten million entries, the chance that any one is dropped
    without being named is 0.3 %; what is named is dropped.
    """

    codes: ClassVar[tuple[str, ...]] = ("excluded",)

    path: Path

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        """See Rule. Raises InputError where the file cannot be read, or an entry not understood."""
        entries = _read(self.path, stamp(self.path, mend=_MEND))
        reasons = pa.nulls(rows.num_rows, pa.string())
        if "uid" in entries:
            reasons = pc.coalesce(reasons, _reasons("uid", rows["uid"].to_pylist(), entries["uid"]))
        if "sha256" in entries:
            found = _reasons("sha256", rows["sha256"].to_pylist(), entries["sha256"])
            reasons = pc.coalesce(reasons, found)
        urls = [url and url.strip() for url in rows["url"].to_pylist()]
        if "url" in entries:
            reasons = pc.coalesce(reasons, _reasons("url", urls, entries["url"]))
        if "host" in entries:
            reasons = pc.coalesce(reasons, _host_reasons(urls, entries["host"]))
        return reasons


class _Line(NamedTuple):
    """One entry of a list."""

    text: str
    number: int
    """Of its line, or row of a parquet file."""
    column: str = ""
    """What its column says it is, if anything."""


def _reasons(kind: str, texts: list[str | None], entries: np.ndarray) -> pa.Array:
    present = [text is not None for text in texts]
    known = [text for text in texts if text is not None]
    listed = np.zeros(len(texts), dtype=bool)
    listed[present] = _contains(entries, _hashes(known))
    found = [
        f"excluded: {kind} {t}" if is_listed else None
        for t, is_listed in zip(texts, listed, strict=True)
    ]
    return pa.array(found, pa.string())


def _host_reasons(urls: list[str | None], entries: np.ndarray) -> pa.Array:
    """The reason names the entry, which may be a host above the URL's own."""
    rows, above = [], []
    for row, url in enumerate(urls):
        for host in _hosts_above(url or ""):
            rows.append(row)
            above.append(host)
    reasons: list[str | None] = [None] * len(urls)
    for index in np.flatnonzero(_contains(entries, _hashes(above))):
        reasons[rows[index]] = f"excluded: host .{above[index]}"
    return pa.array(reasons, pa.string())


def _contains(entries: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    place = np.searchsorted(entries, hashes).clip(max=len(entries) - 1)
    return entries[place] == hashes


def _hashes(texts: Iterable[str]) -> np.ndarray:
    digests = [blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8")


def _hosts_above(url: str) -> list[str]:
    """The host of a URL and the hosts it is below: a.b.org, b.org, org."""
    found = _HOST.match(url)
    labels = _normal_host(found[1]).split(".") if found else [""]
    return [".".join(labels[first:]) for first in range(len(labels)) if labels[first]]


def _normal_host(host: str) -> str:
    """In lower case and ASCII, as a browser asks for it."""
    host = host.lower().rstrip(".")
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:  # no host that could ever be asked for; it equals itself all the same
        return host


_NORMAL: dict[str, Callable[[str], str]] = {
    "uid": str.lower,
    "sha256": str.lower,
    "host": lambda text: _normal_host(text.removeprefix(".")),
    "url": str,
}
"""An entry as it is hashed."""


# Rules travel to workers afresh with every shard; a long list is read once in a process.
@lru_cache(maxsize=4)
def _read(path: Path, _: tuple[int, int]) -> dict[str, np.ndarray]:
    """Sorted uint64 hashes of all entries, by kind."""
    hashes: dict[str, list[np.ndarray]] = defaultdict(list)
    texts: dict[str, list[str]] = defaultdict(list)
    for line in _lines(path):
        kind = _kind(line)
        if kind is None:
            raise _not_understood(line, path)
        texts[kind].append(_NORMAL[kind](line.text))
        if len(texts[kind]) == _ENTRIES_AT_ONCE:
            hashes[kind].append(_hashes(texts.pop(kind)))
    for kind, rest in texts.items():
        hashes[kind].append(_hashes(rest))
    if not hashes:
        raise InputError(f"{path} has no entry, so it would exclude nothing: {_MEND}")
    return {kind: _sorted(hashes.pop(kind)) for kind in list(hashes)}


def _sorted(parts: list[np.ndarray]) -> np.ndarray:
    whole = np.concatenate(parts)
    # In place: np.unique would take several times the memory.
    whole.sort()
    return whole


def _kind(line: _Line) -> str | None:
    """What an entry names; None where that cannot be said, or where its column says otherwise."""
    for kind in _KINDS_IN[line.column]:
        if _FORMS[kind].match(line.text):
            return kind
    return None


def _not_understood(line: _Line, path: Path) -> InputError:
    forms = " and no ".join(_FOR_PEOPLE[kind] for kind in _KINDS_IN[line.column])
    return InputError(
        f"line {line.number} of {path} is {line.text!r}, which is no {forms}: correct it, or "
        "nothing can be said to be excluded"
    )


def _lines(path: Path) -> Iterator[_Line]:
    """All that is not blank and no comment."""
    kind = path.suffix.lower()
    try:
        if kind == ".parquet":
            yield from _lines_of_parquet(path)
        elif kind in (".csv", ".tsv"):
            yield from _lines_of_csv(path, delimiter="\t" if kind == ".tsv" else ",")
        else:
            yield from _lines_of_text(path)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as a list of exclusions: {error}") from error


def _lines_of_text(path: Path) -> Iterator[_Line]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            text = (_COMMENT.sub("", line) if "#" in line else line).strip()
            if text:
                yield _Line(text, number)


def _lines_of_parquet(path: Path) -> Iterator[_Line]:
    with pq.ParquetFile(path) as file:
        columns = _columns(file.schema_arrow.names, path)
        yield from _lines_of_batches(file.iter_batches(_ENTRIES_AT_ONCE, columns=columns), first=1)


def _lines_of_csv(path: Path, *, delimiter: str) -> Iterator[_Line]:
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter)
    with pyarrow.csv.open_csv(path, parse_options=parse) as head:
        columns = _columns(head.schema.names, path)
    # Digits alone are no number here.
    convert = pyarrow.csv.ConvertOptions(
        include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
    )
    with pyarrow.csv.open_csv(path, parse_options=parse, convert_options=convert) as batches:
        yield from _lines_of_batches(batches, first=2)


def _lines_of_batches(batches: Iterable[pa.RecordBatch], *, first: int) -> Iterator[_Line]:
    for rows in batches:
        for name in rows.schema.names:
            texts = pc.utf8_trim_whitespace(rows[name].cast(pa.string())).to_pylist()
            column = name if name in _COLUMNS else ""
            yield from (_Line(t, n, column) for n, t in enumerate(texts, start=first) if t)
        first += rows.num_rows


def _columns(names: list[str], path: Path) -> list[str]:
    found = [name for name in names if name in _COLUMNS] or (names if len(names) == 1 else [])
    if not found:
        raise InputError(
            f"{path} has none of the columns {', '.join(_COLUMNS)}; its columns are "
            f"{', '.join(map(repr, names))}: rename the one that lists what to exclude"
        )
    if found[0] not in _COLUMNS and _kind(_Line(found[0], 1)) is not None:
        raise InputError(
            f"{path} begins with the entry {found[0]!r}, where a table names its columns: put a "
            "line with `uid`, `url` or `sha256` before it"
        )
    return found
