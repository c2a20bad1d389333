"""Searching 100,000 pairs: the exact search against peers in turns, and whole answers over HTTP.

- in turns: one query against all pictures, and the rows of a page, by `winnow.explore.index`; the
  peers are exact too: scikit-learn's brute-force NearestNeighbors, and faiss' IndexFlatIP where
  faiss is there (`pip install faiss-cpu`). All must give the same rows before anything is timed;
- answers: a process serves as `winnow explore` does, with the text tower of a ViT-B-32 (random
  weights cost what trained ones do); another asks for a page of pairs by a new text each time, and
  for the details of a pair. What the model and the search take of it is told apart. Pictures are
  not in it: the browser asks for them afterwards.

    python benchmarks/explore.py [turns answers] [--pairs 100000] [--rounds 20]
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import torch
from harness import RATIO_COLUMNS, Table, alternate, machine, ratio_of, ratio_rows, write_table

from winnow.explore.index import Index, highest
from winnow.explore.query import PAGE_SIZE

PARTS = ("turns", "answers")
WIDTH, CAPTIONS = 512, 20_000
AIM, AIM_MS = 1.0, 100.0
OURS = "winnow"
COLOURS = ("red", "green", "blue", "yellow", "violet", "cyan", "grey", "white", "black", "pink")
THINGS = ("cat", "dog", "house", "tree", "boat", "car", "cup", "shoe", "bird", "clock")
ASKED = tuple(f"a {colour} {thing}" for colour in COLOURS for thing in THINGS)


def main() -> None:
    """Measure what was asked for; each part replaces its own table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--serve", metavar="CACHE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_random(arguments.pairs, Path(arguments.serve))
        return
    if not set(arguments.parts) <= set(PARTS):
        parser.error(f"there are the parts {', '.join(PARTS)}, not {' '.join(arguments.parts)}")
    if "turns" in arguments.parts:
        write_table("explore", in_turns(arguments.pairs, rounds=arguments.rounds))
    if "answers" in arguments.parts:
        write_table("explore", answers(arguments.pairs))


def in_turns(num_pairs: int, *, rounds: int) -> Table:
    """The ratio to each peer in one process."""
    index = random_index(num_pairs)
    query_D = np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)
    peers = {OURS: partial(ours, index), **peers_of(index.image_ND.numpy())}
    found = {name: search(query_D).tolist() for name, search in peers.items()}
    for name, rows in found.items():
        if rows != found[OURS]:
            raise SystemExit(f"{name} finds other rows: nothing to compare")
    times = alternate({name: partial(run, query_D) for name, run in peers.items()}, rounds=rounds)
    claim = f"{PAGE_SIZE} of {num_pairs:,} x {WIDTH}"
    ratios = [
        ratio_of(times, claim=claim, ours=OURS, theirs=name, aim=AIM)
        for name in peers
        if name != OURS
    ]
    medians = {f"median of {n}": f"{1e3 * statistics.median(t):.1f} ms" for n, t in times.items()}
    return Table(
        title=f"One query in turns, {num_pairs:,} pairs",
        columns=RATIO_COLUMNS,
        rows=ratio_rows(ratios),
        data=[{"seconds": times}],
        notes=machine() | {"threads": torch.get_num_threads()} | medians,
    )


def random_index(num_pairs: int) -> Index:
    """Features of random pictures and captions."""
    random = np.random.default_rng(0)
    image_ND = random.normal(size=(num_pairs, WIDTH)).astype(np.float32)
    caption_MD = random.normal(size=(CAPTIONS, WIDTH)).astype(np.float32)
    return Index.of(image_ND, caption_MD, np.arange(num_pairs) % CAPTIONS)


def ours(index: Index, query_D: np.ndarray) -> np.ndarray:
    """The rows of the first page."""
    return highest(index.cosines(query_D), first=0, count=PAGE_SIZE)


def peers_of(image_ND: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Each with its own copy of the unit features."""
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=PAGE_SIZE, algorithm="brute", metric="cosine")
    neighbours.fit(image_ND)
    peers = {
        "scikit-learn": lambda query_D: neighbours.kneighbors(query_D[None], return_distance=False)[
            0
        ]
    }
    try:
        import faiss
    except ModuleNotFoundError:
        print("faiss is not installed and left out", flush=True)
        return peers
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(image_ND)
    return peers | {"faiss": lambda query_D: flat.search(query_D[None], PAGE_SIZE)[1][0]}


def answers(num_pairs: int) -> Table:
    """Whole answers of a server in another process."""
    with TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--pairs", str(num_pairs), "--serve", cache]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = urlsplit(server.stdout.readline().strip())
            connection = http.client.HTTPConnection(str(address.hostname), address.port)
            try:
                data = measured(connection, num_pairs)
            finally:
                connection.close()
                server.terminate()
    return Table(
        title=f"Whole answers, {num_pairs:,} pairs",
        columns=("answer", "median ms", "95th percentile ms", "asked", "aim ms", "verdict"),
        rows=[row_of(name, of) for name, of in data.items()],
        data=[{"answer": name, "milliseconds": of} for name, of in data.items()],
        notes=machine() | {"threads": torch.get_num_threads(), "text tower": "ViT-B-32, CPU"},
    )


def measured(connection: http.client.HTTPConnection, num_pairs: int) -> dict[str, list[float]]:
    """Milliseconds of every answer, by what was asked."""
    ask(connection, "/pairs?" + urlencode({"text": "the first is slower"}))
    ask(connection, "/pairs/0")
    found: dict[str, list[float]] = {"by text": [], "  its model": [], "  its search": []}
    for text in ASKED:
        spent, answer = ask(connection, "/pairs?" + urlencode({"text": text}))
        found["by text"].append(spent)
        found["  its model"].append(answer["milliseconds"]["model"])
        found["  its search"].append(answer["milliseconds"]["search"])
    rows = np.random.default_rng(2).integers(0, num_pairs, len(ASKED)).tolist()
    found["by picture"] = [ask(connection, f"/pairs?like={row}")[0] for row in rows]
    found["filtered, by text"] = [
        ask(connection, "/pairs?" + urlencode({"text": text, "show": "kept", "order": "cosine"}))[0]
        for text in ASKED
    ]
    found["details of a pair"] = [ask(connection, f"/pairs/{row}")[0] for row in rows]
    return found


def ask(connection: http.client.HTTPConnection, address: str) -> tuple[float, Any]:
    """Milliseconds and the answer."""
    began = time.perf_counter()
    connection.request("GET", address)
    body = connection.getresponse().read()
    return 1e3 * (time.perf_counter() - began), json.loads(body)


def row_of(name: str, milliseconds: list[float]) -> tuple[str, ...]:
    """Parts of an answer have no aim of their own."""
    middle, late = statistics.median(milliseconds), float(np.percentile(milliseconds, 95))
    verdict = "met" if late <= AIM_MS else "missed"
    of = ("", "") if name.startswith(" ") else (f"{AIM_MS:.0f}", verdict)
    return (name.strip(), f"{middle:.1f}", f"{late:.1f}", str(len(milliseconds)), *of)


def serve_random(num_pairs: int, cache: Path) -> None:
    """Serve random features of pairs whose pictures are all one, until stopped."""
    import open_clip

    from winnow.explore.answers import Explorer
    from winnow.explore.server import serve
    from winnow.models.encoder import Encoder
    from winnow.types import View

    encoder = Encoder.around(
        open_clip.create_model("ViT-B-32"),
        open_clip.get_tokenizer("ViT-B-32"),
        view=View(224),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        name="ViT-B-32",
        fingerprint="random",
    )
    explorer = Explorer(
        pairs=random_pairs(num_pairs, cache), index=random_index(num_pairs), encoder=encoder
    )
    serve(explorer, port=0, ready=lambda address: print(address, flush=True))


def random_pairs(num_pairs: int, cache: Path) -> Any:
    """As many rows as asked, of a real ledger of one pair."""
    import io
    import tarfile
    from dataclasses import replace

    import pyarrow as pa
    from PIL import Image

    from winnow.curation.annotate import annotate
    from winnow.curation.select import select
    from winnow.data.folder import Folder
    from winnow.data.sources import open_source
    from winnow.explore.pairs import read_pairs

    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(picture, "PNG")
    with tarfile.open(cache / "0.tar", "w") as archive:
        for name, data in (("0.png", picture.getvalue()), ("0.txt", b"a teal square on a table")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    annotate(open_source(str(cache / "0.tar")), cache / "curated", workers=1)
    select(cache / "curated", (), name="none")
    pairs = read_pairs(Folder.at(cache / "curated"), "none", kept_only=False, run=None)
    table = pa.concat_tables([pairs.table] * num_pairs).combine_chunks()
    captions = pa.array([f"caption number {row % CAPTIONS}" for row in range(num_pairs)])
    place = table.schema.get_field_index("caption")
    return replace(pairs, table=table.set_column(place, "caption", captions))


if __name__ == "__main__":
    main()
