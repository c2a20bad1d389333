"""The parser against captions labelled by hand, without looking at what it finds.

Rules were written looking at `dev`; `frozen` was never looked at, and says how they generalize.
"""

import json
from pathlib import Path

import pytest

from winnow.curation.parse import parse_captions

FOLDER = Path(__file__).parent / "captions"
LEAST_ACTION = 0.95
LEAST_COMPLEXITY = 0.85


@pytest.mark.parametrize("name", ["dev", "frozen"])
def test_actions_and_complexity_are_mostly_those_of_the_labels(name):
    labels = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
    graphs = list(parse_captions(label["caption"] for label in labels))
    pairs = list(zip(labels, graphs, strict=True))
    action = [bool(graph.actions) == bool(label["actions"]) for label, graph in pairs]
    complexity = [graph.complexity == label["complexity"] for label, graph in pairs]
    for (label, graph), has_action, is_complex in zip(pairs, action, complexity, strict=True):
        if not (has_action and is_complex):
            print(f"{label['caption']!r}")
            print(f"  label: {label['complexity']}, {[a['verb'] for a in label['actions']]}")
            print(f"  found: {graph.complexity}, {[a.verb for a in graph.actions]}")
    shares = sum(action) / len(labels), sum(complexity) / len(labels)
    print(f"{name}: n {len(labels)}, action {shares[0]:.3f}, complexity {shares[1]:.3f}")
    assert len(labels) >= 100
    assert shares[0] >= LEAST_ACTION
    assert shares[1] >= LEAST_COMPLEXITY
