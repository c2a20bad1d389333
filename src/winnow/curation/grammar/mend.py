"""Mends what the small tagger and parser get wrong in captions, by rules over the parse.

Each rule changes tags, dependencies and heads in place, and its docstring gives the kind of caption
that it is for. Words come first (`mend_words.py`, `mend_tags.py`), then names that only look like
sentences (`mend_names.py`), then what hangs on what (`mend_clauses.py`, `mend_links.py`), since a
rule on links trusts the tags. Most words need no rule, so a rule is called only where a tag, a
dependency or a spelling asks for it.
"""

from winnow.curation.grammar import mend_clauses, mend_links, mend_names, mend_tags, mend_words
from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.vocabulary import BODIED, COLORS
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, VERBS, Words

_OF_A_NOUN = frozenset({"amod", "compound", "nmod"})
_CLAUSES = frozenset({"relcl", "advcl", "ccomp"})
_QUOTES = frozenset({'"', "\u201c"})
_MARKS = _QUOTES | {"-", "_"}
_LOOKED_UP = {
    **dict.fromkeys(BODIED, mend_words.bodied),
    "b": mend_words.abbreviated_colors,
    "letter": mend_words.letter,
    "new": mend_words.part_of_name,
    "united": mend_words.part_of_name,
}


def mend(words: Words, lexicon: Lexicon) -> None:
    """Change tags, dependencies and heads in place."""
    _mend_words(words, lexicon)
    for i in range(len(words)):
        _mend_tag(words, i, lexicon)
    mend_clauses.first_adjective(words, lexicon)
    if not COLORS.isdisjoint(words.text):
        mend_names.color_behind(words)
    if not VERBS.isdisjoint(words.tag):
        if words.is_name:
            mend_names.name_without_verb(words, lexicon)
        else:
            mend_names.title_without_verb(words, lexicon)
    for i in range(len(words)):
        _mend_links(words, i, lexicon)


def _mend_words(words: Words, lexicon: Lexicon) -> None:
    """Words that are known by their spelling; a piece without any is passed over at once."""
    if not _MARKS.isdisjoint(" ".join(words.text)):
        for i, word in enumerate(words.text):
            _mend_marked(words, i, word, lexicon)
    if "CD" in words.tag:
        for i, tag in enumerate(words.tag):
            if words.dep[i] in _OF_A_NOUN:
                mend_words.before_number(words, i)
            if tag == "CD":
                mend_words.numbered_name(words, i)
    for i in [k for k, word in enumerate(words.text) if word in _LOOKED_UP]:
        _LOOKED_UP[words.text[i]](words, i)


def _mend_marked(words: Words, i: int, word: str, lexicon: Lexicon) -> None:
    if "_" in word or (i > 0 and words.text[i - 1] in _QUOTES):
        mend_words.quoted_title(words, i)
    if "-" in word:
        mend_words.hyphenated(words, i, lexicon)


def _mend_tag(words: Words, i: int, lexicon: Lexicon) -> None:
    if words.tag[i] == "RB":
        mend_tags.unlikely_adverb(words, i, lexicon)
    elif words.tag[i] in VERBS:
        mend_tags.unlikely_verb(words, i, lexicon)
    if words.tag[i] in NOUNS:
        _mend_noun(words, i, lexicon)
    elif words.tag[i] == "JJR":
        mend_words.thing_in_er(words, i, lexicon)
    elif words.tag[i] in ADJECTIVES:
        mend_tags.unlikely_adjective(words, i, lexicon)
        mend_words.head_of_phrase(words, i, lexicon)
    if words.dep[i] in _CLAUSES:
        mend_tags.clause_without_verb(words, i, lexicon)


def _mend_noun(words: Words, i: int, lexicon: Lexicon) -> None:
    if words.dep[i] == "npadvmod":
        mend_words.measure_of_participle(words, i)
    if words.tag[i] == "NNS":
        mend_tags.relative_without_verb(words, i, lexicon)
    if words.dep[i] == "attr":
        mend_words.comparative(words, i, lexicon)
    mend_tags.no_thing(words, i)
    mend_tags.unlikely_noun(words, i, lexicon)


def _mend_links(words: Words, i: int, lexicon: Lexicon) -> None:
    if words.text[i].endswith("ing"):
        _mend_doing(words, i, lexicon)
    if words.tag[i] in NOUNS:
        if words.dep[i] == "nsubj":
            mend_links.noun_of_noun(words, i)
        if words.tag[i] == "NNS":
            mend_links.third_person(words, i, lexicon)
    if words.tag[i] in VERBS:
        _mend_verb(words, i, lexicon)
    elif words.tag[i] in ADJECTIVES:
        mend_links.adjective_after_noun(words, i)
        mend_links.listed_adjective(words, i)


def _mend_doing(words: Words, i: int, lexicon: Lexicon) -> None:
    if words.text[i] == "following":
        mend_clauses.following(words, i)
    mend_clauses.for_doing(words, i, lexicon)
    mend_links.doing_after_actor(words, i, lexicon)
    mend_links.doing_before_actor(words, i, lexicon)


def _mend_verb(words: Words, i: int, lexicon: Lexicon) -> None:
    tag, dep = words.tag[i], words.dep[i]
    if dep == "conj":
        mend_names.joined_name(words, i, lexicon)
        mend_clauses.verb_of_two(words, i)
    if tag in ("VBN", "VBD"):
        mend_links.made_before_noun(words, i, lexicon)
        mend_clauses.made_things(words, i, lexicon)
        mend_clauses.made_after_noun(words, i)
    mend_clauses.subject_behind_and(words, i)
    if words.children[i]:
        mend_clauses.relative_root(words, i)
        mend_clauses.two_subjects(words, i)
        mend_links.loose_subject(words, i, lexicon)
        mend_clauses.subject_disagrees(words, i)
        mend_links.particle_or_preposition(words, i, lexicon)
        mend_links.where_it_happens(words, i, lexicon)
    mend_links.picture_of_actor(words, i)
    if words.dep[i] == "acl":
        mend_links.actor_with_thing(words, i, lexicon)
        mend_clauses.said_of_all(words, i)
        mend_links.both_do_it(words, i)
        mend_clauses.size_of_thing(words, i)
