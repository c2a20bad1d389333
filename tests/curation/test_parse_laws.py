"""What holds for every caption, whatever its words: laws of the graph and of the batches."""

import itertools
import json
import random
from pathlib import Path

import pytest

from winnow.curation import parse
from winnow.curation.parse import Parser, parse_captions

DEV = Path(__file__).parent / "captions" / "dev.jsonl"
_TEXT = """
a the A man dog dogs DOG woman's riding rides holding painted used red black-and-white t-shirt in on
with of next to front by and , . - | : # @ ' " & is are was have there who that not 3 1950s photo
horse_riding IMG_2041.JPG www.example.com &amp; &#39; café 猫 ½ İ to up down running
"""
WORDS = [*_TEXT.split(), "", "\n"]


def jumbled(number, seed):
    """Captions that nobody would write: the rules must neither fail nor run in rings."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randrange(1, 25))) for _ in range(number)]


@pytest.fixture(scope="module")
def captions():
    real = [json.loads(line)["caption"] for line in DEV.read_text().splitlines()]
    return [*real, *(caption.upper() for caption in real[:40]), *jumbled(400, 0)]


@pytest.fixture(scope="module")
def graphs(captions):
    return list(parse_captions(captions))


def test_one_graph_per_caption_in_order(captions, graphs):
    assert [graph.caption for graph in graphs] == captions


def test_offsets_point_at_the_words(graphs):
    checked = 0
    for graph in graphs:
        for item in graph.objects:
            assert graph.caption[item.start : item.end] == item.text
            assert item.text.strip() == item.text != ""
        for edge in [*graph.actions, *graph.relations]:
            word = graph.caption[edge.start : edge.end]
            assert word.strip() == word != ""
            checked += 1
    assert checked > 300


def test_indices_are_those_of_objects(graphs):
    for graph in graphs:
        for edge in [*graph.actions, *graph.relations]:
            assert edge.subject is None or 0 <= edge.subject < len(graph.objects)
            assert edge.object is None or 0 <= edge.object < len(graph.objects)
        assert all(relation.subject != relation.object for relation in graph.relations)


def test_records_of_one_verb_stand_together(graphs):
    for graph in graphs:
        starts = [action.start for action in graph.actions]
        assert len(list(itertools.groupby(starts))) == len(set(starts))
        assert len(set(graph.actions)) == len(graph.actions)


def test_complexity_is_a_literal_count(graphs):
    seen = set()
    for graph in graphs:
        most = 0
        for index, item in enumerate(graph.objects):
            count = len(item.attributes)
            for edges in (graph.actions, graph.relations):
                for start in {edge.start for edge in edges}:
                    same = [edge for edge in edges if edge.start == start]
                    count += any(edge.subject == index for edge in same)
                    count += any(edge.object == index for edge in same)
            most = max(most, count)
        assert graph.complexity == most
        seen.add(most)
    assert seen >= {0, 1, 2, 3, 4}


def test_batches_and_neighbours_change_no_graph(captions, graphs):
    shuffled = captions[:200]
    random.Random(1).shuffle(shuffled)
    expected = {graph.caption: graph for graph in graphs}
    for batch_size in (1, 7, 1000):
        for graph in parse_captions(shuffled, batch_size=batch_size):
            assert graph == expected[graph.caption]


def test_a_caption_is_parsed_once_within_a_window(monkeypatch):
    monkeypatch.setattr(parse, "WINDOW", 4)
    monkeypatch.setattr(parse, "REMEMBERED", 2)
    parser = Parser()
    parsed = []
    through = parser._parse
    monkeypatch.setattr(parser, "_parse", lambda new: through(parsed.append(list(new)) or new))
    captions = ["a dog", "a cat", "a dog", "a cow", "a cow", "a pig", "a dog"]
    assert [graph.caption for graph in parser.graphs(captions)] == captions
    assert parsed == [["a dog", "a cat", "a cow"], ["a pig", "a dog"]]
    assert len(parser._known) == 2
