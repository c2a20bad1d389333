"""The pool for caption filters: sentences that people wrote, and such as a grammar makes for icons.

A tenth of the icons have their caption written into the picture, the case that text spotting looks
for; those pictures are 96 pixels wide, since nothing can be read at 32.
"""

from collections.abc import Mapping, Sequence, Set

from icon_described import Described
from icon_drawing import Drawn, with_text
from icon_emoji import Label
from icon_files import Pair
from icon_lots import chance, lot, uid_of
from icon_names import is_class_name
from icon_sentences import Facts, colour_of, sentence, tags_for
from icon_sets import Icon

TEXT_SIDE = 96
"""Pixels of a picture with its caption written in."""
_WITH_TEXT = 1 / 7  # of the kinds below, which are 0.7 of all
_WRITTEN = ("action", "relation", "bare")  # kinds of captions that are written into pictures


def pool(
    icons: Sequence[Icon],
    described: Sequence[Described],
    labels: Mapping[str, Label],
    drawn: Mapping[str, Drawn],
    *,
    without: Set[str],
    pairs: int,
    seed: int,
) -> list[Pair]:
    """So many pairs in an order by lot; all that is described is among them, icons are the rest.

    No picture looks like one in `without`. Of each concept there is one icon, and its name is
    of one to three words of letters.
    """
    found = [
        _pair(one.identity, drawn[one.identity].png, one.text, kind="", name="", text=False)
        for one in described
        if drawn[one.identity].digest not in without
    ]
    concepts: dict[str, Icon] = {}
    for icon in sorted(icons, key=lambda icon: lot(seed, "pool", icon.identity)):
        if is_class_name(icon.concept):
            concepts.setdefault(icon.concept, icon)
    for icon in list(concepts.values())[: max(0, pairs - len(found))]:
        found.append(_icon_pair(icon, labels, drawn[icon.identity], seed=seed))
    return sorted(found, key=lambda pair: lot(seed, "order", pair.uid))


def _icon_pair(icon: Icon, labels: Mapping[str, Label], drawn: Drawn, *, seed: int) -> Pair:
    label = labels.get(icon.concept)
    facts = Facts(
        name=icon.concept,
        colour=colour_of(drawn.png),
        category=icon.category,
        tags=tags_for(icon.concept, label.tags) if label else (),
    )
    made = sentence(facts, seed=seed, identity=icon.identity)
    has_text = made.kind in _WRITTEN and chance(seed, "text", icon.identity) < _WITH_TEXT
    picture = with_text(icon.svg, made.text, side=TEXT_SIDE) if has_text else drawn
    assert picture is not None, f"{icon.identity} was drawn before"
    return _pair(
        icon.identity, picture.png, made.text, kind=made.kind, name=icon.concept, text=has_text
    )


def _pair(identity: str, png: bytes, caption: str, *, kind: str, name: str, text: bool) -> Pair:
    source = identity.split("/")[0]
    facts = {"source": source, "kind": kind, "name": name, "has_text": text}
    return Pair(uid=uid_of("sentences", identity), png=png, caption=caption, facts=facts)
