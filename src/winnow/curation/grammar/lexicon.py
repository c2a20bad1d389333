"""English words and their base forms, from the tables that spaCy's lemmatizer brings (WordNet's).

The lemmatizer itself trusts the tag it is given and takes the first form it finds, so "riding" is
"rid". Here a form is asked for as a noun or as a verb, whatever it was tagged.
"""

from collections.abc import Mapping
from typing import Any

_ADJECTIVAL = ("ic", "ous", "ful", "less", "able", "ible", "ish", "ive", "esque")


class Lexicon:
    """Base forms, remembered. `tables` are `lemma_index` and `lemma_exc` of an English pipeline."""

    def __init__(self, index: Mapping[str, Any], irregular: Mapping[str, Any]) -> None:
        self.nouns = frozenset(index["noun"])
        self.verbs = frozenset(index["verb"])
        self.adjectives = frozenset(index["adj"])
        self.adverbs = frozenset(index["adv"])
        self._irregular_verbs = {form: bases[0] for form, bases in irregular["verb"].items()}
        self._irregular_nouns = {form: bases[0] for form, bases in irregular["noun"].items()}
        self._verb_of: dict[str, str | None] = {}

    def is_adjective(self, word: str) -> bool:
        """Whether the lower-case `word` is an adjective, known or by its ending."""
        return word in self.adjectives or (word not in self.nouns and word.endswith(_ADJECTIVAL))

    def is_plural(self, word: str) -> bool:
        """Whether the lower-case `word` is the plural of a noun."""
        return self.noun(word) != word

    def verb(self, form: str) -> str | None:
        """The verb that the lower-case `form` is a form of, or None."""
        if form not in self._verb_of:
            self._verb_of[form] = self._find_verb(form)
        return self._verb_of[form]

    def noun(self, form: str) -> str:
        """The singular of the lower-case `form`; the form itself where it is no known plural."""
        if form in self._irregular_nouns:
            return self._irregular_nouns[form]
        if form.endswith("s") and not form.endswith("ss"):
            if form.endswith("ies") and form[:-3] + "y" in self.nouns:
                return form[:-3] + "y"
            if form[:-1] in self.nouns:
                return form[:-1]
            if form.endswith("es") and form[:-2] in self.nouns:
                return form[:-2]
        if form.endswith("men") and form[:-2] + "an" in self.nouns:
            return form[:-2] + "an"
        return form

    def knows(self, word: str) -> bool:
        """Whether the lower-case `word` is a common English word, in any of its forms."""
        return (
            word in self.nouns
            or word in self.adjectives
            or word in self.adverbs
            or self.verb(word) is not None
            or self.noun(word) in self.nouns
        )

    def _find_verb(self, form: str) -> str | None:
        if form in self._irregular_verbs:
            # The tables know "distil" and not that "distill" has the same forms.
            stem = form.removesuffix("ing").removesuffix("ed")
            return (
                stem
                if stem != form and stem in self.verbs and stem[-1] == stem[-2]
                else self._irregular_verbs[form]
            )
        for ending in ("ing", "ed"):
            if form.endswith(ending) and len(form) > len(ending) + 1:
                found = self._without(form[: -len(ending)])
                if found:
                    return found
        if form in self.verbs:
            return form
        candidates = []
        if form.endswith("ies"):
            candidates.append(form[:-3] + "y")
        if form.endswith("ied"):
            candidates.append(form[:-3] + "y")
        if form.endswith("s"):
            candidates += [form[:-1], form[:-2]] if form.endswith("es") else [form[:-1]]
        found = next((base for base in candidates if base in self.verbs), None)
        return found or self._prefixed(form)

    def _prefixed(self, form: str) -> str | None:
        """ "Autotraced" is "autotrace": a known verb behind a known beginning."""
        if "is" in form[2:]:
            # British spelling: "stylised".
            at = form.rindex("is")
            american = form[:at] + "iz" + form[at + 2 :]
            if american.endswith(("ize", "ized", "izes", "izing")) and self.verb(american):
                return form[: at + 2] + "e"
        for prefix in ("auto", "re", "un", "over", "pre", "photo", "hand"):
            if form.startswith(prefix) and len(form) > len(prefix) + 4:
                base = self.verb(form[len(prefix) :])
                if base:
                    return prefix + base
        return None

    def _without(self, stem: str) -> str | None:
        """The verb that gave `stem` when it took "ing" or "ed"."""
        if len(stem) > 2 and stem[-1] == stem[-2] and stem[:-1] in self.verbs:
            return stem if stem in self.verbs else stem[:-1]
        if stem + "e" in self.verbs and (stem not in self.verbs or _doubles(stem)):
            return stem + "e"
        return stem if stem in self.verbs else None


def _doubles(stem: str) -> bool:
    """Whether its last consonant doubles: "rid" gives "ridding", so "riding" is of "ride"."""
    vowels = "aeiou"
    return (
        len(stem) >= 3
        and stem[-1] not in vowels + "wxy"
        and stem[-2] in vowels
        and stem[-3] not in vowels
    )
