"""Mends what the small tagger and parser get wrong in captions, by rules over the parse.

Each rule changes tags, dependencies and heads in place, and its docstring gives the kind of caption
that it is for. Words come first (`mend_tags.py`), then what hangs on what (`mend_links.py`), since
a rule on links trusts the tags.
"""

from winnow.curation.grammar import mend_links, mend_tags
from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, VERBS, Words

_OF_A_NOUN = frozenset({"amod", "compound", "nmod"})
_CLAUSES = frozenset({"relcl", "advcl", "ccomp"})


def mend(words: Words, lexicon: Lexicon) -> None:
    """Change tags, dependencies and heads in place."""
    for i in range(len(words)):
        _mend_tag(words, i, lexicon)
    for i in range(len(words)):
        if words.tag[i] == "NNS":
            mend_links.third_person(words, i, lexicon)
        if words.text[i].endswith("ing"):
            mend_links.doing_after_actor(words, i, lexicon)
            mend_links.doing_before_actor(words, i, lexicon)
        if words.tag[i] in VERBS:
            _mend_verb(words, i, lexicon)
        elif words.tag[i] in ADJECTIVES:
            mend_links.adjective_after_noun(words, i)
            mend_links.listed_adjective(words, i)


def _mend_tag(words: Words, i: int, lexicon: Lexicon) -> None:
    if words.dep[i] in _OF_A_NOUN:
        mend_tags.before_number(words, i)
    if words.tag[i] in VERBS:
        mend_tags.unlikely_verb(words, i, lexicon)
    if words.dep[i] == "npadvmod" and words.tag[i] in NOUNS:
        mend_tags.measure_of_participle(words, i)
    if words.tag[i] in NOUNS:
        mend_tags.no_thing(words, i)
        mend_tags.unlikely_noun(words, i, lexicon)
    elif words.tag[i] in ADJECTIVES:
        mend_tags.unlikely_adjective(words, i, lexicon)
    if words.dep[i] in _CLAUSES:
        mend_tags.clause_without_verb(words, i, lexicon)


def _mend_verb(words: Words, i: int, lexicon: Lexicon) -> None:
    if words.tag[i] in ("VBN", "VBD"):
        mend_links.made_before_noun(words, i, lexicon)
    mend_links.loose_subject(words, i, lexicon)
    mend_links.subject_disagrees(words, i)
    mend_links.particle_or_preposition(words, i, lexicon)
    mend_links.where_it_happens(words, i, lexicon)
    mend_links.picture_of_actor(words, i)
    mend_links.actor_with_thing(words, i, lexicon)
    mend_links.both_do_it(words, i)
