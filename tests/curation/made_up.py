"""An annotator and a rule on what it finds, cheap enough to be looked through."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from winnow.curation.annotators.annotator import ERROR, Annotate, Annotator
from winnow.curation.corpus import Corpus
from winnow.curation.rules.rule import Measure, Rule, reason_where


@dataclass(frozen=True, kw_only=True)
class CountBytes(Annotator):
    """Counts the bytes of the picture and the letters of the caption; fails on what it is told."""

    reads_pictures: ClassVar[bool] = True

    version: int = 1
    skips: str = ""
    """A letter that is not counted; a new one is a new identity."""
    fails_on: str = "nothing"
    log: Path | None = None
    """Where each caption that is looked at is noted."""

    @property
    def name(self) -> str:
        return "count-bytes"

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([("num_bytes", pa.int64()), ("letters", pa.list_(pa.string()))])

    def identity(self) -> str:
        return f"version {self.version}{self.skips}"

    def open(self) -> Annotate:
        def annotate(rows: pa.RecordBatch, pictures: Iterable[bytes]) -> pa.RecordBatch:
            found = []
            for caption, picture in zip(rows["caption"].to_pylist(), pictures, strict=True):
                if self.log is not None:
                    with self.log.open("a") as log:
                        log.write(caption + "\n")
                if self.fails_on in caption:
                    found.append({"error": "counting failed: told to"})
                else:
                    found.append(
                        {"num_bytes": len(picture), "letters": sorted(set(caption) - {self.skips})}
                    )
            return pa.RecordBatch.from_pylist(found, schema=self.schema.append(ERROR))

        return annotate


@dataclass(frozen=True, kw_only=True)
class CountWords(Annotator):
    """Counts words; reads no picture."""

    @property
    def name(self) -> str:
        return "count-words"

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([("words", pa.int64())])

    def identity(self) -> str:
        return "words"

    def open(self) -> Annotate:
        def annotate(rows: pa.RecordBatch, pictures: Iterable[bytes]) -> pa.RecordBatch:
            assert not list(pictures)
            found = [{"words": len(c.split())} for c in rows["caption"].to_pylist()]
            return pa.RecordBatch.from_pylist(found, schema=self.schema.append(ERROR))

        return annotate


@dataclass(frozen=True, kw_only=True)
class ManyWords(Rule):
    """Drops captions with too few words, as CountWords counts them."""

    codes: ClassVar[tuple[str, ...]] = ("few-words",)

    least: int = 2

    @property
    def needs(self) -> tuple[str, ...]:
        return ("words",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        return reason_where(pc.less(rows["words"], self.least), "few-words")


@dataclass(frozen=True, kw_only=True)
class ManyLetters(Rule):
    """Drops captions with too few different letters."""

    codes: ClassVar[tuple[str, ...]] = ("few-letters",)

    least: int = 5

    @property
    def needs(self) -> tuple[str, ...]:
        return ("letters",)

    def verdicts(self, rows: pa.RecordBatch, corpus: Corpus) -> pa.Array:
        (measure,) = self.measures(rows, corpus)
        return reason_where(pc.less(measure.values, self.least), "few-letters")

    def measures(self, rows: pa.RecordBatch, corpus: Corpus) -> tuple[Measure, ...]:
        return (Measure("letters", pc.list_value_length(rows["letters"]), least=self.least),)
