"""Captions as the tagger reads them: prose, without what is no language.

Nothing moves: every change keeps the number of characters, so that offsets hold in the caption.
"""

import re
from collections.abc import Sequence

from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.grammar.vocabulary import TITLE_SMALL

LONGEST = 1000
"""Characters of a caption that are read: ten times the usual, and no page runs the parser down."""

_NOTHING_ODD = re.compile(r"[\w ,.'-]*")
_ENTITY = re.compile(r"(?P<before>\s|^)?&(?P<name>quot|amp|apos|#39|#34);")
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
_CLOSE_UP = re.compile(r"\b(close) (up)\b(?!\s+(?:to|on|the|a)\b)", re.IGNORECASE)
# A bar, a dash or a line break ends what is said: "Red apple - Stock photo | Shop".
_BREAK = re.compile(r"\s[-\u2010-\u2015]+\s|\s?[|\u2022\u00b7\u00bb]\s?|\s*[\r\n]+\s*|\s/+\s|:\s")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


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
        text = _JOINED.sub(_apart, text)
    if is_odd:
        # After names are taken apart: a title is put together in the same way.
        text = _QUOTED.sub(_one_word, text)
    return _recase(_CLOSE_UP.sub(r"\1-\2", text), lexicon)


def segments(text: str) -> list[tuple[str, Sequence[int]]]:
    """What is said in a plain caption, piece by piece, with the offset of each character.

    Spaces are single inside a piece: the parser takes every other one for a word.
    """
    found: list[tuple[str, Sequence[int]]] = []
    start = 0
    for gap in [*_BREAK.finditer(text), None]:
        end = gap.start() if gap else len(text)
        while start < end and text[start] in " ,":
            start += 1
        words = text[start:end].split()
        if words:
            piece = " ".join(words)
            same = text.startswith(piece, start)
            found.append((piece, range(start, end) if same else _offsets(text, start, words)))
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
    letter, size = _LETTER[match["name"]], len(match[0])
    return letter.ljust(size) if match["before"] is None else letter.rjust(size)


def _one_word(match: re.Match[str]) -> str:
    title = re.sub(r"[\s']", "_", match[1])
    return f" {title} " if title[0].isupper() else match[0]


def _apart(match: re.Match[str]) -> str:
    return match[0].replace("_", " ").replace("-", " ")


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])
