"""Rules for single words by what they look like: quoted, joined, measured; see `mend.py`."""

from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.mend_tags import make_noun
from winnow.curation.grammar.vocabulary import COLORS, FULL, LIKE, NAMING
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, Words

_OF_HEAD = frozenset({"amod", "compound", "nmod", "nummod", "npadvmod"})


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


def quoted_title(words: Words, i: int) -> None:
    """A title in quotation marks is a name, whatever it looks like: "Add Bevel" options."""
    if words.tag[i] not in NOUNS and words.text[i].strip("_"):
        make_noun(words, i, "NNP")
        words.dep[i] = "compound" if words.dep[i] == "amod" else words.dep[i]


def abbreviated_colors(words: Words, i: int) -> None:
    """Black and white: "pumpkin pie (B and W)"."""
    if words.text[i + 1 : i + 3] not in (["and", "w"], ["&", "w"], ["/", "w"]):
        return
    words.tag[i] = words.tag[i + 2] = "JJ"
    words.attach(i + 2, i, "conj")


def head_of_phrase(words: Words, i: int, lexicon: Lexicon) -> None:
    """An adjective that a preposition hangs on, and no noun behind: "derivative from a picture"."""
    if words.text[i] not in lexicon.nouns or words.text[i + 1 : i + 2] == []:
        return
    begins = i == 0 and words.text[1] in ("from", "by", "with", "for", "of")
    if words.text[i] in FULL:
        return
    is_led = i > 0 and words.tag[i - 1] == "DT" and words.text[i + 1] in ("from", "by", "of")
    if (begins or is_led) and words.dep[i] != "amod" and words.text[i] not in COLORS:
        words.tag[i] = "NN"


def comparative(words: Words, i: int, lexicon: Lexicon) -> None:
    """Taken for a noun behind "much": "your senses are much keener"."""
    word = words.text[i]
    if i == 0 or words.text[i - 1] not in ("much", "far", "even") or not word.endswith("er"):
        return
    stems = {word[:-2], word[:-1], word[:-3]} | (
        {word[:-3] + "y"} if word.endswith("ier") else set()
    )
    if words.dep[i] == "attr" and not stems.isdisjoint(lexicon.adjectives):
        words.tag[i], words.dep[i] = "JJR", "acomp"


def thing_in_er(words: Words, i: int, lexicon: Lexicon) -> None:
    """Taken for a comparative, but a thing: "an electric lighter", "trawler"."""
    is_last = i + 1 == len(words) or words.tag[i + 1] in (".", "IN", ",")
    if not is_last or words.dep[i] in ("acomp", "amod", "advmod"):
        return
    if words.text[i] in lexicon.nouns or i + 1 == len(words) == 1:
        words.tag[i] = "NN"


def bodied(words: Words, i: int) -> None:
    """One adjective of two words: "red headed bird", "six sided die", "sable colored hat"."""
    first = i - 1
    if first < 0 or words.head[first] != words.head[i] or words.dep[i] != "amod":
        return
    if words.tag[first] in ADJECTIVES | NOUNS | {"CD"} and words.dep[first] in _OF_HEAD:
        words.text[i] = f"{words.text[first]} {words.text[i]}"
        words.attach(first, i, "advmod")
        words.tag[first] = "RB"


def letter(words: Words, i: int) -> None:
    """A letter that is named is no object of its own: "the letter K in a language"."""
    name = i + 1
    if name < len(words) and len(words.text[name]) == 1 and words.head[name] == i:
        for child in list(words.children[name]):
            words.attach(child, i, words.dep[child])
        words.tag[name], words.dep[name] = "LS", "punct"


def part_of_name(words: Words, i: int) -> None:
    """An adjective that begins the name of a place: "United Kingdom", "New York City"."""
    name = i + 1
    if name < len(words) and words.text[name] in NAMING[words.text[i]]:
        words.tag[i] = "NNP"
        words.tag[name] = words.tag[name] if words.tag[name] in NOUNS else "NNP"
        words.attach(i, name, "compound")


def hyphenated(words: Words, i: int, lexicon: Lexicon) -> None:
    """Two words made one say what kind, or name: "single-stack box", "mi-go resin"."""
    word = words.text[i]
    first, _, rest = word.partition("-")
    if words.tag[i] in ("VB", "VBP", "VBZ"):
        if lexicon.verb(word) is None and first not in ("re", "pre", "co", "over", "un", "de"):
            make_noun(words, i, "NN")
    elif words.tag[i] == "NN" and words.dep[i] == "compound" and word not in lexicon.nouns:
        is_kind = first in lexicon.adjectives or first[:1].isdigit() or rest in LIKE
        if is_kind and len(first) > 1 and rest and words.head[i] > i:
            words.tag[i], words.dep[i] = "JJ", "amod"


def numbered_name(words: Words, i: int) -> None:
    """A name that ends in a number: "for the Ruger 10/22"."""
    name = words.child(i, "compound", "nmod")
    if name is not None and name == i - 1 and words.tag[name] in NOUNS:
        words.tag[i] = "NNP"
