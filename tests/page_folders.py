"""A curated folder, a task and two runs for pages, small but in the real formats."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hostile import HOSTILE
from PIL import Image

from winnow.curation.verdicts import VERDICT_SCHEMA
from winnow.data.images import View, evaluation_view
from winnow.data.ledger import LEDGER_SCHEMA, make_uid
from winnow.data.selection import write_selection
from winnow.data.sources import open_source
from winnow.evaluation.embed import Embedder
from winnow.evaluation.evaluate import evaluate
from winnow.evaluation.sets import open_set
from winnow.reports.examples import ShownSet

PAIRS = [  # caption, reason, error
    ("a red square", None, None),
    (HOSTILE, None, None),
    ("IMG_1.png", "caption-file-name", None),
    ("IMG_2.png", "caption-file-name: " + HOSTILE, None),
    ("stock", "caption-repeated: over 12 pictures", None),
    ("broken", None, "truncated: " + HOSTILE),
]


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((24, 24), Image.Resampling.NEAREST).save(file, "png")
    return file.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_curation(tmp_path):
    """`basic` over one shard: 2 kept, 2 + 1 dropped, 1 error."""
    members = []
    for number, (caption, _, error) in enumerate(PAIRS):
        picture = png(number)[:60] if error else png(number)
        members += [(f"k{number}.png", picture), (f"k{number}.txt", caption.encode())]
    shard = write_tar(tmp_path / "shards" / "0.tar", members)
    source = open_source(str(shard))
    ledger, verdicts = [], []
    for sample, (caption, reason, error) in zip(source.scan(str(shard)), PAIRS, strict=True):
        uid = make_uid(sample.image or b"", caption, {})
        facts = {"offset": sample.offset, "size": sample.size, "caption": caption, "error": error}
        ledger.append({"uid": uid, "key": sample.key, **facts})
        verdicts.append(
            {"uid": uid, "key": sample.key, "kept": not (reason or error), "error": error}
            | {"reason": reason, "reasons": [reason] if reason else []}
        )
    out = tmp_path / "curated"
    folder = out / "selections" / "basic"
    (folder / "verdicts").mkdir(parents=True)
    (out / "ledger").mkdir()
    pq.write_table(pa.Table.from_pylist(ledger, LEDGER_SCHEMA), out / "ledger/00000.parquet")
    pq.write_table(
        pa.Table.from_pylist(verdicts, VERDICT_SCHEMA), folder / "verdicts/00000.parquet"
    )
    summary = {
        "selection": "basic",
        "seen": 6,
        "kept": 2,
        "errors": 1,
        "errors_by_code": {"truncated": 1},
        "dropped": {"caption-file-name": 2, "caption-repeated": 1, "caption-url": 0},
        "fired": {"caption-file-name": 2, "caption-repeated": 1, "caption-url": 0},
        "only": {"caption-file-name": 2, "caption-repeated": 1, "caption-url": 0},
        "rules": [{"rule": "caption-repeated", "max_pictures": 10}],
        "shards": [str(shard)],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    kept = [row for row, verdict in zip(ledger, verdicts, strict=True) if verdict["kept"]]
    write_selection(folder, [str(shard)], [pa.Table.from_pylist(kept)])
    return folder


class PixelEncoder:
    """Tells pictures apart by their pixels; knows the right text for the first `known` of them."""

    precision = "fp32"
    view = View(24)
    logit_scale = 100.0

    def __init__(self, name: str, known: int):
        self.name = self.fingerprint = name
        self._known = known

    def encode_image(self, image_BCHW):
        return image_BCHW.float().mean(dim=1).flatten(1) - 128

    def encode_text(self, texts):
        numbers = [next(n for n in range(10) if f"c{n} " in text) for text in texts]
        shown = [n if n < self._known else 100 + n for n in numbers]
        views = np.stack([evaluation_view(png(n), view=self.view) for n in shown])
        return self.encode_image(torch.from_numpy(views))


def opener(place):
    """What opens the set at `place` for the page."""

    def open_shown():
        found = open_set(place)
        return ShownSet(classnames=found.classnames, read=found.samples)

    return open_shown


def write_places(tmp_path):
    """Ten pictures of ten classes, one of them with a hostile name and caption."""
    folder = tmp_path / "tasks" / "pixels"
    names = [f"c{n} {HOSTILE if n == 3 else 'thing'}" for n in range(10)]
    members = []
    for number, name in enumerate(names):
        members += [(f"p{number}.png", png(number)), (f"p{number}.cls", b"%d" % number)]
        members += [(f"p{number}.txt", name.encode())]
    write_tar(folder / "test" / "0.tar", members)
    (folder / "test" / "nshards.txt").write_text("1")
    (folder / "classnames.txt").write_text("\n".join(names) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("{c}\n")
    return {"pixels": folder}


def write_runs(tmp_path, places):
    """Two runs; `a` knows 6 of the 10 pictures, `b` all."""
    folders = []
    for name, known in (("a", 6), ("b", 10)):
        run = tmp_path / "runs" / name
        embedder = Embedder(encoder=PixelEncoder(name, known), cache=tmp_path / "cache")
        evaluate(embedder, places, run / "evaluation")
        rows = [
            {"step": 10 * i, "samples": 640 * i, "loss": 5.0 / i, "scale": 14.0 + i}
            | {"samples_per_second": 100.0 * i, "data_wait_share": 0.25}
            for i in range(1, 41)
        ]
        lines = [json.dumps(row) + "\n" for row in rows]
        (run / "metrics.jsonl").write_text("".join(lines) + '{"step": 410, "lo')
        recipe = {"objective": {"kind": "InfoNCE" if name == "a" else HOSTILE}, "batch_size": 64}
        (run / "recipe.json").write_text(json.dumps(recipe))
        folders.append(run)
    return folders
