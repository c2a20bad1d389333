"""Small real tasks on disk, and a model whose right answers are known."""

import io
import tarfile
from pathlib import Path

import torch
from PIL import Image

from winnow.data.images import View

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 220),
    "yellow": (220, 220, 20),
    "violet": (200, 20, 200),
    "cyan": (20, 200, 200),
    "grey": (128, 128, 128),
}


class ColourEncoder:
    """Maps a picture to its mean colour, and a text to that of the colour it names."""

    name = "colour"
    fingerprint = "c0104a"
    precision = "fp32"
    view = View(8)
    logit_scale = 100.0

    def __init__(self):
        self.calls = 0

    def encode_image(self, image_BCHW):
        assert image_BCHW.dtype == torch.uint8
        assert image_BCHW.shape[1:] == (3, 8, 8)
        self.calls += 1
        return image_BCHW.float().mean(dim=(2, 3)) - 110

    def encode_text(self, texts):
        named = [next(rgb for name, rgb in COLOURS.items() if name in text) for text in texts]
        return torch.tensor(named, dtype=torch.float32) - 110


class ConstantEncoder(ColourEncoder):
    """Maps everything to one point."""

    name = "constant"
    fingerprint = "c0257a"

    def encode_image(self, image_BCHW):
        return torch.ones(len(image_BCHW), 3)

    def encode_text(self, texts):
        return torch.ones(len(texts), 3)


def picture(colour: str, *, size: int = 12, suffix: str = "png") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), COLOURS[colour]).save(file, {"jpg": "jpeg"}.get(suffix, suffix))
    return file.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_task(folder: Path, shards: list[list[tuple[str, bytes]]], *, classes=tuple(COLOURS)):
    """A task of `shards`, each a list of (member name, bytes)."""
    for number, members in enumerate(shards):
        write_tar(folder / "test" / f"{number}.tar", members)
    (folder / "test" / "nshards.txt").write_text(f"{len(shards)}\n")
    if classes:
        (folder / "classnames.txt").write_text("\n".join(classes) + "\n")
        templates = folder / "zeroshot_classification_templates.txt"
        templates.write_text("a picture of {c}.\n{c}\n")
    return folder


def sample(key: str, shown: str, *, label: str | None = None, caption: str | None = None):
    """Members of one sample that shows the colour `shown`."""
    label = label or shown
    members = [(f"{key}.png", picture(shown)), (f"{key}.cls", b"%d" % list(COLOURS).index(label))]
    return members + ([(f"{key}.txt", caption.encode())] if caption else [])
