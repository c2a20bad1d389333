"""Words that the rules know something about, beyond what a lexicon says.

Each set is a class of English words, not a list of what captions were seen to hold: a word belongs
here if it belongs to the class.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLORS = _words(
    """
    black white red green blue yellow orange pink purple brown grey gray golden beige magenta cyan
    turquoise teal crimson scarlet violet maroon
    """
)

SHAPES = _words("round square oval triangular flat")
"""Before a noun they say what it looks like, nouns as they may be."""

FULL = _words("full free short tired proud afraid aware sick capable made")
"""Adjectives that take "of"."""

ACTORS = _words(
    """
    man woman boy girl child kid baby person people lady guy couple family friend mother father mom
    dad parent son daughter brother sister bride groom student nurse doctor soldier king queen
    prince princess athlete crowd team group toddler teenager teen adult infant chef pilot monk nun
    cowboy male female mermaid fairy dragon angel witch clown robot wizard zombie
    dog cat puppy kitten horse pony bird duck goose swan chicken rooster hen owl eagle hawk parrot
    penguin fish shark whale dolphin orca cow bull calf sheep lamb goat pig donkey camel elephant
    lion tiger bear wolf fox deer rabbit hare squirrel mouse rat monkey ape gorilla panda koala
    kangaroo giraffe zebra turtle tortoise frog toad snake lizard crocodile butterfly bee spider
    animal
    """
)
"""People and animals: a participle after one of them says what it does. Those that are named by
what they do ("dancer") are found by their ending."""

PURPOSES = _words(
    """
    run sleep swim dance walk hike jog fish hunt race train cycle ski surf skate climb live dine
    wash sew vend wed cook bake camp shop park box sit wait change ride bowl sail knit
    """
)
"""Verbs whose "-ing" before a thing says what it is for: running shoes, sleeping bag."""

MOTIONS = _words(
    """
    walk run go travel drive ride fly move roll climb come sail ski slide fall jump swim crawl march
    hike jog flow float race step cycle
    """
)
"""Verbs of moving: their "up" or "down" before a noun is a preposition."""

SHOWS = _words("show depict feature contain include represent have see display portray get")
"""Verbs that only point at something: what follows their object describes it."""

WHERE = _words("in at on to into onto out through across along around during against over under")
"""Prepositions that, behind verb and object, say where it happens."""

ABOUT = _words(
    "information book focus data news report article tips advice details effect tax attack"
)
"""Nouns whose "on" says what they are about."""

SIDES = _words("back front top inside outside left right bottom")
"""Parts of a thing that look like adverbs: "back of a hand"."""

BODIED = _words(
    """
    headed haired eyed legged winged colored coloured shaped sided sized handed footed tailed eared
    skinned faced breasted bellied necked flavored scented themed
    """
)
"""Participles of nouns: with the word before they are one adjective."""

LIKE = _words("style type size shape like sized shaped themed")
"""Behind a hyphen they make an adjective of a noun: "wing-style"."""

UNITS = _words(
    """
    cent cents euro euros dollar dollars yen mm cm m km inch inches feet foot meter meters metre
    metres mile miles kg g gram grams liter liters litre litres hours minutes seconds degrees
    """
)
"""Behind a number they measure, and name nothing."""

NAMING = {
    "united": _words("kingdom states nations arab"),
    "new": _words(
        "york yorker england zealand jersey mexico orleans delhi hampshire guinea brunswick"
    ),
}
"""Adjectives that begin names of places, and how these go on."""

SIZES = _words("size shape color height length width weight")

ORDERS = _words(
    """
    make buy save get find take keep give read eat drink learn enjoy go see gather build install
    remove add open close create choose select click press turn start stop help try use put move
    clean cut cook play watch listen look call visit join follow share shop send show meet pick
    attack ride catch run place
    """
)
"""Verbs that are orders where they begin a title, nouns as they may be: "play guitar"."""

COPULAS = _words("be look seem appear become feel get turn stay remain smell taste sound")
"""Verbs that say how something is."""

PLACES = _words("front top back middle center behalf spite addition side")
"""Nouns without an article in "in front of", "on top of"."""

THINGS = _words(
    """
    building painting clothing wedding drawing bedding ceiling evening morning meeting ring spring
    string king wing thing lightning earring railing lining icing housing lettering stocking pudding
    sibling darling duckling sling sting swing engraving setting
    """
)
"""Nouns in "-ing" that name things rather than doings."""

PICTURES = _words(
    """
    photo photograph picture image painting drawing illustration portrait view shot silhouette
    vector cartoon sketch print poster clipart icon sort kind type version
    """
)
"""Nouns that stand before "of" for what is behind it: in "a photo of a horse running" the horse
runs."""

KINDS = _words("sort kind type")

HOW_MANY = _words("lot lots plenty couple dozens hundreds thousands")
"""Nouns that say how many there are of the noun behind "of"."""

QUANTIFIERS = _words(
    """
    many several few some various numerous multiple much more most own other another such same all
    both each every any no half single dozen hundred first second third fourth fifth sixth seventh
    eighth ninth tenth last next
    """
)
"""Tagged as adjectives, and say how many or which ones: no attributes."""

PRONOUNS = _words(
    """
    something anything nothing everything someone anyone everyone somebody anybody nobody everybody
    one ones thanks
    """
)
"""Tagged as nouns, and name nothing."""

TITLE_SMALL = _words(
    """
    with from over into onto under near this that these those your their his her its our my about
    after through between a an the and or of in on at by to for is are who which there
    """
)
"""Words that are no names, however they are written."""
