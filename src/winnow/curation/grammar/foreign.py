"""Whether a caption is in another language than English: by its script, then by its small words.

Meant to spare the parser what it cannot read, not to tell languages apart: a caption is taken for
English unless there is evidence. One or two words without a small word or a foreign letter among
them ("red apple", "Casa Batllo") give none, and three or more if they are English or names.
`annotators/language.py` has a model for the rest.
"""

import re
import unicodedata
from functools import cache

from winnow.curation.grammar.lexicon import Lexicon

_WORD = re.compile(r"[^\W\d_]+")
_LATIN_TOO = frozenset({"FULLWIDTH", "MODIFIER", "MICRO", "FEMININE", "MASCULINE"})

# The commonest words of each language. Those in `_IN_NAMES` stand in names all over English
# captions (Leonardo da Vinci, El Capitan, Le Mans) or are English words too, and count half.
_SMALL_WORDS = {
    "German": """
        der die das und ist mit für auf ein eine einen einem einer den dem des im zum zur von vom
        bei nach in aus über unter nicht auch sich wie oder aber sind wird werden wurde hat haben
        ich du wir sie er es am als bis durch vor beim
    """,
    "French": """
        le la les du des un une et est avec dans pour par sur au aux de en qui que ne pas plus
        ou où ce cette ces son sa ses leur leurs nous vous ils elle il à chez sans sous entre
        être sont été
    """,
    "Spanish": """
        el la los las del de un una unos unas y es con en para por que su sus se al lo como más
        pero muy sobre entre sin desde está están son este esta
    """,
    "Portuguese": """
        o os as um uma uns umas do da dos das de em no na nos nas e com para por pelo pela que
        se ao à é são não mais como sua seu está muito sobre entre sem
    """,
    "Italian": """
        il lo la gli le un uno una di del della dei delle degli dello e è con in per da dal
        dalla nel nella nei al alla che si non sono come su sul sulla più anche tra questo
        questa
    """,
    "Dutch": """
        de het een en van voor met op aan uit bij naar door over niet ook zijn wordt werd dat
        die deze dit te als maar om tot onder tussen ik je wij zij
    """,
    "Swedish": """
        och en ett är på av med för som till från att det den inte om vid mot över under hos
        eller när var har kan
    """,
    "Norwegian or Danish": """
        og en et er på av af med for som til fra at det den ikke om ved mot mod over under eller
        når var har kan
    """,
    "Polish": """
        i w z na do się jest nie że jak dla od po przez oraz są ze przed pod nad przy to
    """,
    "Czech": """
        a v s na do se je není že jak pro od po přes jsou ze před pod nad při ve jako
    """,
    "Romanian": """
        și si în din cu la pe de un o este sunt pentru care nu ce mai prin sau lui
    """,
    "Turkish": """
        ve bir bu için ile çok daha olarak gibi en kadar olan var değil
    """,
    "Indonesian or Malay": """
        yang dan di dari untuk dengan ini itu pada ke dalam adalah tidak akan atau oleh juga
    """,
    "Vietnamese": """
        của và là có các cho một những trong được với không này người để ở
    """,
    "Hungarian": """
        a az és egy hogy nem is van meg ez el vagy csak már még mint
    """,
    "Finnish": """
        ja on ei se että hän mutta niin kuin myös joka ovat oli tai
    """,
}
_NAMES = """
    de la le les du des da di del della el los las von van der den das do dos al san il lo
    die y e et en un a i o z w v s as no in is an am at or for over under te om to var kan
    er es su se sa son sin con par ne on dan dari si ce mai sat hat him her has had will can
    are man plus ten far per via bin ska som not so me au aux ou sur chez sans
"""
_ENGLISH_WORDS = """
    the a an and of in on with for at by from is are was were be to this that his her their
    its it he she they we you your my our as or not no into over under near up out off who
    which while has have had will can all one two three
"""
_IN_NAMES = frozenset(_NAMES.split())
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_LANGUAGES_OF: dict[str, list[str]] = {}
for _name, _words in _SMALL_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF.setdefault(_word, []).append(_name)

LEAST_SMALL_WORDS = 0.15
"""Share of words that are such small words, below which they are quoted, not spoken."""

UNKNOWN = "unknown"
"""What a language is called that has no small word in the caption."""

MOST_OTHER_SCRIPT = 0.3
"""Share of letters outside the Latin script above which a caption is not English."""


def foreign(caption: str, lexicon: Lexicon) -> str | None:
    """The script, as "CYRILLIC", or the language, as "German"; None for what may be English."""
    if not caption.isascii():
        script = _other_script(caption)
        if script:
            return script
    words = _WORD.findall(caption)
    found = None
    if not _LANGUAGES_OF.keys().isdisjoint(map(str.lower, words)):
        found = _language(words, lexicon)
    return found or (UNKNOWN if _is_strange(words, lexicon) else None)


def _other_script(caption: str) -> str | None:
    letters = [letter for letter in caption if letter.isalpha()]
    others = [script for letter in letters if (script := _script(letter)) != "LATIN"]
    if len(others) <= MOST_OTHER_SCRIPT * len(letters) or not others:
        return None
    return max(sorted(set(others)), key=others.count)


def _language(cased: list[str], lexicon: Lexicon) -> str | None:
    """The language whose small words outweigh the English ones, and are many enough."""
    words = [word.lower() for word in cased]
    english = sum(word in _ENGLISH for word in words)
    weights: dict[str, float] = {}
    for word in dict.fromkeys(words):
        for name in _LANGUAGES_OF.get(word, ()):
            weight = 0.5 if word in _IN_NAMES or word in _ENGLISH else 1.0
            weights[name] = weights.get(name, 0.0) + weight
    best = max(weights, key=weights.__getitem__)
    share = sum(word in _LANGUAGES_OF for word in words) / len(words)
    if weights[best] <= english or share < LEAST_SMALL_WORDS:
        return None
    others = [word for word in cased if word.lower() not in _LANGUAGES_OF and len(word) > 1]
    unknown = sum(not lexicon.knows(word.lower()) for word in others)
    certain = any(best in _LANGUAGES_OF.get(word, ()) and word not in _IN_NAMES for word in words)
    if weights[best] >= 1.5:
        # Whole names are capitalized, but for small words: "Notre Dame de la Garde".
        return best if certain or not _is_name(others) else None
    # One small word needs strange words around it: "Barattolo di pillole", no Leonardo da Vinci.
    is_strange = unknown >= 0.5 * len(others) and not _is_name(others)
    return best if is_strange or (certain and unknown > 0.3 * len(others)) else None


def _is_strange(words: list[str], lexicon: Lexicon) -> bool:
    """Whether hardly a word is English: "frau lockiges haar", "Žltá prilba".

    Names say nothing, nor do one or two words that have no foreign letter.
    """
    if len(words) < 2:
        return False
    lower = [word.lower() for word in words]
    if not _ENGLISH.isdisjoint(lower):
        return False
    plain = [
        word
        for i, word in enumerate(lower)
        if len(word) > 2 and (i == 0 or not words[i][0].isupper())
    ]
    if len(plain) < 2 or not any(word[0].islower() for word in words):
        return False
    known = sum(lexicon.knows(word) for word in plain)
    if len(plain) < 4:
        return known == 0 and (len(plain) == 3 or not all(map(str.isascii, plain)))
    return 4 * known <= len(plain)


def _is_name(words: list[str]) -> bool:
    return all(word[0].isupper() for word in words)


@cache
def _script(letter: str) -> str:
    """The first word of a letter's Unicode name: CYRILLIC, CJK, HIRAGANA, FULLWIDTH."""
    name = unicodedata.name(letter, "UNKNOWN").split()[0]
    return "LATIN" if name in _LATIN_TOO else name
