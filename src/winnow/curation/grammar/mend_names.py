"""Rules for what names and says nothing: entries of lists, file names, titles; see `mend.py`."""

from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.mend_links import may_act
from winnow.curation.grammar.vocabulary import COLORS, ORDERS, THINGS
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, PARTICIPLES, VERBS, Words

# Before other prepositions an order is as likely: "wash hands in hot water".
_AFTER_TITLES = frozenset({"of", "with", "for", "by", "from", ",", "."})
_PILED = NOUNS | ADJECTIVES | VERBS | {"CD", "-LRB-", "-RRB-", "RB", "POS"}


def name_without_verb(words: Words, lexicon: Lexicon) -> None:
    """In an entry or a file name only actors do something: "view icon", "man riding horse"."""
    verbs = [i for i, tag in enumerate(words.tag) if tag in VERBS]
    if not verbs or any(_is_done(words, i, lexicon) for i in verbs):
        return
    for i in verbs:
        words.tag[i] = _tag_in_name(words, i, lexicon)
    if not NOUNS.isdisjoint(words.tag) and {"IN", "TO"}.isdisjoint(words.tag):
        _pile_up(words, 0, len(words))


def title_without_verb(words: Words, lexicon: Lexicon) -> None:
    """A title of nouns, one of them taken for a verb: "pan cakes", "tone mapping example"."""
    end = next((i for i, tag in enumerate(words.tag) if tag not in _PILED), len(words))
    if end < len(words) and (end < 2 or words.text[end] not in _AFTER_TITLES):
        return
    last = end - 1
    while last > 0 and words.tag[last] in (".", "-RRB-"):
        last -= 1
    for i in range(last + 1):
        if words.tag[i] in VERBS and _is_noun_of_title(words, i, last, lexicon):
            words.tag[i] = "NNS" if words.tag[i] == "VBZ" else "NN"
            first = i
            while first > 0 and words.tag[first - 1] in NOUNS | ADJECTIVES:
                first -= 1
            after = i
            while after <= last and words.tag[after] in NOUNS | ADJECTIVES | {"CD", "VBG"}:
                after += 1
            _pile_up(words, first, after)


def color_behind(words: Words) -> None:
    """A color behind the name of what has it: "arrow left red", "retriever (black)"."""
    last = len(words) - 1
    while last > 0 and words.tag[last] == "CD":
        last -= 1
    for i, word in enumerate(words.text):
        if word not in COLORS or i == 0 or words.dep[i] == "acomp":
            continue
        is_bracketed = words.tag[i - 1] == "-LRB-" and words.tag[i + 1 : i + 2] == ["-RRB-"]
        is_last = words.is_name and i == last
        noun = i - 2 if is_bracketed else i - 1
        while is_last and noun > 0 and words.tag[noun] in ("RB", "RP", "IN"):
            noun -= 1
        if noun < 0 or not (is_bracketed or is_last) or words.tag[noun] not in NOUNS | VERBS:
            continue
        if words.head[noun] == i:
            words.take_place(noun, i)
        for child in [c for c in words.children[i] if words.tag[c] in NOUNS]:
            words.attach(child, noun, words.dep[child])
        words.tag[i] = "JJ"
        words.attach(i, noun, "amod")


def joined_name(words: Words, i: int, lexicon: Lexicon) -> None:
    """The end of a title, joined to a noun: "spaghetti and sauce"."""
    if i + 1 < len(words) or words.tag[i] not in ("VB", "VBP") or words.tag[i - 1] != "CC":
        return
    if words.text[i] in lexicon.nouns and words.tag[words.head[i]] in NOUNS:
        words.tag[i] = "NN"


def _is_noun_of_title(words: Words, i: int, last: int, lexicon: Lexicon) -> bool:
    word, tag = words.text[i], words.tag[i]
    if word not in lexicon.nouns and not lexicon.is_plural(word):
        return False
    if last == 0:
        # "Saw", but not "click".
        return tag in ("VBD", "VBZ", "VBN")
    before = words.tag[i - 1] if i > 0 else ""
    after = words.tag[i + 1] if i < last else ""
    if i == 0 and tag == "VBG":
        # "Building flag".
        return word in THINGS and after in NOUNS
    if i == 0:
        is_order = tag not in ("VB", "VBP") or word in ORDERS
        is_one = last + 1 == len(words) or after in ("NN", "NNP") or words.text[last + 1] == "of"
        return not is_order and after in NOUNS and is_one
    if before not in NOUNS | {"JJ"} or may_act(words, i - 1, lexicon):
        return False
    if tag == "VBG":
        # "Package handling symbols".
        return after in NOUNS and i == 1
    if words.child(i, "aux", "auxpass") is not None:
        return False
    # A verb in the singular agrees with what stands before it, or it is none.
    is_unlike_past = tag == "VBD" and not word.endswith("ed") and lexicon.verb(word) == word
    return (tag in ("VB", "VBP") or is_unlike_past) and before in ("NN", "NNP", "JJ")


def _is_done(words: Words, i: int, lexicon: Lexicon) -> bool:
    """Whether somebody does it: an actor right before a participle or a third person."""
    return i > 0 and words.tag[i] in ("VBG", "VBZ") and may_act(words, i - 1, lexicon)


def _tag_in_name(words: Words, i: int, lexicon: Lexicon) -> str:
    word = words.text[i]
    is_last = i + 1 == len(words) or words.tag[i + 1] not in NOUNS | ADJECTIVES | VERBS
    if not is_last and words.tag[i] in PARTICIPLES and word.endswith(("ing", "ed", "en")):
        return "JJ"
    if word in lexicon.nouns or lexicon.is_plural(word):
        return "NN"
    return "JJ" if lexicon.is_adjective(word) or word.endswith("ed") else "XX"


def _pile_up(words: Words, first: int, after: int) -> None:
    """Hang all of a stretch on its last noun."""
    head = max((i for i in range(first, after) if words.tag[i] in NOUNS), default=None)
    if head is None:
        return
    outside = next((i for i in range(first, after) if not first <= words.head[i] < after), None)
    if outside is None or outside == head:
        words.attach(head, head, "ROOT")
    else:
        words.take_place(head, outside)
    for i in range(first, after):
        if i == head:
            continue
        if words.tag[i] in NOUNS:
            words.attach(i, head, "compound")
        elif words.tag[i] in ADJECTIVES | PARTICIPLES or words.text[i] in COLORS:
            words.attach(i, head, "amod")
        else:
            words.attach(i, head, "nummod" if words.tag[i] == "CD" else "punct")
