"""Captions to graphs: how fast, how right, and how many of them the C and A of CAT keep.

Speed: `Parser.graphs` from caption to graph, against spaCy's own pipe with the components that it
runs and nothing after them, which is the most that rules over spaCy can reach, and against
SceneGraphParser where it is installed. One thread each, real captions, none of them twice.

Quality: agreement with captions labelled by hand (tests/curation/captions), of winnow, of the two
shortcuts of public CAT filters and of SceneGraphParser.

    python benchmarks/captions.py [quality survivors speed] [--labels dev] [--rounds 10]
"""

import argparse
import os

# Before numpy is loaded.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import hashlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from caption_peers import (
    HOW_TO_INSTALL,
    Reading,
    bare_pipeline,
    readers,
    scene_graph_parser,
    winnow_reader,
)
from caption_sets import CACHE, DRAWN, LABELS, captions_by_source, labelled, sample, split_by_length
from harness import RATIO_COLUMNS, Table, alternate, ratio_of, ratio_rows, write_table

from winnow.curation.parse import Parser, installed_pipeline
from winnow.statistics import wilson_interval

PARTS = ("quality", "survivors", "speed")
SPACY, SCENE_GRAPHS = "spaCy alone", "SceneGraphParser"
AIMS = {SPACY: 0.7, SCENE_GRAPHS: 4.0}
"""What rules may cost beside the parser; what is to be gained over one caption at a time."""


def main() -> None:
    """Measure what was asked for; each part replaces its own tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--labels", default="dev", help="which half of the labelled captions")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--captions", type=int, default=800, help="of each length, for the speed")
    parser.add_argument("--cache", type=Path, default=CACHE)
    arguments = parser.parse_args()
    if not set(arguments.parts) <= set(PARTS):
        parser.error(f"there are the parts {', '.join(PARTS)}, not {' '.join(arguments.parts)}")
    if "quality" in arguments.parts:
        write_table("captions", quality(arguments.labels))
    if "survivors" in arguments.parts:
        write_table("captions", survivors(captions_by_source(arguments.cache)))
    if "speed" in arguments.parts:
        sources = captions_by_source(arguments.cache)
        write_table("captions", speed(sources, rounds=arguments.rounds, count=arguments.captions))


def quality(labels: str) -> Table:
    """Agreement of every peer with the labels, of all captions and of the English ones."""
    records = labelled(labels)
    wanted = [Reading(bool(r["actions"]), r["complexity"], not r["foreign"]) for r in records]
    data = []
    for name, read in readers().items():
        found = read([record["caption"] for record in records])
        for which in ("all", "English"):
            pairs = [
                (label, reading)
                for label, reading in zip(wanted, found, strict=True)
                if label.english or which == "all"
            ]
            data.append({"peer": name, "captions": which, "n": len(pairs)} | agreement(pairs))
    digest = hashlib.sha256((LABELS / f"{labels}.jsonl").read_bytes()).hexdigest()[:16]
    columns = tuple(data[0])
    return Table(
        title=f"Agreement with the {labels} labels",
        columns=columns,
        rows=[tuple(_cell(record[column], record["n"]) for column in columns) for record in data],
        data=data,
        notes=facts() | {"labels": digest, "brackets": "95 % interval (Wilson)"},
    )


def agreement(pairs: Sequence[tuple[Reading, Reading]]) -> dict[str, float]:
    """Shares of captions of which label and reading say the same."""
    same = {
        "action": [a.has_action == b.has_action for a, b in pairs],
        "exact complexity": [a.complexity == b.complexity for a, b in pairs],
        "kept or dropped": [a.is_kept == b.is_kept for a, b in pairs],
    }
    return {name: sum(hits) / len(hits) for name, hits in same.items()}


def survivors(sources: dict[str, list[str]]) -> Table:
    """How many captions of each source the C and A of CAT keep."""
    read, data = winnow_reader(), []
    for name, captions in sources.items():
        if name == DRAWN:
            continue  # drawn to hold every kind of caption, it says nothing of how many there are
        found = read(captions)
        shares = {
            "English": sum(r.english for r in found) / len(found),
            "with an action": sum(r.has_action for r in found) / len(found),
            "kept by C and A": sum(r.is_kept for r in found) / len(found),
        }
        data.append({"source": name, "captions": len(found)} | shares)
    columns = tuple(data[0])
    rows = [tuple(_cell(record[c], record["captions"]) for c in columns) for record in data]
    return Table(
        title="What complexity and action keep",
        columns=columns,
        rows=rows,
        data=data,
        notes=facts() | {"brackets": "95 % interval (Wilson)"},
    )


def speed(sources: dict[str, list[str]], *, rounds: int, count: int) -> Table:
    """Captions in the time of one, ours over the peers', in turns, short and long apart."""
    peers = speed_peers()
    ratios, data, notes = [], [], facts()
    for length, captions in split_by_length(sources).items():
        chosen = sample(captions, count=count)
        runs = {name: partial(run, chosen) for name, run in peers.items()}
        times = alternate(runs, rounds=rounds)
        words = statistics.mean(len(caption.split()) for caption in chosen)
        notes[f"{length} captions"] = f"{len(chosen)} of {words:.1f} words in the mean"
        for name, seconds in times.items():
            rate = len(chosen) / statistics.median(seconds)
            notes[f"{name}, {length} captions/s per core"] = round(rate, 1)
        for peer in (name for name in AIMS if name in peers):
            ratio = ratio_of(
                times,
                claim=f"caption to graph, {length} captions",
                ours="winnow",
                theirs=peer,
                aim=AIMS[peer],
            )
            ratios.append(ratio)
            rate = {"seconds per caption": statistics.median(times["winnow"]) / len(chosen)}
            data.append(asdict(ratio) | {"verdict": ratio.verdict, "length": length} | rate)
    if SCENE_GRAPHS not in peers:
        notes[SCENE_GRAPHS] = f"not installed here, not measured: {HOW_TO_INSTALL}"
    return Table(
        title="Speed", columns=RATIO_COLUMNS, rows=ratio_rows(ratios), data=data, notes=notes
    )


def speed_peers() -> dict[str, Callable[[Sequence[str]], None]]:
    """From captions to graphs (or to what spaCy alone makes of them), by name."""
    parser, nlp = Parser(), bare_pipeline()

    def winnow(captions: Sequence[str]) -> None:
        parser._known.clear()  # what it remembers of the round before would be no work
        assert sum(1 for _ in parser.graphs(captions)) == len(captions)

    def spacy_alone(captions: Sequence[str]) -> None:
        assert sum(1 for _ in nlp.pipe(captions, batch_size=128)) == len(captions)

    peers: dict[str, Callable[[Sequence[str]], None]] = {"winnow": winnow, SPACY: spacy_alone}
    scene_graphs = scene_graph_parser()
    if scene_graphs is not None:
        peers[SCENE_GRAPHS] = lambda captions: [scene_graphs.parse(c) for c in captions]
    return peers


def facts() -> dict[str, object]:
    """What every table here was made with."""
    import spacy

    name = installed_pipeline(None)
    return {"parser": f"spaCy {spacy.__version__}, {name}", "threads": 1}


def _cell(value: object, n: int) -> str:
    if not isinstance(value, float):
        return str(value)
    low, high = wilson_interval(value, n)
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
