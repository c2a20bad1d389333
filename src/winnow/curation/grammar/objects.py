"""Objects of a parsed piece: nouns with their compound parts, attributes and quantities."""

from winnow.curation.grammar.graph import Object
from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.vocabulary import QUANTIFIERS
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, PARTICIPLES, Words

_MODIFIERS = frozenset({"compound", "nmod", "amod", "npadvmod", "nummod", "punct"})
_INSIDE = _MODIFIERS | {"cc", "conj"}


def heads_of(words: Words) -> list[int]:
    """Nouns that stand for an object: not those that are part of the compound after them."""
    return [
        i
        for i in range(len(words))
        if words.tag[i] in NOUNS
        and _whole(words, i) is None
        and any(map(str.isalnum, words.text[i]))
    ]


def make_object(
    words: Words, head: int, caption: str, lexicon: Lexicon, lead: tuple[str, ...]
) -> Object:
    """The object of a noun; `lead` are attributes found elsewhere, as in "the house is white"."""
    first = head
    for i in range(head - 1, -1, -1):
        if _whole(words, i) is not None:
            if _owner(words, i) != head:
                break
            first = i
        elif words.dep[i] not in _INSIDE:
            break
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


def _whole(words: Words, i: int) -> int | None:
    """The noun further right in whose text a noun stands, by a compound or joined to one."""
    if words.tag[i] not in NOUNS:
        return None
    head = words.head[i]
    if words.dep[i] == "conj" and head < i:
        # "Gas or diesel engine".
        whole = _whole(words, head)
        return whole if whole is not None and whole > i else None
    if head <= i or words.tag[head] not in NOUNS or words.dep[i] not in _MODIFIERS:
        return None
    return head if all(_stands_between(words, k, i) for k in range(i + 1, head)) else None


def _stands_between(words: Words, k: int, first: int) -> bool:
    if words.dep[k] in ("cc", "conj"):
        return words.head[k] >= first
    if words.dep[k] == "amod" and "cc" in words.dep[first:k]:
        # "A valve and black boot" are two.
        return False
    return words.dep[k] in _MODIFIERS and words.text[k] != ","


def _owner(words: Words, i: int) -> int:
    while (whole := _whole(words, i)) is not None:
        i = whole
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
