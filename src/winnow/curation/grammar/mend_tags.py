"""Rules that mend what a word is taken for; see `mend.py`."""

from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.vocabulary import COLORS, HOW_MANY, PLACES, PRONOUNS
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, VERBS, Words

# Prepositions that more often follow a noun than an order to somebody; "click on" is one.
_AFTER_NOUNS = frozenset({"with", "of", "from", "by", "in"})
_PARTS = NOUNS | ADJECTIVES | {"CD"}


def before_number(words: Words, i: int) -> None:
    """In "vintage 1950s red dress", what stands before the number is said of the dress."""
    number = words.head[i]
    while (
        number > i and words.dep[number] in ("nummod", "quantmod") and words.head[number] > number
    ):
        number = words.head[number]
    if number != words.head[i]:
        words.attach(i, number, words.dep[i])


def measure_of_participle(words: Words, i: int) -> None:
    """In "a hand drawn star" the hand says how it was drawn and is no object."""
    participle = words.head[i]
    is_before_noun = words.tag[participle] == "VBN" and words.dep[participle] == "amod"
    if participle == i + 1 and is_before_noun and not words.children[i]:
        words.text[participle] = f"{words.text[i]} {words.text[participle]}"
        words.tag[i] = "RB"


def unlikely_adjective(words: Words, i: int, lexicon: Lexicon) -> None:
    """Tagged an adjective, but a noun and nothing else: "cucumber seeds"."""
    word = words.text[i]
    if word not in lexicon.nouns or word in lexicon.adjectives or words.tag[i] != "JJ":
        return
    if not (word.endswith(("ed", "ing")) and lexicon.verb(word)):
        words.tag[i] = "NN"
        words.dep[i] = "compound" if words.dep[i] == "amod" else words.dep[i]


def unlikely_noun(words: Words, i: int, lexicon: Lexicon) -> None:
    """Taken for part of a compound, but an adjective: "acoustic guitar", "white baseball"."""
    if words.child(i, "dobj") is not None:
        # "Handmade ceramic mug", parsed like a verb with its object.
        _make_noun(words, i, words.tag[i])
    head, word = words.head[i], words.text[i]
    if (
        words.dep[i] not in ("compound", "nmod", "amod")
        or head <= i
        or words.tag[head] not in NOUNS
    ):
        return
    # The parser says amod of what it takes for an adjective; no noun part precedes an adjective.
    before_adjective = words.tag[i + 1] in ADJECTIVES
    is_adjective = lexicon.is_adjective(word) and (
        words.dep[i] == "amod" or before_adjective or word not in lexicon.nouns
    )
    is_participle = before_adjective and word.endswith(("ing", "ed"))
    if is_adjective or is_participle or word in COLORS:
        words.tag[i], words.dep[i] = "JJ", "amod"


def unlikely_verb(words: Words, i: int, lexicon: Lexicon) -> None:
    """Taken for a verb, but no form of any, or one that stands where a noun or adjective does."""
    word, tag = words.text[i], words.tag[i]
    if tag == "VBD" and words.dep[i] == "acl":
        words.tag[i] = "VBN"
    elif tag == "VBN" and words.dep[i] == "acomp":
        # "The flag is malformed."
        words.tag[i] = "JJ"
    elif _is_size(words, i, lexicon):
        _make_noun(words, i, "NN")
    elif _begins_a_title(words, i, lexicon):
        _make_noun(words, i, "NNS" if tag == "VBZ" else "NN")
    elif lexicon.verb(word) is None and word.isalpha() and words.dep[i] not in ("aux", "auxpass"):
        if tag not in ("VBN", "VBG", "VBD") or word in lexicon.nouns:
            # "Pumpkin pie".
            _make_noun(words, i, "NN")
        elif words.dep[i] == "amod":
            words.tag[i] = "JJ"


def no_thing(words: Words, i: int) -> None:
    """Nouns that are no objects: "something", "in front of"; "a lot of flowers" are flowers."""
    word = words.text[i]
    if word in PRONOUNS:
        words.tag[i] = "PRP"
    elif word in PLACES and words.tag[i - 1] == "IN" and words.text[i + 1 : i + 2] == ["of"]:
        words.tag[i] = "RB"
        words.dep[i] = "advmod" if words.dep[i] == "pobj" else words.dep[i]
    elif word in HOW_MANY:
        inner = words.behind_of(i)
        if inner is not None:
            words.take_place(inner, i)
            words.attach(i, inner, "nummod")
            words.tag[i] = "CD"


def clause_without_verb(words: Words, i: int, lexicon: Lexicon) -> None:
    """A subordinate clause has a verb: "lenses which lower", "as the earth spins"."""
    if words.tag[i] in VERBS or lexicon.verb(words.text[i]) is None:
        return
    subject = words.child(i, "nsubj")
    if subject is None and words.tag[i] in NOUNS and words.child(i, "mark") is not None:
        subject = words.child(i, "compound")
        if subject == i - 1:
            words.dep[subject] = "nsubj"
            words.give(i, subject, "det", "amod", "poss")
    if subject is not None and subject == i - 1:
        words.tag[i] = "VBZ" if words.tag[subject] == "NN" else "VBP"


def _is_size(words: Words, i: int, lexicon: Lexicon) -> bool:
    """A noun before a number: "shoes size 10"."""
    is_base_form = words.tag[i] in ("VB", "VBP") and words.text[i] in lexicon.nouns
    return is_base_form and words.tag[i + 1 : i + 2] == ["CD"]


def _begins_a_title(words: Words, i: int, lexicon: Lexicon) -> bool:
    """A fragment begins with a noun: "crosses 2 pattern", "face with tears"."""
    word = words.text[i]
    if i > 0 or words.child(i, "nsubj") is not None:
        return False
    if words.tag[i] == "VBZ":
        has_object = words.tag[1:2] and words.tag[1] in ("DT", "PRP$", "PRP")
        return not has_object and words.tag[-1] != "." and lexicon.is_plural(word)
    is_noun_too = words.tag[i] in ("VB", "VBP") and word in lexicon.nouns
    return is_noun_too and words.text[1:2] != [] and words.text[1] in _AFTER_NOUNS


def _make_noun(words: Words, i: int, tag: str) -> None:
    """Make a noun of a verb; what was its object is then the noun that it is a part of."""
    words.tag[i] = tag
    target = words.child(i, "dobj", "nsubj")
    if target is None or target < i:
        return
    if all(words.tag[k] in _PARTS for k in range(i + 1, target + 1)):
        words.take_place(target, i)
        words.attach(i, target, "compound")
        for child in [c for c in words.children[i] if c > target]:
            words.attach(child, target, words.dep[child])
