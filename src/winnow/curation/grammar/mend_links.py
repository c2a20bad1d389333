"""Rules that mend what hangs on what around verbs and adjectives; see `mend.py`."""

from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.vocabulary import (
    ABOUT,
    ACTORS,
    COLORS,
    KINDS,
    MOTIONS,
    ORDERS,
    PICTURES,
    PURPOSES,
    SHOWS,
    THINGS,
    WHERE,
)
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, PARTICIPLES, Words

# How the parser hangs an adjective on a noun before it.
_LOOSE = frozenset({"amod", "acl", "appos", "conj", "dep", "advmod", "npadvmod"})
_IN_NOUN_PHRASE = NOUNS | ADJECTIVES | {"DT", "PRP$"}


def may_act(words: Words, i: int, lexicon: Lexicon) -> bool:
    """Whether a word names a person or an animal, or is a name that the lexicon does not know."""
    if words.tag[i] not in NOUNS:
        return False
    noun = lexicon.noun(words.text[i])
    if _is_actor(noun):
        return True
    if noun.endswith(("er", "or")) and (lexicon.verb(noun[:-2]) or lexicon.verb(noun[:-1])):
        return True
    return words.tag[i] in ("NNP", "NNPS") and not lexicon.knows(noun)


def _is_actor(noun: str) -> bool:
    return noun in ACTORS or noun.endswith(("man", "woman", "ist"))


def third_person(words: Words, i: int, lexicon: Lexicon) -> None:
    """A verb after its actor, taken for a compound in the plural: "Dog runs."."""
    actor = i - 1
    if i == 0 or words.tag[actor] not in ("NN", "NNP") or words.head[actor] != i:
        return
    after = words.tag[i + 1] if i + 1 < len(words) else ""
    if after not in (".", "DT", "PRP$") or lexicon.verb(words.text[i]) is None:
        return
    if may_act(words, actor, lexicon):
        words.tag[i], words.dep[actor] = "VBZ", "nsubj"
        words.give(i, actor, "det", "amod", "poss", "compound", "nummod")
        target = words.child(i, "appos", "dep", "npadvmod")
        if target is not None:
            words.dep[target] = "dobj"


def doing_after_actor(words: Words, i: int, lexicon: Lexicon) -> None:
    """Taken for a compound or for one noun: "woman holding child", "Arctic greyling jumping"."""
    base = lexicon.verb(words.text[i])
    if i == 0 or words.text[i] in THINGS or base is None:
        return
    if words.tag[i] == "VBG" and words.dep[i] not in ("amod", "compound", "nmod"):
        return
    actor = _actor_before(words, i, lexicon)
    if actor is None:
        return
    after = words.tag[i + 1] if i + 1 < len(words) else ""
    if after in NOUNS | ADJECTIVES:
        # A dog training collar is a collar; elephants drinking water are no water.
        if words.tag[i] != "VBG" and words.tag[actor] not in ("NNS", "NNPS"):
            return
        if base in PURPOSES and not may_act(words, i + 1, lexicon):
            return
    elif actor < i - 2 and after:
        return
    _make_participle(words, i, actor)


def doing_before_actor(words: Words, i: int, lexicon: Lexicon) -> None:
    """One actor in the singular without an article is who does it: "sleeping cat"."""
    if words.tag[i] != "VBG" or words.dep[i] in ("amod", "acl") or i + 1 >= len(words):
        return
    if words.child(i, "aux", "nsubj") is not None or (i > 0 and words.tag[i - 1] in NOUNS | {"TO"}):
        return
    actor = i + 1
    thing = words.child(i, "dobj")
    if i == 0 and thing == len(words) - 1 and _is_waning(words, i, thing, lexicon):
        words.take_place(thing, i)
        words.attach(i, thing, "amod")
        return
    if words.tag[actor] != "NN" or words.head[actor] != i or not may_act(words, actor, lexicon):
        return
    if words.dep[actor] in ("dobj", "nsubj", "dep"):
        words.take_place(actor, i)
        words.dep[actor] = "pobj" if words.dep[actor] == "pcomp" else words.dep[actor]
        words.attach(i, actor, "amod")


def made_before_noun(words: Words, i: int, lexicon: Lexicon) -> None:
    """A participle before a bare noun, taken for a past: "parked cars", "hand painted vase"."""
    if i == 0 and words.text[1:2] == [","] and words.dep[2:3] == ["amod"]:
        # "Rolled, cured tobacco leaf".
        words.attach(i, words.head[2], "amod")
        return
    target = words.child(i, "dobj")
    if target is None or target < i or not is_bare(words, i + 1, target):
        return
    subject = words.child(i, "nsubj", "npadvmod")
    if subject is None:
        if i > 0 and words.tag[i - 1] not in (",", ".", ":"):
            return
    elif not _is_instrument(words, subject, i, lexicon):
        return
    words.take_place(target, i)
    words.attach(i, target, "amod")
    words.tag[i] = "VBN"
    for child in [c for c in words.children[i] if c > target]:
        words.attach(child, target, words.dep[child])
    if subject is not None and words.text[subject] in COLORS:
        words.attach(subject, target, "amod")
        words.tag[subject] = "JJ"
    elif subject is not None:
        # "Hand" says how it was painted and is no object.
        words.text[i] = f"{words.text[subject]} {words.text[i]}"
        words.tag[subject], words.dep[subject] = "RB", "advmod"


def loose_subject(words: Words, i: int, lexicon: Lexicon) -> None:
    """An actor before its verb, taken for a measure or a part: "boy and girl holding hands"."""
    loose = words.child(i, "npadvmod", "compound")
    if loose is None or loose > i or words.dep[i] != "ROOT" or words.tag[loose] not in NOUNS:
        return
    if words.child(i, "nsubj", "nsubjpass") is None and may_act(words, loose, lexicon):
        words.dep[loose] = "nsubj"
        words.give(i, loose, "det", "amod", "poss", "nummod")


def noun_of_noun(words: Words, i: int) -> None:
    """A noun taken for the subject of the noun behind it: "Labrador Retriever"."""
    head = words.head[i]
    is_beside = head == i + 1 and words.tag[i] in NOUNS and words.tag[head] in NOUNS
    if is_beside and words.child(head, "cop", "aux") is None:
        words.dep[i] = "compound"


def particle_or_preposition(words: Words, i: int, lexicon: Lexicon) -> None:
    """In "a train traveling down tracks" the tracks are where, not what."""
    particle, target = words.child(i, "prt"), words.child(i, "dobj")
    if particle is None or target is None or target < particle:
        return
    if lexicon.verb(words.text[i]) in MOTIONS:
        words.dep[particle] = "prep"
        words.attach(target, particle, "pobj")


def where_it_happens(words: Words, i: int, lexicon: Lexicon) -> None:
    """In "a man walks a dog in the park" the walking is in the park."""
    target = words.child(i, "dobj")
    if target is None or words.dep[i] == "amod" or lexicon.verb(words.text[i]) in SHOWS:
        return
    for child in list(words.children[target]):
        if child > target and words.dep[child] == "prep" and words.text[child] in WHERE:
            if words.text[child] == "on" and words.text[target] in ABOUT:
                continue
            words.attach(child, i, "prep")


def picture_of_actor(words: Words, i: int) -> None:
    """In "a photo of a horse running" the horse runs."""
    noun = None
    if words.tag[i] == "VBG" and words.child(i, "aux") is None:
        noun = words.head[i] if words.dep[i] == "acl" else words.child(i, "nsubj")
    elif words.tag[i] == "VBN" and words.dep[i] == "acl" and words.text[words.head[i]] in KINDS:
        noun = words.head[i]
    if noun is None or noun > i or words.text[noun].rstrip("s") not in PICTURES:
        return
    inner = words.behind_of(noun)
    if inner is not None and noun < inner < i:
        if words.head[noun] == i:
            words.take_place(noun, i)
        words.attach(i, inner, "acl")


def actor_with_thing(words: Words, i: int, lexicon: Lexicon) -> None:
    """In "a man with a hat riding a horse" it is not the hat that rides."""
    thing = words.head[i]
    if words.tag[i] != "VBG" or words.dep[i] != "acl" or may_act(words, thing, lexicon):
        return
    if words.dep[thing] != "pobj" or words.text[words.head[thing]] not in ("with", "in"):
        return
    owner = words.head[words.head[thing]]
    if may_act(words, owner, lexicon):
        words.attach(i, owner, "acl")


def both_do_it(words: Words, i: int) -> None:
    """In "a dog and a cat sleeping" the participle hangs on the second, and is said of both."""
    noun = words.head[i]
    if words.dep[i] != "acl" or words.tag[i] not in PARTICIPLES or noun != i - 1:
        return
    first = words.head[noun]
    if words.dep[noun] != "conj" or words.tag[first] not in NOUNS or words.dep[first] == "pobj":
        return
    if words.child(first, "cc") is not None:
        words.attach(i, first, "acl")


def adjective_after_noun(words: Words, i: int) -> None:
    """Said of the noun before: "tobacco leaf, addictive and hazardous", "a pointer visible"."""
    head = words.head[i]
    subject = words.child(i, "nsubj")
    if subject is not None and words.dep[i] == "ROOT" and words.child(i, "aux") is None:
        words.attach(subject, subject, "ROOT")
        words.attach(i, i - 1 if i > 0 and words.tag[i - 1] in NOUNS else subject, "amod")
    elif head < i and words.tag[head] in NOUNS and words.dep[i] in _LOOSE:
        words.dep[i] = "amod"


def listed_adjective(words: Words, i: int) -> None:
    """An entry of a list is no attribute of another: "dessert, food, festive, entertainment"."""
    between_commas = i > 1 and words.text[i - 1] == "," and words.text[i + 1 : i + 2] == [","]
    if between_commas and words.tag[i - 2] in NOUNS:
        words.attach(i, i, "ROOT")


def _actor_before(words: Words, i: int, lexicon: Lexicon) -> int | None:
    """The actor right before a participle, or before "with a beard" or "on a bench"."""
    last = i - 1 if words.text[i - 1] != "," else i - 2
    if last < 0 or words.tag[last] not in _IN_NOUN_PHRASE:
        return None
    if may_act(words, last, lexicon):
        return last
    preposition = last
    while preposition > 0 and words.tag[preposition] in _IN_NOUN_PHRASE:
        preposition -= 1
    if words.tag[i] != "VBG" or words.tag[preposition] != "IN" or preposition == 0:
        return None
    actor = words.head[preposition]
    if words.tag[actor] in PARTICIPLES and words.dep[actor] == "acl":
        actor = words.head[actor]
    if actor > preposition or not may_act(words, actor, lexicon):
        return None
    words.tag[last] = words.tag[last] if words.tag[last] in NOUNS else "NN"
    words.attach(last, preposition, "pobj")
    for k in range(preposition + 1, last):
        words.attach(k, last, words.dep[k])
    return actor


def _make_participle(words: Words, i: int, actor: int) -> None:
    """Hang a participle on its actor, and what it stood before on the participle."""
    whole = words.head[i] if words.head[i] > i and words.tag[words.head[i]] in NOUNS else i
    if words.head[actor] in (i, whole):
        # The actor takes the place of the whole, with all that stands before it.
        words.take_place(actor, whole)
        for child in [*words.children[i], *words.children[whole]]:
            if child < actor:
                words.attach(child, actor, words.dep[child])
    words.attach(i, actor, "acl")
    if whole != i:
        words.attach(whole, i, "dobj")
    words.tag[i] = "VBG"


def _is_waning(words: Words, i: int, thing: int, lexicon: Lexicon) -> bool:
    """Whether a title says what kind of one thing it is: "waning moon", no "playing guitar"."""
    is_one = (
        words.tag[thing] == "NN" and "_" not in words.text[thing] and is_bare(words, i + 1, thing)
    )
    return is_one and lexicon.verb(words.text[i]) not in ORDERS | PURPOSES


def is_bare(words: Words, first: int, last: int) -> bool:
    """Whether a stretch is nouns and adjectives, without an article or a comma."""
    return all(words.tag[k] in NOUNS | ADJECTIVES for k in range(first, last + 1))


def _is_instrument(words: Words, noun: int, verb: int, lexicon: Lexicon) -> bool:
    """Whether a noun says how something was made: bare, singular, and nobody."""
    is_bare = noun == verb - 1 and words.tag[noun] in ("NN", "NNP") and not words.children[noun]
    # Not by its ending: "flower printed", "computer generated".
    return is_bare and not _is_actor(lexicon.noun(words.text[noun]))
