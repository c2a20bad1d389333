"""Pairs of one colour each, in real tars, and a model that sees and reads nothing but colours."""

import io
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path

import hostile
import torch
from PIL import Image

from winnow.curation.annotate import annotate
from winnow.curation.rules.caption_length import CaptionLength
from winnow.curation.rules.caption_url import CaptionUrl
from winnow.curation.select import select
from winnow.data.folder import Folder
from winnow.data.sources import open_source
from winnow.evaluation.embed import Embedder
from winnow.explore.answers import Explorer
from winnow.explore.pairs import read_pairs
from winnow.types import View

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 220),
    "yellow": (220, 220, 20),
    "violet": (200, 20, 200),
    "cyan": (20, 200, 200),
}
HOSTILE = f"{hostile.HOSTILE} cyan \u202e"
PAIRS = [
    ("p00", "red", "a red square"),
    ("p01", "green", "a green square"),
    ("p02", "blue", "a blue square"),
    ("p03", "yellow", "a yellow square"),
    ("p04", "red", "a cyan square"),  # swapped
    ("p05", "red", "a red square"),
    ("p06", "violet", "https://example.com/violet"),  # dropped: an address
    ("p07", "cyan", HOSTILE),
    ("q08", "blue", "blue"),  # dropped: one word
]
"""(key, what is shown, caption), in ledger order; another pair, q09, cannot be read."""
RULES = (CaptionLength(min_words=2, min_characters=3), CaptionUrl())


class ColourEncoder:
    """Maps a picture to its mean colour, and a text to that of the colour it names, if any."""

    name = "colour"
    fingerprint = "c0104a"
    precision = "fp32"
    view = View(8)
    logit_scale = 100.0

    def __init__(self):
        self.pictures = self.texts = 0

    def encode_image(self, image_BCHW):
        self.pictures += len(image_BCHW)
        return image_BCHW.float().mean(dim=(2, 3)) - 110

    def encode_text(self, texts):
        self.texts += len(texts)
        named = [next((c for name, c in COLOURS.items() if name in text), None) for text in texts]
        features = [(0.0,) * 3 if one is None else [part - 110 for part in one] for one in named]
        return torch.tensor(features, dtype=torch.float32)


def shade(number, colour=None):
    """The colour of a pair's picture: its own, a little off, so that no two pictures are alike."""
    own = COLOURS[colour or PAIRS[number][1]]
    return tuple(min(255, part + number * step) for part, step in zip(own, (1, 2, 3), strict=True))


def picture(rgb, *, kind="PNG", size=(24, 16)):
    file = io.BytesIO()
    Image.new("RGB", size, rgb).save(file, kind)
    return file.getvalue()


def write_shards(folder, *, pairs=PAIRS):
    """Two tars: five pairs, and the other four with one that cannot be read."""
    folder.mkdir(parents=True)
    members = [
        (key, picture(shade(i, colour)), text) for i, (key, colour, text) in enumerate(pairs)
    ]
    members.append(("q09", b"<html>no picture</html>", "a red page"))
    for number, own in enumerate((members[:5], members[5:])):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as archive:
            for key, data, text in own:
                for name, payload in ((f"{key}.png", data), (f"{key}.txt", text.encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(payload)
                    archive.addfile(member, io.BytesIO(payload))
    return folder


def curate(shards, out):
    """A ledger with two selections: `words`, and `none`, which keeps everything."""
    annotate(open_source(str(shards)), out, workers=1, max_errors=1.0)
    select(out, RULES, name="words")
    select(out, (), name="none")
    return out


def explorer(curated, cache, *, encoder=None, selection="words", kept_only=False, run=None):
    pairs = read_pairs(Folder.at(curated), selection, kept_only=kept_only, run=run)
    embedder = Embedder(encoder=encoder or ColourEncoder(), cache=cache, batch_size=4)
    return Explorer.of(pairs, embedder)


_SERVING = """
import signal, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from coloured_pairs import explorer
from winnow.explore.server import serve
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a script's background
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
serve(explorer({curated!r}, Path({cache!r})), port=0, ready=lambda one: print(one, flush=True))
"""


@contextmanager
def serving(curated, cache):
    """(Process, address) of a real server over the pairs; ended in the end."""
    script = _SERVING.format(
        here=str(Path(__file__).parent), curated=str(curated), cache=str(cache)
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()
