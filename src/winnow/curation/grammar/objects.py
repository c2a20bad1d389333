"""Objects of a parsed piece: nouns with their compound parts, attributes and quantities."""

from winnow.curation.grammar.graph import Object
from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.vocabulary import QUANTIFIERS
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, PARTICIPLES, Words

_MODIFIERS = frozenset({"compound", "nmod", "amod", "npadvmod", "nummod", "punct"})


def heads_of(words: Words) -> list[int]:
    """Nouns that stand for an object: not those that are part of the compound after them."""
    return [
        i
        for i in range(len(words))
        if words.tag[i] in NOUNS and not _is_part(words, i) and any(map(str.isalnum, words.text[i]))
    ]


def make_object(
    words: Words, head: int, caption: str, lexicon: Lexicon, lead: tuple[str, ...]
) -> Object:
    """The object of a noun; `lead` are attributes found elsewhere, as in "the house is white"."""
    first = head
    while first > 0 and _is_part(words, first - 1) and _owner(words, first - 1) == head:
        first -= 1
    start, end = words.start[first], words.end[head]
    parts = [*words.text[first:head], lexicon.noun(words.text[head])]
    before, quantity = _modifiers(words, head, first)
    return Object(
        text=caption[start:end],
        lemma=" ".join(parts),
        attributes=tuple(dict.fromkeys([*before, *lead])),
        quantity=quantity,
        start=start,
        end=end,
    )


def _is_part(words: Words, i: int) -> bool:
    """Whether a noun belongs to a compound with the noun it hangs on, further right."""
    head = words.head[i]
    return (
        words.tag[i] in NOUNS
        and head > i
        and words.tag[head] in NOUNS
        and words.dep[i] in _MODIFIERS
        and all(words.dep[k] in _MODIFIERS and words.text[k] != "," for k in range(i + 1, head))
    )


def _owner(words: Words, i: int) -> int:
    while _is_part(words, i):
        i = words.head[i]
    return i


def _modifiers(words: Words, head: int, first: int) -> tuple[list[str], str | None]:
    """Attributes in the order of the caption, and the quantity."""
    found: list[int] = []
    quantity = None
    for part in range(first, head + 1):
        for child in words.children[part]:
            if _says_how_many(words, child):
                quantity = quantity or words.text[child]
            elif (
                words.dep[child] in ("amod", "nmod", "compound", "attribute")
                and words.tag[child] in ADJECTIVES | PARTICIPLES
            ):
                found += _with_conjuncts(words, child)
    return [words.text[i] for i in sorted(found)], quantity


def _says_how_many(words: Words, i: int) -> bool:
    return (
        words.dep[i] == "nummod"
        or words.tag[i] == "CD"
        or words.text[i] in QUANTIFIERS
        or (words.dep[i] == "det" and words.text[i] in ("a", "an"))
    )


def _with_conjuncts(words: Words, i: int) -> list[int]:
    """An adjective and those joined to it: "black and white"."""
    found = [i]
    for child in words.children[i]:
        if words.dep[child] == "conj" and words.tag[child] in ADJECTIVES | PARTICIPLES:
            found += _with_conjuncts(words, child)
        elif words.dep[child] == "amod" and words.tag[child] in ADJECTIVES:
            found.append(child)
    return found
