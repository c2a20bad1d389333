"""Prepositions between two objects, and adjectives said of one by a verb."""

from collections.abc import Iterator
from typing import NamedTuple

from winnow.curation.grammar.actions import coordinated, verb_lemma
from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.vocabulary import COPULAS
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, PARTICIPLES, VERBS, Words


class Link(NamedTuple):
    """A preposition as indices of words."""

    preposition: int
    word: str
    subject: int
    object: int


def links(words: Words, lexicon: Lexicon) -> Iterator[Link]:
    """The relations, in the order of the caption."""
    for i in range(len(words)):
        if words.dep[i] != "prep":
            continue
        subject, lead = _holder(words, i, lexicon)
        if subject is None:
            continue
        name, target = _with_inner(words, i)
        if target is not None:
            for noun in coordinated(words, target):
                yield Link(i, lead + name, subject, noun)


def predicates(words: Words, lexicon: Lexicon) -> Iterator[tuple[int, str]]:
    """Nouns with an adjective that a verb says of them: "the house is white"."""
    for i in range(len(words)):
        if words.dep[i] not in ("acomp", "oprd", "attr") or words.tag[i] not in ADJECTIVES:
            continue
        verb = words.head[i]
        if words.tag[verb] not in VERBS or verb_lemma(words, verb, lexicon) not in COPULAS:
            continue
        subject = _subject(words, verb)
        if subject is None:
            continue
        for noun in coordinated(words, subject):
            yield noun, words.text[i]
            for child in words.children[i]:
                if words.dep[child] == "conj" and words.tag[child] in ADJECTIVES | PARTICIPLES:
                    yield noun, words.text[child]


def _subject(words: Words, verb: int) -> int | None:
    subject = words.child(verb, "nsubj", "nsubjpass", "attr")
    if subject is None or words.dep[verb] == "relcl":
        subject = words.head[verb] if words.dep[verb] == "relcl" else None
    return subject


def _holder(words: Words, i: int, lexicon: Lexicon) -> tuple[int | None, str]:
    """The noun that a preposition hangs on, and the words between: "next " of "next to"."""
    above = words.head[i]
    lead = ""
    while words.tag[above] in ("RB", "IN", "RP") and words.head[above] != above:
        lead = words.text[above] + " " + lead
        above = words.head[above]
    if words.tag[above] in NOUNS:
        return above, lead
    if words.tag[above] in VERBS and verb_lemma(words, above, lexicon) == "be":
        there = words.child(above, "expl") is not None
        return (words.child(above, "attr") if there else _subject(words, above)), lead
    return None, lead


def _with_inner(words: Words, i: int) -> tuple[str, int | None]:
    """A preposition and its object, through a second one: "from behind the trees"."""
    target = words.child(i, "pobj")
    inner = words.child(i, "prep")
    if target is not None or inner is None:
        return words.text[i], target
    further, target = _with_inner(words, inner)
    return f"{words.text[i]} {further}", target
