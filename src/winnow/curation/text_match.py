"""Does text seen in a picture repeat words of its caption? Compared letter by letter.

Text-spotting, the T of CAT filtering (Radenovic et al., "Filtering, Distillation, and Hard
Negatives for Vision-Language Pre-Training", CVPR 2023, arXiv 2301.02280, section 3.1): a pair is
dropped where picture and caption share a run of five characters. What is compared here:

- Both texts in compatible Unicode (NFKC) and case-folded; what is no letter or digit is dropped,
  white space becomes single spaces: "Black & White, 50 % OFF" is "black white 50 off".
- Every line of the picture by itself, anywhere in the caption. A **shared run** is a stretch of
  equal characters, spaces included; it begins and ends with a letter, may begin within a word, and
  never goes on from one line to the next.
- Its length is its letters and digits, spaces not counted.
- It counts where it holds, in the caption and in the line alike, a word that is no stop word: all
  of the word, or `least_run` letters of it. So "for the" never counts, nor does "s for the" of
  "shoes for the" and "dogs for the"; "graph" of "photograph" and "graphic" does.

A **near match** has one edit inside: two stretches, one directly after the other but for one
character that is missing on either side or differs, with `least_run` letters together that are
shared. It is what a misread letter or a lost space leaves of a run.

Chinese, Japanese and Korean characters are letters like others, and without spaces a line is one
word: five of them are a long phrase, so the default is mild there.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

MAX_CAPTION = 10_000
"""Characters of a caption that are compared; no text tower reads as far."""

_STOP_WORDS = """
a about above across after again against all along also always am among an and another any are
arent around as at away back be because been before behind being below beneath beside besides
between beyond both but by can cannot cant could couldnt did didnt do does doesnt doing done
dont down during each either else even ever every few for from further get gets got had has
hasnt have havent having he her here heres hers herself hes him himself his how i id if ill im
in inside into is isnt it its itself ive just let lets like many may me might more most much
must my myself near neither never no nor not now of off on once one only onto or other others
our ours ourselves out outside over own per rather same shall she shes should since so some
such than that thats the their theirs them themselves then there theres these they theyre
theyve this those though through throughout to too toward towards under until up upon us very
via was wasnt we well were werent weve what whats when where whether which while who whom whose
why will with within without wont would yes yet you youll your youre yours yourself youve
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that say nothing of what is to be seen; apostrophes are dropped as in all texts."""

_ASCII_DROPPED = re.compile(r"[^a-z0-9\s]+")


class Match(NamedTuple):
    """A run that caption and picture share, and where it is in either."""

    run: str
    """As compared, of the caption."""
    seen: str
    """What stands in the line in its place: `run` itself, or one edit away from it."""
    letters: int
    """Shared letters and digits."""
    start: int
    """The run is caption[start:stop], in the caption as it was given."""
    stop: int
    line: int
    """Index of the line."""


def longest_shared_run(
    caption: str, lines: Sequence[str], *, least_run: int, shortest: int
) -> Match | None:
    """The longest shared run that counts, of `shortest` letters or more; None where there is none.

    Of equally long ones, that in the first line, there the first of the caption. `least_run` is
    how many letters of a longer word count like a whole word.
    """
    text = comparable(caption[:MAX_CAPTION])
    best = None
    for number, line in _lines_that_may_share(text, lines, shortest):
        for at, seen_at, length in _equal_stretches(text, line, best[0] + 1 if best else shortest):
            run = text[at : at + length]
            letters = count_letters(run)
            if letters < shortest or (best is not None and letters <= best[0]):
                continue
            start, stop = at + run.startswith(" "), at + length - run.endswith(" ")
            shift = seen_at - at
            in_line = _holds_a_word(line, start + shift, stop + shift, least_run)
            if in_line and _holds_a_word(text, start, stop, least_run):
                best = letters, start, stop, number
    if best is None:
        return None
    letters, start, stop, number = best
    run = text[start:stop]
    return Match(run, run, letters, *_place(caption, start, stop), number)


def nearest_run(caption: str, lines: Sequence[str], *, least_run: int) -> Match | None:
    """The longest near match of `least_run` shared letters or more; None where there is none.

    To be asked only where no shared run counts: a part of one with a gap is no news.
    """
    text = comparable(caption[:MAX_CAPTION])
    half = (least_run + 1) // 2
    best = None
    for number, line in _lines_that_may_share(text, lines, half):
        for stretch in _equal_stretches(text, line, half):
            for near in _with_one_edit(text, line, *stretch):
                if near.letters < least_run or (best is not None and near.letters <= best[0]):
                    continue
                in_line = _holds_a_word(line, near.seen_start, near.seen_stop, least_run)
                if in_line and _holds_a_word(text, near.start, near.stop, least_run):
                    seen = line[near.seen_start : near.seen_stop]
                    best = near.letters, near.start, near.stop, number, seen
    if best is None:
        return None
    letters, start, stop, number, seen = best
    return Match(text[start:stop], seen, letters, *_place(caption, start, stop), number)


def comparable(text: str) -> str:
    """Letters and digits in lower case, words separated by single spaces, nothing else."""
    if text.isascii():
        return " ".join(_ASCII_DROPPED.sub("", text.lower()).split())
    return "".join(character for character, _, _ in _characters(text))


def count_letters(comparable_text: str) -> int:
    """How many letters and digits there are."""
    return len(comparable_text) - comparable_text.count(" ")


def _characters(text: str) -> Iterator[tuple[str, int, int]]:
    """Each character of `comparable(text)` with the start and stop of what it comes from."""
    space = None
    begun = False
    for start, stop in _clusters(text):
        for character in unicodedata.normalize("NFKC", text[start:stop]).casefold():
            if character.isspace():
                space = space or (" ", start, stop)
            elif character.isalnum():
                if space is not None and begun:
                    yield space
                space, begun = None, True
                yield character, start, stop


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Start and stop of every character with the marks that normalising may join to it."""
    start = 0
    for index, character in enumerate(text):
        if index > start and not _joins(character):
            yield start, index
            start = index
    if text:
        yield start, len(text)


def _joins(character: str) -> bool:
    """Whether normalising may join it to what is before it: marks, and letters of two scripts."""
    hangul = "\u1160" <= character <= "\u11ff"  # vowels and finals of decomposed syllables
    voiced = character in "\uff9e\uff9f"  # of half-width kana
    return hangul or voiced or unicodedata.category(character)[0] == "M"


def _place(caption: str, start: int, stop: int) -> tuple[int, int]:
    """Where the stretch from `start` to `stop` of the comparable caption is in the given one."""
    places = [(begin, end) for _, begin, end in _characters(caption[:MAX_CAPTION])]
    return places[start][0], places[stop - 1][1]


def _lines_that_may_share(
    text: str, lines: Sequence[str], length: int
) -> Iterator[tuple[int, str]]:
    """Number and comparable text of the lines with a word and `length` characters of the text.

    Most lines of most pictures end here, and this is quick.
    """
    pieces = _pieces(text, length)
    for number, raw in enumerate(lines):
        line = comparable(raw)
        if not STOP_WORDS.issuperset(line.split()) and not pieces.isdisjoint(_pieces(line, length)):
            yield number, line


def _pieces(text: str, length: int) -> set[str]:
    return {text[at : at + length] for at in range(len(text) - length + 1)}


def _equal_stretches(text: str, line: str, least: int) -> list[tuple[int, int, int]]:
    """(start in text, start in line, length) of all equal stretches that cannot be made longer.

    Only those of `least` characters or more. All diagonals of the table text x line at once: read
    with one column more than it has, the table has each diagonal in a column.
    """
    n, m = len(text), len(line)
    width = n + m + 1
    table = np.zeros((m + 1) * width, dtype=bool)
    squares = table[: m * (width - 1)].reshape(m, width - 1)
    np.equal(_codes(line)[:, None], _codes(text)[None, :], out=squares[:, :n])
    diagonals = table.reshape(m + 1, width).T.ravel()  # each ends in False
    edges = np.flatnonzero(diagonals[1:] != diagonals[:-1]) + 1
    if diagonals[0]:
        edges = np.concatenate(([0], edges))
    starts, stops = edges[::2], edges[1::2]
    long = stops - starts >= least
    column, row = np.divmod(starts[long], m + 1)
    below = column >= n  # diagonals that begin at the line's second character or later
    seen_at = row + below
    at = seen_at + column - width * below
    order = np.lexsort((seen_at, at))
    found = np.stack((at, seen_at, (stops - starts)[long]), axis=1)[order]
    return [(a, b, length) for a, b, length in found.tolist()]


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


class _Near(NamedTuple):
    """A near match: text[start:stop] and line[seen_start:seen_stop]."""

    letters: int
    start: int
    stop: int
    seen_start: int
    seen_stop: int


def _with_one_edit(text: str, line: str, at: int, seen_at: int, length: int) -> Iterator[_Near]:
    """The near matches with the given equal stretch on either side of the edit.

    A letter that is doubled on one side only is an edit too; it then needs no other stretch.
    """
    end, seen_end = at + length, seen_at + length
    own = count_letters(text[at:end])
    for skip, seen_skip in ((1, 1), (1, 0), (0, 1)):
        start, seen_start = at - skip, seen_at - seen_skip
        other = _equal_before(text, line, start, seen_start)
        more = count_letters(text[start - other : start]) if other else 0
        if more or _equal_after(text, line, start, seen_start):
            other = other if more else 0
            places = start - other, end, seen_start - other, seen_end
            yield _trimmed(text, line, own + more, *places)
        stop, seen_stop = end + skip, seen_end + seen_skip
        other = _equal_after(text, line, stop, seen_stop)
        more = count_letters(text[stop : stop + other])
        if more or _equal_before(text, line, stop, seen_stop):
            other = other if more else 0
            places = at, stop + other, seen_at, seen_stop + other
            yield _trimmed(text, line, own + more, *places)


def _trimmed(
    text: str, line: str, letters: int, start: int, stop: int, seen_start: int, seen_stop: int
) -> _Near:
    """Without the space that both may begin or end with: the ends of a near match are equal."""
    first, last = text[start] == " ", text[stop - 1] == " "
    assert (line[seen_start] == " ", line[seen_stop - 1] == " ") == (first, last), "ends differ"
    return _Near(letters, start + first, stop - last, seen_start + first, seen_stop - last)


def _equal_after(text: str, line: str, at: int, seen_at: int) -> int:
    """How many characters are equal from the two places on; none where one is before the start."""
    if min(at, seen_at) < 0:
        return 0
    return _equal_head(text[at:], line[seen_at:])


def _equal_before(text: str, line: str, at: int, seen_at: int) -> int:
    """How many characters are equal before the two places; none where one is past the end."""
    if min(at, seen_at) < 0 or at > len(text) or seen_at > len(line):
        return 0
    return _equal_head(text[:at][::-1], line[:seen_at][::-1])


def _equal_head(one: str, other: str) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _holds_a_word(text: str, start: int, stop: int, least_run: int) -> bool:
    """Whether text[start:stop] has all, or `least_run` letters, of a word that is no stop word."""
    begin = text.rfind(" ", 0, start) + 1
    while begin < stop:
        space = text.find(" ", begin)
        end = len(text) if space < 0 else space
        inside = min(end, stop) - max(begin, start)
        enough = inside == end - begin or inside >= least_run
        if enough and text[begin:end] not in STOP_WORDS:
            return True
        begin = end + 1
    return False
