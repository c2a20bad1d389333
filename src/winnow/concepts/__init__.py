"""Concept distillation: what a frozen image model sees in each picture, as targets for training.

    vocabulary   the objects and attributes that a selection's captions name
    teacher      a frozen image model; features of every kept picture, computed once
    heads        two linear classifiers on those features, trained on the captions' concepts
    targets      their most probable concepts for every picture (`data/concept_targets.py`)

Radenovic et al. (DiHT), CVPR 2023, arXiv 2301.02280, section 3.2.
"""

from collections.abc import Callable, Iterator

import pyarrow as pa

HEADS = ("objects", "attributes")
"""The two vocabularies, and the two heads over them."""

KeptRows = Callable[[], Iterator[pa.RecordBatch]]
"""The kept pairs of a selection, in its order, as often as asked: row n of all is its row n.

Columns: `uid`, `sha256` (hex digits of the picture's), `caption` and `objects` (as the parser
gives them: `text`, `lemma`, `attributes`, `start`, `end` of each).
"""
