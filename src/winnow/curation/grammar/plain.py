"""Captions as the tagger reads them: prose, without what is no language.

Nothing moves: every change keeps the number of characters, so that offsets hold in the caption.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.vocabulary import COLORS, TITLE_SMALL

LONGEST = 1000
"""Characters of a caption that are read: ten times the usual, and no page runs the parser down."""

_NOTHING_ODD = re.compile(r"[\w ,.'-]*")
_ENTITY = re.compile(
    r"(?P<before>\s|^)?&(?:(?P<joint>apos|#39);(?=s\b)|(?P<name>quot|amp|apos|#39|#34);)"
)
_LETTER = {"quot": '"', "amp": "&", "apos": "'", "#39": "'", "#34": '"'}
# What stands for no word: addresses, mentions, tags, entities, and symbols that only decorate.
_NO_WORDS = re.compile(
    r"https?://\S+|www\.[^\s\])]+|\S+@\S+\.\w+|@\w+|<[^<>]{1,200}>|&#?\w{1,8};"
    r"|[^\w\s.,;:!?'\"()/&%$€£+#|\-\u2010-\u2015\u2018-\u201f\u2022\u00b7\u00bb]"
)
_EXTENSION = re.compile(r"\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|psd|pdf|eps)\b", re.IGNORECASE)
# A name made by joining: black-cat-on-sofa, man_riding_horse; "black-and-white" stays.
_JOINED = re.compile(r"[^\W_]+(?:[-_]+[^\W_]+){3,}|[^\W_]+(?:_+[^\W_]+)+")
# A title in quotation marks is one name, whatever verbs it holds; longer ones are speech.
_QUOTED = re.compile(
    r"(?<!\w)[\"\u201c]((?:[^\W_][^\s\"\u201c\u201d]*\s+){1,6}[^\s\"\u201c\u201d]+)[\"\u201d]"
)
# Quotation marks around one word say nothing that the tagger understands.
_QUOTED_WORD = re.compile(r"(?<!\w)[\"\u201c]([a-z][\w-]*)[\"\u201d]")
# Hyphens stand for spaces in a file name; in prose these words are inside of one adjective.
_JOINED_NAME = re.compile(r"[^\W_]+(?:[-_]+[^\W_]+){2,}|[^\W_]+_+[^\W_]+")
_INSIDE = re.compile(r"-(?:of|the|and|to|in|on|by|up|a)-")
_CLOSE_UP = re.compile(r"\b(close) (up)\b(?!\s+(?:to|on|the|a)\b)", re.IGNORECASE)
# A bar, a dash or a line break ends what is said: "Red apple - Stock photo | Shop".
_BREAKS = r"\s[-\u2010-\u2015]+\s|\s?[|\u2022\u00b7\u00bb]\s?|\s*[\r\n]+\s*|\s/+\s|:\s"
_BREAK = re.compile(_BREAKS)
# Names of emoji add the tone of a skin without a comma.
_TONE = r"(?:medium-light|medium-dark|medium|light|dark) skin tone"
_BREAK_AT_TONE = re.compile(
    rf"{_BREAKS}|(?<!\bwith)(?<!\bof)(?<!\ba)(?<!\band)\s(?={_TONE}\b)|(?<= skin tone)\s(?=\w)"
)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_COMMA = re.compile(r",")
# What a list of keywords does not hold: more than one sentence, or something said.
_NO_LIST = re.compile(r"[.!?;]|\b(?:is|are|was|were|has|have|it|its|you|your|that|which)\b", re.I)


def plain(caption: str, lexicon: Lexicon) -> str:
    """The caption for the parser, as many characters as are read."""
    text = caption[:LONGEST]
    if len(caption) > LONGEST and not caption[LONGEST].isspace():
        text = text[: max(text.rfind(" "), 0)] or text
    is_odd = not _NOTHING_ODD.fullmatch(text) or "www." in text
    if is_odd:
        text = text.replace("\u2019", "'").replace("\u2018", "'")
        text = _NO_WORDS.sub(_blank, _ENTITY.sub(_one_letter, text)).replace("#", ",")
    if "." in text:
        text = _EXTENSION.sub(_blank, text)
    if "_" in text or "-" in text:
        is_prose = " " in text.strip()
        text = (_JOINED if is_prose else _JOINED_NAME).sub(_apart, text)
    if is_odd:
        # After names are taken apart: a title is put together in the same way.
        text = _QUOTED_WORD.sub(r" \1 ", _QUOTED.sub(_one_word, text))
    return _recase(_CLOSE_UP.sub(r"\1-\2", text), lexicon)


class Piece(NamedTuple):
    """What is parsed at once."""

    text: str
    """Spaces are single: the parser takes every other one for a word."""
    offsets: Sequence[int]
    """Of each character, in the caption."""
    is_name: bool
    """Whether it is an entry of a list of keywords or a file name."""


def segments(text: str, caption: str, lexicon: Lexicon) -> list[Piece]:
    """What is said in a plain caption, piece by piece. Keywords are a piece each."""
    if is_keywords(text, lexicon):
        return _pieces(text, _COMMA, is_name=True)
    is_file = " " in text.strip() and " " not in caption.strip()
    return _pieces(text, _BREAK_AT_TONE if " skin tone" in text else _BREAK, is_name=is_file)


def is_keywords(text: str, lexicon: Lexicon) -> bool:
    """Whether a plain caption is a list of names: "dessert, food, festive, entertainment".

    Not so "rolled, cured tobacco leaf" or "large, old, wooden house": most of what stands before
    the last comma must be nouns.
    """
    if text.count(",") < 2 or _NO_LIST.search(text):
        return False
    entries = [words for entry in text.split(",") if (words := _WORD.findall(entry.lower()))]
    if len(entries) < 3 or max(map(len, entries)) > 4 or len(entries) * 2 < sum(map(len, entries)):
        return False
    if any(entry[0] in TITLE_SMALL for entry in entries):
        return False
    named = sum(_is_thing(entry[-1], lexicon) for entry in entries[:-1])
    if len(entries) == 3:
        return named == 2
    return named > 1 or (named == 1 and max(map(len, entries)) == 1)


def _is_thing(word: str, lexicon: Lexicon) -> bool:
    is_adjective = word in lexicon.adjectives or word in COLORS
    return not is_adjective and not word.endswith(("ing", "ed"))


def _pieces(text: str, between: re.Pattern[str], *, is_name: bool) -> list[Piece]:
    found: list[Piece] = []
    start = 0
    for gap in [*between.finditer(text), None]:
        end = gap.start() if gap else len(text)
        while start < end and text[start] in " ,":
            start += 1
        words = text[start:end].split()
        if words:
            piece = " ".join(words)
            same = text.startswith(piece, start)
            offsets = range(start, end) if same else _offsets(text, start, words)
            found.append(Piece(piece, offsets, is_name))
        start = gap.end() if gap else end
    return found


def _offsets(text: str, start: int, words: list[str]) -> list[int]:
    offsets: list[int] = []
    at = start
    for word in words:
        at = text.index(word, at)
        # The space before a word is the last character before it.
        offsets.extend(range(at - 1 if offsets else at, at + len(word)))
        at += len(word)
    return offsets


def _recase(text: str, lexicon: Lexicon) -> str:
    """Lower case where upper case says nothing: captions in capitals, and in Title Case.

    The tagger calls a capitalized "Riding" a name. In Title Case only words of the language are
    lowered, so that names stay names.
    """
    words = _WORD.findall(text)
    longer = [word for word in words if len(word) > 3]
    if sum(map(str.isupper, longer)) > 0.6 * len(longer):
        return _lower(text)
    if len(longer) > 1 and all(word[0].isupper() or word in TITLE_SMALL for word in longer):
        return _WORD.sub(lambda match: _lower_known(match[0], lexicon), text)
    if words and len(words[0]) > 1:
        # A caption begins with a capital for no other reason than that it begins.
        return text.replace(words[0], _lower_known(words[0], lexicon), 1)
    return text


def _lower_known(word: str, lexicon: Lexicon) -> str:
    if word.isupper() and len(word) > 1:
        return word
    lower = _lower(word)
    return lower if lexicon.knows(lower) or lower in TITLE_SMALL else word


def _lower(text: str) -> str:
    """Lower case, but for the few letters whose lower case is longer."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(small if len(small := letter.lower()) == 1 else letter for letter in text)


def _one_letter(match: re.Match[str]) -> str:
    """The letter of an entity, next to the word that it belongs to."""
    letter, size = _LETTER[match["joint"] or match["name"]], len(match[0])
    is_before = match["before"] is None and match["joint"] is None
    return letter.ljust(size) if is_before else letter.rjust(size)


def _one_word(match: re.Match[str]) -> str:
    title = re.sub(r"[\s']", "_", match[1])
    return f" {title} " if title[0].isupper() else match[0]


def _apart(match: re.Match[str]) -> str:
    if _INSIDE.search(match[0]) and match[0] != match.string.strip():
        # "A state-of-the-art rifle".
        return match[0]
    return match[0].replace("_", " ").replace("-", " ")


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])
