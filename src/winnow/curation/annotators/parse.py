"""What a caption says, as columns: objects with attributes, actions, relations, complexity."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from winnow.curation.annotators.annotator import ERROR, Annotate, Annotator
from winnow.curation.parse import Graph, Parser, installed_pipeline

RULES_VERSION = 2
"""Of the code in `curation/parse.py` and `curation/grammar`: raised when a graph can change."""

SCHEMA = pa.schema(
    [
        pa.field(
            "objects",
            pa.list_(
                pa.struct(
                    [
                        ("text", pa.string()),
                        ("lemma", pa.string()),
                        ("attributes", pa.list_(pa.string())),
                        ("start", pa.int32()),
                        ("end", pa.int32()),
                    ]
                )
            ),
        ),
        pa.field(
            "actions",
            pa.list_(
                pa.struct(
                    [
                        ("verb", pa.string()),
                        ("subject", pa.int32()),
                        ("object", pa.int32()),
                        ("start", pa.int32()),
                        ("end", pa.int32()),
                    ]
                )
            ),
        ),
        pa.field(
            "relations",
            pa.list_(
                pa.struct(
                    [
                        ("word", pa.string()),
                        ("subject", pa.int32()),
                        ("object", pa.int32()),
                        ("start", pa.int32()),
                        ("end", pa.int32()),
                    ]
                )
            ),
        ),
        pa.field("complexity", pa.int32()),
        pa.field("foreign", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ParseCaptions(Annotator):
    """Parses captions into graphs; see `curation/parse.py`. Reads no pictures.

    `subject` and `object` of actions and relations are indices into the row's `objects`; offsets
    are in characters of the caption. `foreign` is null for what is taken for English.
    """

    pipeline: str | None = None
    """An installed English pipeline of spaCy; None takes the first small one that there is."""

    @property
    def name(self) -> str:
        """See Annotator."""
        return "parse"

    @property
    def schema(self) -> pa.Schema:
        """See Annotator."""
        return SCHEMA

    def identity(self) -> str:
        """See Annotator."""
        name = installed_pipeline(self.pipeline)
        version, digest = _fingerprint(name)
        return f"rules {RULES_VERSION}, {name} {version}, {digest}"

    def open(self) -> Annotate:
        """See Annotator."""
        parser = Parser(self.pipeline)

        def annotate(rows: pa.RecordBatch, pictures: Iterable[bytes]) -> pa.RecordBatch:
            captions = [caption or "" for caption in rows["caption"].to_pylist()]
            records = [_record(graph) for graph in parser.graphs(captions)]
            return pa.RecordBatch.from_pylist(records, schema=SCHEMA.append(ERROR))

        return annotate


def _record(graph: Graph) -> dict:
    return {
        "objects": [
            {
                "text": item.text,
                "lemma": item.lemma,
                "attributes": list(item.attributes),
                "start": item.start,
                "end": item.end,
            }
            for item in graph.objects
        ],
        "actions": [
            {
                "verb": action.verb,
                "subject": action.subject,
                "object": action.object,
                "start": action.start,
                "end": action.end,
            }
            for action in graph.actions
        ],
        "relations": [
            {
                "word": relation.word,
                "subject": relation.subject,
                "object": relation.object,
                "start": relation.start,
                "end": relation.end,
            }
            for relation in graph.relations
        ],
        "complexity": graph.complexity,
        "foreign": graph.foreign,
        "error": None,
    }


def _fingerprint(name: str) -> tuple[str, str]:
    """Version of an installed pipeline, and a hash of its files: names can lie, weights do not."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None, "installed_pipeline has found it"
    package = Path(spec.origin).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(
                f"{path.relative_to(package).as_posix()}\0{path.stat().st_size}\0".encode()
            )
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return json.loads((package / "meta.json").read_text())["version"], digest.hexdigest()[:16]
