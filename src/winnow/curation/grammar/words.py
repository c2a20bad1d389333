"""A parsed piece of a caption as plain lists, so that rules can read and mend it fast.

Tags are the Penn Treebank's, dependencies ClearNLP's, as all English pipelines of spaCy give them.
Words joined by hyphens are one word: "t-shirt", "hand-made", "black-and-white".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.tokens import Doc

NOUNS = frozenset({"NN", "NNS", "NNP", "NNPS"})
VERBS = frozenset({"VB", "VBD", "VBG", "VBN", "VBP", "VBZ"})
ADJECTIVES = frozenset({"JJ", "JJR", "JJS"})
_PAST = frozenset({"VBD", "VBN", "VBZ"})
PARTICIPLES = frozenset({"VBG", "VBN", "VBD"})


@dataclass(kw_only=True, slots=True)
class Words:
    """One entry per word; `head` is an index, its own for a root."""

    text: list[str]
    """In lower case."""
    tag: list[str]
    dep: list[str]
    head: list[int]
    start: list[int]
    """Offset in the caption."""
    end: list[int]
    children: list[list[int]] = field(default_factory=list)
    is_name: bool = False
    """Whether it is an entry of a keyword list or a file name: it names, and says nothing."""

    def __len__(self) -> int:
        return len(self.text)

    def attach(self, word: int, head: int, dep: str) -> None:
        """Hang `word` under `head`, or make it a root where that is itself.

        Where `head` hangs below `word`, that branch first takes the place of `word`.
        """
        at = head
        while at != word and self.head[at] != at and self.head[at] != word:
            at = self.head[at]
        if at != word and self.head[at] == word:
            above = self.head[word]
            self._move(at, above if above != word else at, self.dep[word])
        self._move(word, head, dep)

    def _move(self, word: int, head: int, dep: str) -> None:
        if self.head[word] != word:
            self.children[self.head[word]].remove(word)
        self.head[word], self.dep[word] = head, dep
        if head != word:
            self.children[head] = sorted([*self.children[head], word])

    def take_place(self, word: int, of: int) -> None:
        """Hang `word` where `of` hangs; `of` stays there too, until it is attached elsewhere."""
        above = self.head[of]
        self.attach(word, above if above != of else word, self.dep[of])

    def give(self, word: int, to: int, *deps: str) -> None:
        """Hang on `to` what hangs on `word` by `deps` before `to`."""
        for child in [c for c in self.children[word] if c < to and self.dep[c] in deps]:
            self.attach(child, to, self.dep[child])

    def behind_of(self, word: int) -> int | None:
        """The noun behind the "of" that hangs on `word`."""
        of = next((c for c in self.children[word] if self.text[c] == "of"), None)
        return None if of is None else self.child(of, "pobj")

    def child(self, word: int, *deps: str) -> int | None:
        """The first child by one of `deps`, or None."""
        for child in self.children[word]:
            if self.dep[child] in deps:
                return child
        return None


def words_of(doc: Doc, text: str, offsets: Sequence[int], is_name: bool) -> Words:
    """The words of a parsed `text`; `offsets` says where its characters stand in the caption."""
    # One array instead of a Python object per token: half of the time of reading a parse.
    array = doc.to_array(["TAG", "DEP", "HEAD", "IDX", "LENGTH"]).astype("int64")
    tags, deps, heads, places, lengths = array.T.tolist()
    names = doc.vocab.strings
    lower = text.lower()
    ends = [place + length for place, length in zip(places, lengths, strict=True)]
    words = Words(
        text=[lower[place:end] for place, end in zip(places, ends, strict=True)],
        tag=[names[tag % 2**64] for tag in tags],
        dep=[names[dep % 2**64] for dep in deps],
        head=[i + head for i, head in enumerate(heads)],
        start=[offsets[place] for place in places],
        end=[offsets[end - 1] + 1 for end in ends],
    )
    for i, tag in enumerate(words.tag):
        if tag in _PAST and ends[i] - places[i] > 1 and text[places[i] : ends[i]].isupper():
            # An "LED circle" was led by nobody.
            words.tag[i] = "NNP"
            words.dep[i] = "compound" if words.dep[i] == "amod" else words.dep[i]
    if "-" in words.text:
        words = _join_hyphens(words)
    words.is_name = is_name
    words.children = [[] for _ in words.text]
    for word, above in enumerate(words.head):
        if above != word:
            words.children[above].append(word)
    return words


def _join_hyphens(words: Words) -> Words:
    groups: list[list[int]] = []
    for i in range(len(words)):
        touches = groups and words.start[i] == words.end[i - 1]
        if touches and (words.text[i] == "-" or words.text[i - 1] == "-") and words.tag[i] != "POS":
            groups[-1].append(i)
        else:
            groups.append([i])
    group_of = {i: number for number, group in enumerate(groups) for i in group}
    joined = Words(text=[], tag=[], dep=[], head=[], start=[], end=[])
    for number, group in enumerate(groups):
        # The word that hangs outside speaks for all; a group that is all root, for itself.
        outside = [i for i in group if group_of[words.head[i]] != number or words.head[i] == i]
        lead = (
            outside[-1]
            if len(outside) == 1
            else group[-1]
            if words.text[group[-1]] != "-"
            else group[0]
        )
        joined.text.append("".join(words.text[i] for i in group))
        joined.tag.append(_tag_of_joined(words, group, lead))
        joined.dep.append(words.dep[lead])
        joined.head.append(group_of[words.head[lead]] if words.head[lead] != lead else number)
        joined.start.append(words.start[group[0]])
        joined.end.append(words.end[group[-1]])
    _mend_heads(joined)
    return joined


def _tag_of_joined(words: Words, group: list[int], lead: int) -> str:
    if len(group) == 1:
        return words.tag[lead]
    last = group[-1] if words.text[group[-1]] != "-" else lead
    if words.dep[lead] in ("amod", "nmod") and words.tag[last] not in ("NNS", "NNPS"):
        # "long-sleeve shirt", "3-year-old girl", "black-and-white photo": all say what kind.
        return "JJ"
    if words.tag[last] in PARTICIPLES:
        # "a hand-painted vase", "man-eating shark": joined to what it says, it is no event.
        return "JJ"
    return words.tag[last]


def _mend_heads(words: Words) -> None:
    """Joining can close a ring of heads: its first word becomes a root."""
    for i in range(len(words)):
        seen = {i}
        at = i
        while words.head[at] != at:
            at = words.head[at]
            if at in seen:
                words.head[at] = at
                break
            seen.add(at)
