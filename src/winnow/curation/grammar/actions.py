"""Actions of a parsed piece: content verbs, who does them and to what.

An action is a content verb in a clause ("a dog runs", "enjoy", "used to propel air") or a
participle after its noun ("man riding a horse"). A participle before its noun is an attribute;
forms of "be", auxiliaries and the "have" of possession are no actions.
"""

from collections.abc import Iterator
from typing import NamedTuple

from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, VERBS, Words

_RELATIVE = frozenset({"WDT", "WP", "WP$", "IN"})
_BEFORE_NOUN = frozenset({"amod", "compound", "nmod", "attribute"})
_BE_AND_HAVE = {
    **dict.fromkeys(
        ("'s", "'re", "'m", "is", "am", "are", "was", "were", "be", "been", "being"), "be"
    ),
    **dict.fromkeys(("'ve", "'d", "has", "have", "had", "having"), "have"),
}


class Event(NamedTuple):
    """An action as indices of words; a list is empty where the caption names no one."""

    verb: int
    lemma: str
    subjects: list[int]
    objects: list[int]


class _Partners(NamedTuple):
    subject: int | None
    object: int | None


def events(words: Words, lexicon: Lexicon) -> Iterator[Event]:
    """The actions, in the order of the caption."""
    for i, tag in enumerate(words.tag):
        if tag not in VERBS or not _says_what_happens(words, i):
            continue
        lemma = verb_lemma(words, i, lexicon)
        # "Having" is never possession: "a family having dinner".
        if lemma == "be" or (lemma == "have" and tag != "VBG"):
            continue
        who, whom = _partners(words, i)
        if whom is None:
            whom = _shared_object(words, i)
        if lemma == "do" and whom is None:
            # "All others do" repeats another verb.
            continue
        particle = words.child(i, "prt")
        name = lemma if particle is None else f"{lemma} {words.text[particle]}"
        yield Event(i, name, coordinated(words, who), coordinated(words, whom))


def verb_lemma(words: Words, i: int, lexicon: Lexicon) -> str:
    """Base form, also of a contracted or unknown verb."""
    word = words.text[i].rsplit("-", 1)[-1]
    return _BE_AND_HAVE.get(word) or lexicon.verb(word) or word


def coordinated(words: Words, first: int | None) -> list[int]:
    """A noun and those joined to it: "a dog and a cat" do it both."""
    if first is None:
        return []
    found = [first]
    for child in words.children[first]:
        if words.dep[child] == "conj" and words.tag[child] in NOUNS:
            found += coordinated(words, child)
    return found


def _says_what_happens(words: Words, i: int) -> bool:
    if words.dep[i] in ("aux", "auxpass", "cop", "prep"):
        return False
    if words.text[i] == "got" and words.child(i, "aux", "auxpass") is not None:
        # "It's got black goo": it has.
        return words.child(i, "dobj") is None
    if words.text[i] == "used" and words.tag[i] == "VBD" and words.child(i, "nsubj") is not None:
        # "Which used to hold a bottle": the holding is what is said.
        return words.child(i, "xcomp") is None
    if words.text[i] == "let" and words.text[i + 1 : i + 2] in (["'s"], ["us"]):
        # "Let's go": the going is what is said.
        return False
    return not (words.dep[i] in _BEFORE_NOUN and words.head[i] > i)


def _partners(words: Words, i: int) -> _Partners:
    target = words.child(i, "dobj", "dative")
    by = next((c for c in words.children[i] if words.text[c] == "by"), None)
    agent = None if by is None else words.child(by, "pobj")
    noun = (
        words.head[i]
        if words.dep[i] in ("acl", "relcl", "amod") and words.tag[words.head[i]] in NOUNS
        else None
    )
    subject = words.child(i, "nsubj", "csubj")
    passive = words.child(i, "nsubjpass")
    if passive is not None:
        return _Partners(agent, _stands_for(words, passive, noun))
    if target is not None:
        target = _stands_for(words, target, noun)
    if subject is not None:
        who = _stands_for(words, subject, noun)
        # "The ball (that) the boy throws" is what is thrown.
        return _Partners(who, noun if target is None and who != noun else target)
    if noun is not None:
        return _after_noun(words, i, noun, target, agent)
    return _inherited(words, i, target, agent)


def _shared_object(words: Words, i: int) -> int | None:
    """In "pumping and filtering blood" the blood is pumped too."""
    second = words.child(i, "conj")
    if second is None or words.tag[second] != words.tag[i] or words.tag[second] == "VBN":
        return None
    between = range(i + 1, second)
    is_close = all(words.tag[k] in ("CC", ",", "RB") for k in between) and len(between) <= 2
    return words.child(second, "dobj") if is_close else None


def _after_noun(
    words: Words, i: int, noun: int, target: int | None, agent: int | None
) -> _Partners:
    """A participle or an infinitive after its noun."""
    if words.tag[i] in ("VBN", "VBD") or words.child(i, "auxpass") is not None:
        return _Partners(agent, noun)
    if words.tag[i] == "VB":
        # "A diagram to use" is used; in "a key to open doors" the key has a part, but not this one.
        return _Partners(None, noun) if target is None else _Partners(noun, target)
    return _Partners(noun, target)


def _inherited(words: Words, i: int, target: int | None, agent: int | None) -> _Partners:
    """A verb without a subject has that of the verb it hangs on."""
    above = words.head[i]
    if words.dep[i] in ("xcomp", "ccomp", "advcl") and words.tag[above] in ADJECTIVES:
        # "The color is easy to change" is changed; "a man ready to walk a mile" walks.
        verb = words.head[above]
        who = (
            words.child(verb, "nsubj")
            if words.tag[verb] in VERBS
            else verb
            if words.tag[verb] in NOUNS
            else None
        )
        return _Partners(None, who) if target is None else _Partners(who, target)
    is_passive = words.tag[i] == "VBN" and words.child(i, "aux") is None
    if (
        words.dep[i] not in ("conj", "xcomp", "advcl", "dep", "acl")
        or words.tag[above] not in VERBS
        or above == i
    ):
        # "Covered with snow.": something is, and is not named.
        return _Partners(agent if is_passive else None, target)
    who, whom = _partners(words, above)
    asked = words.child(above, "dobj")
    if words.dep[i] == "xcomp" and words.tag[i] == "VB" and asked is not None and asked < i:
        # "He asked a man to come": the man comes.
        return _Partners(asked if words.tag[asked] in NOUNS else None, target)
    if words.tag[above] == "VBN" and who is None:
        who = whom
        # "Could be used, or cut up": the second participle looks like a base form.
        is_passive = is_passive or (
            words.dep[i] == "conj" and target is None and words.child(i, "aux") is None
        )
    if is_passive:
        return _Partners(agent, who)
    return _Partners(who, target)


def _stands_for(words: Words, word: int, noun: int | None) -> int:
    """Who, which and that stand for the noun that the clause hangs on."""
    return noun if noun is not None and words.tag[word] in _RELATIVE else word
