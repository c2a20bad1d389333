"""Ways to ask of a caption how complex it is and whether something happens in it.

Each peer turns captions into `Reading`s. The shortcuts are those of public CAT filters
(docs/methods/cat.md says what they miss): an action is a verb with an nsubj child, complexity is
the largest number of children of any word. SceneGraphParser's graphs are counted as ours are: an
object's adjectives, and each of its relations once for every word.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from winnow.curation.parse import Parser, installed_pipeline
from winnow.curation.rules.complexity import Complexity

HOW_TO_INSTALL = "pip install SceneGraphParser"


class Reading(NamedTuple):
    """What a peer makes of a caption."""

    has_action: bool
    complexity: int
    english: bool = True
    """Whether it is taken for English; only winnow asks."""

    @property
    def is_kept(self) -> bool:
        """By the C and A of CAT."""
        return self.english and self.has_action and self.complexity >= Complexity().least


Read = Callable[[Sequence[str]], list[Reading]]


def readers() -> dict[str, Read]:
    """Every peer that is installed, by name."""
    peers = {
        "winnow": winnow_reader(),
        "public shortcuts (nsubj child; children of any word)": shortcut_reader(),
    }
    scene_graphs = scene_graph_parser()
    if scene_graphs is not None:
        peers["SceneGraphParser"] = scene_graph_reader(scene_graphs)
    return peers


def winnow_reader() -> Read:
    """This project's parser."""
    parser = Parser()

    def read(captions: Sequence[str]) -> list[Reading]:
        return [
            Reading(bool(graph.actions), graph.complexity, graph.foreign is None)
            for graph in parser.graphs(captions)
        ]

    return read


def shortcut_reader() -> Read:
    """The two shortcuts, over the same pipeline."""
    import spacy

    nlp = spacy.load(installed_pipeline(None), exclude=["ner", "senter", "lemmatizer"])

    def read(captions: Sequence[str]) -> list[Reading]:
        return [
            Reading(
                any(
                    child.dep_ == "nsubj"
                    for word in doc
                    if word.pos_ == "VERB"
                    for child in word.children
                ),
                max((word.n_lefts + word.n_rights for word in doc), default=0),
            )
            for doc in nlp.pipe(captions)
        ]

    return read


def scene_graph_parser() -> Any:
    """SceneGraphParser over the same pipeline, or None where it cannot be had, after saying why."""
    try:
        import sng_parser
    except ImportError as error:
        print(f"left out: SceneGraphParser ({error}); to have it: {HOW_TO_INSTALL}")
        return None
    return sng_parser.Parser("spacy", model=installed_pipeline(None))


def scene_graph_reader(parser: Any) -> Read:
    """What SceneGraphParser's graphs amount to."""

    def read(captions: Sequence[str]) -> list[Reading]:
        return [_of_scene_graph(*parser.parse(caption, return_doc=True)) for caption in captions]

    return read


def bare_pipeline() -> Any:
    """spaCy with the components that winnow's parser runs, and nothing after them."""
    import spacy

    without = ["ner", "senter", "lemmatizer", "attribute_ruler"]
    return spacy.load(installed_pipeline(None), exclude=without)


def _of_scene_graph(graph: dict, doc: Any) -> Reading:
    verbs = {word.text for word in doc if word.pos_ == "VERB"}
    attached: list[set[tuple[str, str]]] = [
        {("adjective", m["span"]) for m in entity["modifiers"] if m["dep"] == "amod"}
        for entity in graph["entities"]
    ]
    for relation in graph["relations"]:
        for side in ("subject", "object"):
            attached[relation[side]].add((side, relation["relation"]))
    return Reading(
        any(
            word in verbs
            for relation in graph["relations"]
            for word in relation["relation"].split()
        ),
        max(map(len, attached), default=0),
    )
