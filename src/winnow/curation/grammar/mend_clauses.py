"""Rules that mend where a clause begins and what it is said of; see `mend.py`."""

from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.mend_links import is_bare, may_act
from winnow.curation.grammar.vocabulary import PURPOSES, SIZES, THINGS
from winnow.curation.grammar.words import ADJECTIVES, NOUNS, PARTICIPLES, VERBS, Words

_OF_A_CLAUSE = ("aux", "auxpass", "nsubj", "nsubjpass", "dobj")
_IN_NOUN_PHRASE = NOUNS | ADJECTIVES | {"PRP$"}


def made_after_noun(words: Words, i: int) -> None:
    """A participle that is all the parser finds, its noun loose: "lime cut to half"."""
    is_last = i + 1 == len(words) and words.dep[i] in ("ccomp", "dep", "advcl", "xcomp")
    if is_last and words.tag[i] in ("VBN", "VBD") and words.tag[words.head[i]] in NOUNS:
        if words.tag[i - 1] in NOUNS and words.child(i, *_OF_A_CLAUSE) is None:
            # "Extract component applied".
            words.tag[i] = "VBN"
            words.attach(i, i - 1, "acl")
        return
    loose = words.child(i, "compound", "npadvmod", "advmod")
    if loose is None or loose != i - 1 or words.tag[loose] not in NOUNS:
        return
    if words.tag[i] not in ("VBN", "VBD") or words.dep[i] != "ROOT":
        return
    if words.child(i, *_OF_A_CLAUSE) is not None:
        return
    if words.tag[i + 1 : i + 2] and words.tag[i + 1] in ("IN", "TO", "RB", ",", "."):
        words.tag[i], words.dep[loose] = "VBN", "nsubjpass"
        words.give(i, loose, "det", "amod", "poss", "nummod", "compound")


def verb_of_two(words: Words, i: int) -> None:
    """No verb is joined to a noun: "it has four legs and works as a table"."""
    noun = words.head[i]
    if words.tag[i] not in ("VBZ", "VBP", "VBD") or words.dep[i] != "conj":
        return
    if words.tag[noun] not in NOUNS or words.child(i, "nsubj", "nsubjpass", "expl") is not None:
        return
    above = words.head[noun]
    while words.tag[above] not in VERBS and words.head[above] != above:
        above = words.head[above]
    if words.tag[above] in VERBS and above < i:
        words.attach(i, above, "conj")


def subject_behind_and(words: Words, i: int) -> None:
    """The subject of a second sentence, joined to the end of the first.

    "They turned into horrors and the robots are shooting".
    """
    if words.child(i, "nsubj", "nsubjpass", "expl") is not None:
        return
    first = words.child(i, "aux", "auxpass")
    if first is None and words.tag[i] not in ("VBZ", "VBP", "VBD"):
        return
    verb = i if first is None else first
    noun = verb - 1
    if verb < 3 or words.tag[verb] not in ("VBZ", "VBP", "VBD", "MD") or noun not in _joined(words):
        return
    start = noun
    while start > 0 and words.tag[start] in _IN_NOUN_PHRASE and words.tag[start] != "DT":
        start -= 1
    if words.tag[start] == "DT" and words.tag[start - 1] == "CC":
        words.attach(noun, i, "nsubj" if words.child(i, "auxpass") is None else "nsubjpass")


def first_adjective(words: Words, lexicon: Lexicon) -> None:
    """A caption begins with two adjectives: "snug, soft cloth sleeves"."""
    if len(words) < 4 or words.text[1] != "," or words.tag[2] not in ADJECTIVES | PARTICIPLES:
        return
    if lexicon.is_adjective(words.text[0]) and words.dep[2] == "amod" and words.head[2] > 2:
        words.attach(0, words.head[2], "amod")
        words.tag[0] = "JJ"


def said_of_all(words: Words, i: int) -> None:
    """Behind a comma a participle is said of the whole: "a cup with a handle, made of clay"."""
    if words.dep[i] != "acl" or words.text[i - 1] != "," or words.tag[i] not in PARTICIPLES:
        return
    noun = words.head[i]
    while words.dep[noun] == "pobj" and words.tag[words.head[words.head[noun]]] in NOUNS:
        noun = words.head[words.head[noun]]
    if noun != words.head[i] and words.head[noun] == noun:
        words.attach(i, noun, "acl")


def following(words: Words, i: int) -> None:
    """Taken for a preposition: "a flag following the specification"."""
    noun, target = words.head[i], words.child(i, "pobj")
    if words.dep[i] == "prep" and target is not None and words.tag[noun] in NOUNS:
        words.dep[i], words.dep[target] = "acl", "dobj"


def for_doing(words: Words, i: int, lexicon: Lexicon) -> None:
    """What is done to the thing, no kind of thing: "for ironing clothes", not "walking sticks"."""
    thing = words.head[i]
    if words.dep[i] not in ("amod", "compound") or thing != i + 1 or words.text[i] in THINGS:
        return
    preposition = words.head[thing]
    if preposition != i - 1 or words.text[preposition] != "for" or words.dep[thing] != "pobj":
        return
    base = lexicon.verb(words.text[i])
    if base is not None and base not in PURPOSES:
        words.attach(i, preposition, "pcomp")
        words.attach(thing, i, "dobj")
        words.tag[i] = "VBG"


def two_subjects(words: Words, i: int) -> None:
    """Of two subjects, the first belongs to a fragment: "a zombie; flames escape from it"."""
    subjects = [c for c in words.children[i] if words.dep[c] in ("nsubj", "nsubjpass", "dep")]
    subjects = [c for c in subjects if c < i and words.tag[c] in NOUNS]
    if len(subjects) == 2 and any(words.text[k] in (";", ",") for k in range(*subjects)):
        words.attach(subjects[0], subjects[0], "ROOT")


def made_things(words: Words, i: int, lexicon: Lexicon) -> None:
    """An adjective that looks like a participle: "the animal has tufted ears"."""
    has, target = words.child(i, "aux"), words.child(i, "dobj")
    if words.tag[i] != "VBN" or has is None or target is None or has != i - 1:
        return
    subject = words.child(i, "nsubj")
    if words.text[has] not in ("has", "have", "had") or words.text[i] not in lexicon.adjectives:
        return
    if words.tag[target] != "NNS" or not is_bare(words, i + 1, target):
        return
    if subject is not None and may_act(words, subject, lexicon):
        return
    words.take_place(has, i)
    for child in [c for c in words.children[i] if c != target]:
        words.attach(child, has, words.dep[child])
    words.attach(target, has, "dobj")
    words.attach(i, target, "amod")


def relative_root(words: Words, i: int) -> None:
    """A relative clause taken for the sentence: "a doorway of logs, that could be moved"."""
    if words.dep[i] != "ROOT":
        return
    subject = words.child(i, "nsubj", "nsubjpass")
    if subject is None or words.text[subject] not in ("that", "which", "who"):
        return
    noun = words.child(i, "npadvmod", "dep", "nmod")
    if noun is not None and noun < subject and words.tag[noun] in NOUNS:
        words.attach(noun, noun, "ROOT")
        words.attach(i, noun, "relcl")
        words.tag[subject] = "WDT"


def size_of_thing(words: Words, i: int) -> None:
    """In "an ant the size of a dog covered in plates" the ant is covered."""
    thing = words.head[i]
    if words.dep[i] != "acl" or words.dep[thing] != "pobj":
        return
    size = words.head[words.head[thing]]
    if words.text[size] in SIZES and words.dep[size] in ("appos", "npadvmod"):
        words.attach(i, words.head[size], "acl")


def subject_disagrees(words: Words, i: int) -> None:
    """A base form takes no singular noun for its subject: "a map of the region, enjoy it"."""
    if words.tag[i] not in ("VB", "VBP") or words.child(i, "aux") is not None:
        return
    subject = words.child(i, "nsubj")
    if subject is None or words.tag[subject] != "NN" or words.child(subject, "conj") is not None:
        return
    if "," in words.text[subject + 1 : i]:
        words.attach(subject, subject, "ROOT")


def _joined(words: Words) -> list[int]:
    return [i for i, dep in enumerate(words.dep) if dep == "conj" and words.tag[i] in NOUNS]
