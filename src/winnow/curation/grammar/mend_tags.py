"""Rules that mend what a word is taken for; see `mend.py`."""

from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.vocabulary import (
    COLORS,
    HOW_MANY,
    NAMING,
    PLACES,
    PRONOUNS,
    SHAPES,
    SIDES,
    UNITS,
)
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, VERBS, Words

# Prepositions that more often follow a noun than an order to somebody; "click on" is one.
_AFTER_NOUNS = frozenset({"with", "of", "from", "by", "in"})
_PARTS = NOUNS | ADJECTIVES | {"CD"}


def unlikely_adjective(words: Words, i: int, lexicon: Lexicon) -> None:
    """Tagged an adjective, but a noun and nothing else: "cucumber seeds"."""
    word = words.text[i]
    if (
        word not in lexicon.nouns
        or word in lexicon.adjectives
        or words.tag[i] != "JJ"
        or len(word) == 1
    ):
        return
    if not (word.endswith(("ed", "ing")) and lexicon.verb(word)):
        words.tag[i] = "NN"
        words.dep[i] = "compound" if words.dep[i] == "amod" else words.dep[i]


def unlikely_noun(words: Words, i: int, lexicon: Lexicon) -> None:
    """Taken for part of a compound, but an adjective: "acoustic guitar", "white baseball"."""
    if words.child(i, "dobj") is not None:
        # "Handmade ceramic mug", parsed like a verb with its object.
        make_noun(words, i, words.tag[i])
    head, word = words.head[i], words.text[i]
    if (
        words.dep[i] not in ("compound", "nmod", "amod")
        or (
            word in NAMING and words.text[i + 1 : i + 2] != [] and words.text[i + 1] in NAMING[word]
        )
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
    if i > 0 and words.tag[i - 1] == "RB" and words.text[i - 1].endswith("ly"):
        # "Finely ground meat".
        is_participle = True
    if i > 1 and words.text[i - 1] == "," and words.tag[i - 2] in ADJECTIVES:
        # "A shiny, gold tiara".
        is_adjective = True
    if is_adjective or is_participle or word in COLORS | SHAPES:
        words.tag[i], words.dep[i] = "JJ", "amod"


def unlikely_verb(words: Words, i: int, lexicon: Lexicon) -> None:
    """Taken for a verb, but no form of any, or one that stands where a noun or adjective does."""
    word, tag = words.text[i], words.tag[i]
    if tag == "VBD" and words.dep[i] == "acl":
        words.tag[i] = "VBN"
    elif tag in ("VBD", "VBN") and _is_unknown_form(word, lexicon):
        make_noun(words, i, "NN")
    elif tag == "VBN" and words.dep[i] == "acomp":
        # "The flag is malformed."
        words.tag[i] = "JJ"
    elif _is_size(words, i, lexicon):
        make_noun(words, i, "NN")
    elif _begins_a_title(words, i, lexicon):
        make_noun(words, i, "NNS" if tag == "VBZ" else "NN")
    elif lexicon.verb(word) is None and word.isalpha() and words.dep[i] not in ("aux", "auxpass"):
        if tag not in ("VBN", "VBG", "VBD") or word in lexicon.nouns:
            # "Pumpkin pie".
            make_noun(words, i, "NN")
        elif words.dep[i] == "amod":
            words.tag[i] = "JJ"


def no_thing(words: Words, i: int) -> None:
    """Nouns that are no objects: "something", "in front of"; "a lot of flowers" are flowers."""
    word = words.text[i]
    if word in PRONOUNS:
        words.tag[i] = "PRP"
    elif word in UNITS and words.tag[i - 1] == "CD" and words.dep[i] in ("pobj", "npadvmod"):
        # "A coin of 10 cents".
        words.tag[i] = "CD"
    elif word in PLACES and words.tag[i - 1] == "IN" and words.text[i + 1 : i + 2] == ["of"]:
        words.tag[i] = "RB"
        words.dep[i] = "advmod" if words.dep[i] == "pobj" else words.dep[i]
    elif word in HOW_MANY:
        inner = words.behind_of(i)
        if inner is not None:
            words.take_place(inner, i)
            words.attach(i, inner, "nummod")
            words.tag[i] = "CD"


def unlikely_adverb(words: Words, i: int, lexicon: Lexicon) -> None:
    """No adverb, but a rare noun or an adjective before a comma: "clear jelly made from fruit"."""
    word = words.text[i]
    if word.endswith("ly") and word not in lexicon.nouns:
        return
    if word in SIDES and words.text[i + 1 : i + 2] == ["of"] and words.dep[i] == "advmod":
        # "Raised back of a hand".
        words.tag[i] = "NN"
        words.dep[i] = "dobj"
        return
    if word in lexicon.adverbs:
        is_listed = i > 0 and words.tag[i - 1] == "DT" and words.text[i + 1 : i + 2] == [","]
        if is_listed and word in lexicon.adjectives and words.tag[i + 2 : i + 3] != ["CC"]:
            # "A wide, domed section".
            words.tag[i] = "JJ"
            words.dep[i] = "amod"
    elif word in lexicon.nouns and words.dep[i] not in ("prt", "prep", "neg", "mark"):
        words.tag[i] = "NN"
        if words.dep[i] == "advmod" and words.head[i] == i - 1 and words.tag[i - 1] in VERBS:
            words.dep[i] = "dobj"


def relative_without_verb(words: Words, i: int, lexicon: Lexicon) -> None:
    """A plural right after "that" is a verb: "a suit that functions as armor"."""
    who = i - 1
    if (
        who < 1
        or words.text[who] not in ("that", "which", "who")
        or words.tag[who - 1] not in NOUNS
    ):
        return
    if words.tag[i] == "NNS" and lexicon.verb(words.text[i]) and words.dep[i] != "relcl":
        words.tag[i] = "VBZ"
        words.tag[who] = "WDT"
        below = words.head[i]
        if below > i and words.dep[i] in ("nsubj", "dobj"):
            words.take_place(i, below)
            words.attach(below, i, "advcl")
        words.attach(i, who - 1, "relcl")
        words.attach(who, i, "nsubj")


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
    if i == 0 and words.tag[i] == "VBG" and words.text[i] in lexicon.nouns and len(words) == 3:
        # "Warning 2 pattern".
        is_base_form = True
    return is_base_form and words.tag[i + 1 : i + 2] == ["CD"]


def _is_unknown_form(word: str, lexicon: Lexicon) -> bool:
    """Whether a word looks like the past of no verb: "rilievo archit"."""
    return lexicon.verb(word) is None and word.isalpha() and not word.endswith(("ed", "en", "t"))


def _begins_a_title(words: Words, i: int, lexicon: Lexicon) -> bool:
    """A fragment begins with a noun: "crosses 2 pattern", "face with tears"."""
    word = words.text[i]
    if i > 0 or words.child(i, "nsubj") is not None:
        return False
    if words.tag[i] == "VBZ":
        has_object = words.tag[1:2] and words.tag[1] in ("DT", "PRP$", "PRP")
        return not has_object and words.tag[-1] != "." and lexicon.is_plural(word)
    is_noun_too = words.tag[i] in ("VB", "VBP") and word in lexicon.nouns
    if words.text[1:2] == ["of"] and word in lexicon.nouns and not word.endswith("ed"):
        # "Set of dishes", taken for a participle.
        return True
    return is_noun_too and words.text[1:2] != [] and words.text[1] in _AFTER_NOUNS


def make_noun(words: Words, i: int, tag: str) -> None:
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
