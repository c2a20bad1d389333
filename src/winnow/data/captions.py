"""Captions to choose from: a sample's own, and alternatives by uid that users bring.

    captions.arrow     the alternatives of each uid that has any, by uid; a list of distinct texts
    keys.npy           their uids, sorted: see `data.keyed`
    captions.json      CaptionFacts, written last

The files that users bring are read once and joined to a selection, in bounded memory; the result
lies in the user's cache, is memory-mapped, and processes share its pages. Training with several
captions a picture: Fan et al. (LaCLIP), NeurIPS 2023, arXiv 2305.20088.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.config import as_dict, from_dict, read_json, write_json
from winnow.data.caption_files import CaptionFile, caption_files
from winnow.data.keyed import KEY_DTYPE, find, hex_digits, parse_uids, write_sorted
from winnow.data.mixture import Mixture
from winnow.data.selection import KeptSample, Selection
from winnow.data.user_cache import locked, user_cache
from winnow.types import InputError

_TABLE_FILE, _KEYS_FILE, _FACTS_FILE = "captions.arrow", "keys.npy", "captions.json"
_VERSION = 1
_UIDS_AT_ONCE = 1 << 16
_PART_SCHEMA = pa.schema({"f0": pa.uint64(), "f1": pa.uint64(), "text": pa.large_string()})
_TABLE_SCHEMA = pa.schema({"captions": pa.large_list(pa.large_string())})


@dataclass(frozen=True, kw_only=True)
class CaptionChoice:
    """Which caption of a sample an epoch shows, where it has alternatives."""

    original: float = 0.5
    """Probability of the sample's own caption; the alternatives share the rest evenly."""

    def __post_init__(self) -> None:
        if not 0 <= self.original <= 1:
            raise InputError(
                f"CaptionChoice(original={self.original}): a probability is from 0 to 1"
            )


@dataclass(frozen=True, kw_only=True)
class CaptionFacts:
    """What is known of the alternatives of a selection."""

    fingerprint: str
    """sha256 over uids and texts: neither the files nor the order in them decide it."""
    num_uids: int
    """Uids of the selection, each counted once."""
    num_with: int
    """Those of them that have alternatives."""
    num_captions: int
    """Alternatives, those of one uid being distinct."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Captions:
    """The alternatives of the samples of one selection."""

    folder: Path
    facts: CaptionFacts
    keys: np.ndarray
    """KEY_DTYPE, memory-mapped, sorted: the uids that have alternatives."""
    chunks: tuple[pa.RecordBatch, ...]
    """Their alternatives, memory-mapped."""
    chunk_starts: np.ndarray
    """int64: the number of the first uid of each chunk."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the files again instead of being sent what is in them.
        return _mapped, (self.folder,)

    def __str__(self) -> str:
        facts = self.facts
        each, without = facts.num_captions / facts.num_with, facts.num_uids - facts.num_with
        return (
            f"{facts.num_with:,} of {facts.num_uids:,} pairs have other captions, {each:.3g} on "
            f"average; {without:,} keep their own alone"
        )

    @property
    def fingerprint(self) -> str:
        """What decides, beside seed and choice, which captions are shown."""
        return self.facts.fingerprint

    def choose(
        self,
        samples: Sequence[KeptSample],
        epochs: np.ndarray,
        *,
        seed: int,
        choice: CaptionChoice,
    ) -> list[str]:
        """The caption of every sample in its epoch (int64), by chance keyed to (seed, epoch, uid).

        A sample without alternatives keeps its own.
        """
        uids = pa.array([sample.uid for sample in samples], pa.string())
        places = find(self.keys, parse_uids(uids, where="the selection"))
        chosen = []
        for sample, epoch, place in zip(samples, epochs.tolist(), places.tolist(), strict=True):
            drawn = _drawn(seed=seed, epoch=epoch, uid=sample.uid)
            if place < 0 or drawn < choice.original:
                chosen.append(sample.caption)
                continue
            texts = self._list(place)
            rest = (drawn - choice.original) / (1 - choice.original)
            chosen.append(texts[min(int(rest * len(texts)), len(texts) - 1)].as_py())
        return chosen

    def alternatives(self, uid: str) -> list[str]:
        """All alternatives of a uid, sorted; none where it has none."""
        (place,) = find(self.keys, parse_uids(pa.array([uid]), where="the question"))
        return [] if place < 0 else self._list(int(place)).to_pylist()

    def _list(self, place: int) -> Any:
        chunk = int(np.searchsorted(self.chunk_starts, place, side="right")) - 1
        return self.chunks[chunk].column(0)[place - int(self.chunk_starts[chunk])].values

    @classmethod
    def open(
        cls,
        specs: Sequence[str],
        *,
        selection: Selection | Mixture,
        cache: Path | None = None,
    ) -> "Captions":
        """The captions that files have for the pairs of `selection`, joined where they are not yet.

        A spec is FILE or FILE:COLUMN,COLUMN. `cache` is the folder for the join, about as large as
        the captions; None is `~/.cache/winnow`. Raises InputError where a file cannot be read, has
        no such columns, or none of the selection's uids is in any of them.
        """
        files = caption_files(specs)
        seen = [_VERSION, selection.fingerprint, [file.stamp() for file in files]]
        stamp = hashlib.sha256(json.dumps(seen).encode("utf-8", "surrogateescape")).hexdigest()
        above = user_cache() if cache is None else cache
        folder = above / f"captions-{stamp[:16]}"
        if not (folder / _FACTS_FILE).is_file():
            try:
                above.mkdir(parents=True, exist_ok=True)
                with locked(above / f"{folder.name}.lock"):
                    if not (folder / _FACTS_FILE).is_file():
                        _build(folder, files, selection)
            except OSError as error:
                raise InputError(
                    f"captions cannot be joined in {above} ({error.strerror}): give "
                    "Captions.open(cache=...) a folder with room for them"
                ) from error
        return _mapped(folder)


def _drawn(*, seed: int, epoch: int, uid: str) -> float:
    """A number in [0, 1), of a stream of its own for each key and none that a picture's is of."""
    key = np.array([seed % 2**64, int(uid[:16], 16)], dtype=np.uint64)
    counter = np.array([0, 1, epoch, int(uid[16:], 16)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).random()


def _build(folder: Path, files: Sequence[CaptionFile], selection: Selection | Mixture) -> None:
    """Make the folder, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        made, parts = Path(scratch, "made"), Path(scratch, "parts")
        made.mkdir()
        parts.mkdir()
        wanted = parts / "wanted.npy"
        num_uids = write_sorted(wanted, _uids(selection), dtype=KEY_DTYPE)
        found = _scatter(files, np.load(wanted, mmap_mode="r", allow_pickle=False), parts)
        if not found:
            example = next(_uids(selection))[:1]
            raise InputError(
                f"{', '.join(file.path for file in files)}: none of the uids is one of "
                f"{selection.description}, whose first is {hex_digits(example)[0]}: captions are "
                "joined by the uid in the ledger"
            )
        facts = _write(made, found)
        write_json(made / _FACTS_FILE, as_dict(replace(facts, num_uids=num_uids)))
        shutil.rmtree(folder, ignore_errors=True)
        made.replace(folder)


def _uids(selection: Selection | Mixture) -> Iterator[np.ndarray]:
    parts = selection.selections if isinstance(selection, Mixture) else (selection,)
    for part in parts:
        for chunk in part.table.column("uid").chunks:
            for start in range(0, len(chunk), _UIDS_AT_ONCE):
                uids = chunk.slice(start, _UIDS_AT_ONCE)
                yield parse_uids(uids, where=str(part.directory))


def _scatter(files: Sequence[CaptionFile], wanted: np.ndarray, folder: Path) -> list[Path]:
    """The captions of wanted uids, in a file for each first byte that one begins with, by byte."""
    with ExitStack() as stack:
        writers: dict[int, pa.RecordBatchFileWriter] = {}
        for file in files:
            for key, text in file.texts():
                is_wanted = find(wanted, key) >= 0
                key, text = key[is_wanted], text.filter(pa.array(is_wanted))
                first_byte = (key["f0"] >> np.uint64(56)).astype(np.uint8)
                for byte in np.unique(first_byte).tolist():
                    here = first_byte == byte
                    if byte not in writers:
                        path = str(folder / f"{byte:02x}.arrow")
                        writers[byte] = stack.enter_context(pa.ipc.new_file(path, _PART_SCHEMA))
                    columns = [key["f0"][here], key["f1"][here], text.filter(pa.array(here))]
                    writers[byte].write_batch(
                        pa.record_batch([pa.array(c) for c in columns], schema=_PART_SCHEMA)
                    )
    return [folder / f"{byte:02x}.arrow" for byte in sorted(writers)]


def _write(folder: Path, parts: Sequence[Path]) -> CaptionFacts:
    """Sort the captions of every part, those of one uid into a list; `num_uids` is left open."""
    digest, num_captions, keys = hashlib.sha256(), 0, []
    with pa.ipc.new_file(str(folder / _TABLE_FILE), _TABLE_SCHEMA) as writer:
        for part in parts:
            with pa.memory_map(str(part)) as source:
                table = pa.ipc.open_file(source).read_all()
                key, starts, text = _distinct(table)
            lists = pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), text)
            writer.write_table(pa.table([lists], schema=_TABLE_SCHEMA), max_chunksize=_UIDS_AT_ONCE)
            for octets in (key.tobytes(), np.diff(starts).tobytes(), *_octets(text)):
                digest.update(octets)
            keys.append(key)
            num_captions += len(text)
    np.save(folder / _KEYS_FILE, np.concatenate(keys), allow_pickle=False)
    return CaptionFacts(
        fingerprint=digest.hexdigest(),
        num_uids=0,
        num_with=sum(map(len, keys)),
        num_captions=num_captions,
    )


def _distinct(table: pa.Table) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """The keys of a part, int64 where the captions of each begin (and the end), the captions.

    All are sorted, and a caption that a uid has twice is there once.
    """
    table = table.sort_by([(name, "ascending") for name in _PART_SCHEMA.names]).combine_chunks()
    f0, f1 = (table.column(name).to_numpy() for name in ("f0", "f1"))
    text = pa.concat_arrays(table.column("text").chunks)
    is_next = np.ones(len(table), dtype=bool)  # of another uid than the row before
    is_next[1:] = (f0[1:] != f0[:-1]) | (f1[1:] != f1[:-1])
    is_new = is_next.copy()
    is_new[1:] |= pc.not_equal(text[1:], text[:-1]).to_numpy(zero_copy_only=False)
    starts = np.append(np.flatnonzero(is_next[is_new]), np.count_nonzero(is_new))
    key = np.empty(np.count_nonzero(is_next), dtype=KEY_DTYPE)
    key["f0"], key["f1"] = f0[is_next], f1[is_next]
    return key, starts, text.filter(pa.array(is_new))


def _octets(text: pa.Array) -> tuple[bytes, memoryview]:
    """The lengths of the texts, and all of them strung together."""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    return np.diff(bounds).tobytes(), memoryview(data)[bounds[0] : bounds[-1]]


def _mapped(folder: Path) -> Captions:
    facts = from_dict(CaptionFacts, read_json(folder / _FACTS_FILE), where=str(folder))
    try:
        keys = np.load(folder / _KEYS_FILE, mmap_mode="r", allow_pickle=False)
        chunks = pa.ipc.open_file(pa.memory_map(str(folder / _TABLE_FILE))).read_all().to_batches()
    except (OSError, EOFError, ValueError) as error:
        raise _damaged(folder, str(error)) from error
    lengths = [chunk.num_rows for chunk in chunks]
    if not len(keys) == sum(lengths) == facts.num_with:
        raise _damaged(folder, f"it is not of the {facts.num_with} uids that it should be")
    starts = np.cumsum([0, *lengths])[:-1]
    return Captions(
        folder=folder, facts=facts, keys=keys, chunks=tuple(chunks), chunk_starts=starts
    )


def _damaged(folder: Path, detail: str) -> InputError:
    return InputError(f"{folder} is damaged ({detail}): remove it, and it will be made again")
