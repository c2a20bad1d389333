"""A small real data set: drawn shapes with captions that a parser takes apart."""

import io
import json
import tarfile

from PIL import Image, ImageDraw

COLOURS = {"red": "#d22", "blue": "#22d", "green": "#2a2", "yellow": "#dd2"}
SHAPES = ("circle", "square", "triangle")


def drawing(colour, shape, *, shift):
    """A png of 48 by 40 pixels."""
    image = Image.new("RGB", (48, 40), "white")
    draw, box = ImageDraw.Draw(image), (6 + shift % 8, 4 + shift // 8, 36 + shift % 8, 34)
    if shape == "circle":
        draw.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        draw.rectangle(box, fill=COLOURS[colour])
    else:
        draw.polygon([(box[0], box[3]), (box[2], box[3]), (22, box[1])], fill=COLOURS[colour])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def things(count):
    """(key, picture, caption), every colour with every shape in turn."""
    for number in range(count):
        colour, shape = list(COLOURS)[number % 4], SHAPES[number % 3]
        picture = drawing(colour, shape, shift=number // 12)
        yield f"{number:04d}", picture, f"a {colour} {shape} on a table"


def write_shards(folder, *, count=96, shards=2, uids=None, suffix=lambda _: ""):
    """Tars of `count` pairs in all.

    `uids` gives some of them, by number, a uid of their own; `suffix` goes behind the thing's name.
    """
    folder.mkdir(parents=True)
    pairs = list(things(count))
    for number in range(shards):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as archive:
            for key, picture, caption in pairs[number::shards]:
                caption = caption.replace(" on", f"{suffix(int(key))} on")
                uid = (uids or {}).get(int(key))
                facts = {"n": key} if uid is None else {"uid": uid}
                members = {"png": picture, "txt": caption.encode(), "json": json.dumps(facts)}
                for extension, data in members.items():
                    data = data.encode() if isinstance(data, str) else data
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return folder
