"""Which candidates become the concepts of a head, and as which concept each of them counts.

A rare compound counts as the rest of it. With n(c) the pairs that have a mention counted as c, from
the longest candidates down to single words,

    n(c) < min_count   =>   what counted as c counts as c without its first word

so "old fire truck" becomes "fire truck" and that "truck"; a rare single word becomes nothing, and
so do a rare attribute and what is on the stop list as a whole. What is said of the picture is off
the end of the candidates before ("fire truck drawing", `candidates.py`). Of the frequent ones those
that are stopped are set aside, the `most` frequent others are kept, and what counted as one of the
rest counts as the longest listed end of it. That only adds mentions to those kept, so none falls
below `min_count` again, and one recount makes all counts exact. Ours; the paper says "by
frequency".
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from winnow.concepts.candidates import Candidates
from winnow.concepts.stop_words import StopList
from winnow.progress import track

Shorter = Callable[[str], str]
"""What a candidate counts as where it cannot stand for itself; the empty one for nothing."""


def without_first_word(text: str) -> str:
    """Objects back off towards their head noun."""
    return text.partition(" ")[2]


def nothing(text: str) -> str:
    """Attributes do not back off."""
    return ""


SHORTER: dict[str, Shorter] = {"objects": without_first_word, "attributes": nothing}
"""How the candidates of each head back off."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The concepts of one head: those kept, then those that the stop list took.

    Both by descending count, and alphabetically where counts are equal.
    """

    concepts: tuple[str, ...]
    reasons: tuple[str | None, ...]
    """None for those kept."""
    counts: np.ndarray
    """int64: how many pairs have each."""
    place: np.ndarray
    """int32, per candidate: where in `concepts` is what it counts as; -1 for nothing."""
    num_candidates: int
    """Distinct ones, with the shorter ones that they were counted as."""
    num_rare: int
    num_beyond: int
    """Frequent enough, but not among the most frequent."""
    highest: int
    """In how many pairs the most frequent candidate is."""

    @property
    def size(self) -> int:
        """How many are kept."""
        return self.reasons.count(None)

    @property
    def num_stopped(self) -> int:
        """How many the stop list took."""
        return len(self.reasons) - self.size


def choose(
    head: str, candidates: Candidates, stop: StopList, *, min_count: int, most: int
) -> Choice:
    """The concepts of `head`: at most `most`, each in `min_count` pairs or more."""

    def shorter(text: str) -> str:
        return "" if text in stop.whole else SHORTER[head](text)

    forms = _Forms(candidates)
    highest = int(forms.count.max())
    passes = int(forms.num_words.max(initial=0))
    with track(f"choosing {head}", total=passes, unit="lengths") as advance:
        for length in range(passes, 0, -1):
            forms.back_off(length, shorter, min_count=min_count)
            advance()
    forms.recount()
    frequent = sorted(forms.at_least(min_count), key=forms.rank)
    reasons = {i: stop.reason(forms.texts[i]) for i in frequent}
    ranked = [i for i in frequent if reasons[i] is None]
    stopped = [i for i in frequent if reasons[i] is not None]
    listed = {forms.texts[i]: i for i in (*ranked[:most], *stopped)}
    if beyond := ranked[most:]:
        ends = [_end(forms.texts[i], shorter, listed) for i in beyond]
        forms.move(np.array(beyond), np.array(ends))
        forms.recount()
    order = [*sorted(ranked[:most], key=forms.rank), *sorted(stopped, key=forms.rank)]
    position = np.full(len(forms.texts), -1, dtype=np.int32)
    position[order] = np.arange(len(order))
    return Choice(
        concepts=tuple(forms.texts[i] for i in order),
        reasons=tuple(reasons[i] for i in order),
        counts=forms.count[order],
        place=position[forms.form[: len(candidates.texts)]],
        num_candidates=len(forms.texts) - 1,
        num_rare=len(forms.texts) - 1 - len(frequent),
        num_beyond=len(beyond),
        highest=highest,
    )


def _end(text: str, shorter: Shorter, listed: dict[str, int]) -> int:
    """The number of the longest listed concept that `text` ends in, 0 for none."""
    while text := shorter(text):
        if text in listed:
            return listed[text]
    return 0


class _Forms:
    """Candidates and their rests by number, and as which of them each counts now.

    Number 0 is the empty one, as which counts what is nothing.
    """

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates
        self.texts = list(candidates.texts)
        self._numbers = {text: number for number, text in enumerate(self.texts)}
        self.num_words = _num_words(self.texts)
        self.form = np.arange(len(self.texts))
        # No fewer than this; exact until something else counts as it.
        self.count = candidates.count(self.form, size=len(self.texts))
        self._at_most = self.count.copy()

    def rank(self, number: int) -> tuple[int, str]:
        """What to sort by: the most frequent first, ties alphabetically."""
        return -int(self.count[number]), self.texts[number]

    def at_least(self, min_count: int) -> list[int]:
        """Those that count as themselves, in so many pairs."""
        itself = self.form == np.arange(len(self.texts))
        return np.flatnonzero(itself & (self.num_words > 0) & (self.count >= min_count)).tolist()

    def back_off(self, length: int, shorter: Shorter, *, min_count: int) -> None:
        """Let those of `length` words that are in fewer pairs count as what is shorter."""
        level = np.flatnonzero(self.num_words == length)
        # Two mentions in one pair may count as the same by now, so a sum only says "at most"; most
        # candidates are so rare, or so frequent by themselves, that nobody needs to look.
        open_ = level[(self.count[level] < min_count) & (self._at_most[level] >= min_count)]
        if len(open_):
            self.count[open_] = self._at_most[open_] = self._counted(open_)[open_]
        rare = level[self.count[level] < min_count]
        rests = np.array([self._number(shorter(self.texts[i])) for i in rare], dtype=np.int64)
        self._grow()
        np.add.at(self._at_most, rests, self._at_most[rare])
        self.move(rare, rests)

    def move(self, numbers: np.ndarray, targets: np.ndarray) -> None:
        """Let what counted as each of `numbers` count as the one of `targets` beside it."""
        step = np.arange(len(self.texts))
        step[numbers] = targets
        self.form = step[self.form]

    def recount(self) -> None:
        """Count all exactly."""
        self.count = self._counted(np.arange(len(self.texts)))

    def _counted(self, wanted: np.ndarray) -> np.ndarray:
        """int64 (numbers,): the pairs that have each of `wanted`, 0 for others."""
        is_wanted = np.zeros(len(self.texts), dtype=bool)
        is_wanted[wanted] = True
        form = self.form[: len(self._candidates.texts)]
        place = np.where(is_wanted[form], form, -1)
        return self._candidates.count(place, size=len(self.texts))

    def _number(self, text: str) -> int:
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number

    def _grow(self) -> None:
        """Make room for what `_number` has added."""
        new = np.arange(len(self.form), len(self.texts))
        self.num_words = np.concatenate([self.num_words, _num_words(self.texts[len(self.form) :])])
        self.count = np.concatenate([self.count, np.zeros_like(new)])
        self._at_most = np.concatenate([self._at_most, np.zeros_like(new)])
        self.form = np.concatenate([self.form, new])


def _num_words(texts: list[str]) -> np.ndarray:
    """int64: 0 for the empty one."""
    return np.array([text.count(" ") + 1 if text else 0 for text in texts], dtype=np.int64)
