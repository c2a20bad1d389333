"""COCO and Flickr30k captions as Karpathy split them: one json that lists pictures and captions.

    FOLDER/dataset_coco.json   {"images": [{"filename", "filepath"?, "split",
                                            "sentences": [{"raw"}]}]}
    FOLDER/images/...          the pictures, or beside the json; in `filepath` where it is given

Splits are train, val and test; `restval` belongs to train. Of each picture the first five captions
are taken, as CLIP's evaluations do; all, where there are fewer.

In a folder, a json under a published name is one of these, however broken; another `dataset_*.json`
is where it has the word "images", and any other json where it has "images" and "sentences".

Source: Karpathy and Fei-Fei 2015 (arXiv 1412.2306), its files dataset_coco.json and
dataset_flickr30k.json.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from winnow.data.files import mendable
from winnow.evaluation.sets.contents import Contents, Sample, Splits
from winnow.evaluation.sets.text_files import inside, read_picture, read_text
from winnow.types import InputError

CAPTIONS_PER_PICTURE = 5
_PUBLISHED = ("dataset_coco.json", "dataset_flickr8k.json", "dataset_flickr30k.json")
_KEPT = ("images", "filename", "filepath", "split", "sentences")
_BLOCK_BYTES = 1 << 20


class _Image(NamedTuple):
    key: str
    """`filepath` and `filename`."""
    filename: str
    captions: tuple[str, ...]


def splits(path: Path) -> Splits:
    """Those that the json names. Raises InputError where it is broken, or there are several."""
    listed = _find(path)
    if listed is None:
        return {}
    by_split: dict[str, list[_Image]] = defaultdict(list)
    for split, image in _parse(listed):
        by_split["train" if split == "restval" else split].append(image)
    if not by_split:
        raise InputError(f"{listed} lists no picture")
    return {split: partial(_open, listed, tuple(by_split[split])) for split in sorted(by_split)}


def _find(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix == ".json" else None
    listed = [file for file in sorted(path.glob("*.json")) if _lists_sentences(file)]
    if len(listed) > 1:
        names = ", ".join(file.name for file in listed)
        raise InputError(f"{path} holds {len(listed)} lists of captions ({names}): name one")
    return listed[0] if listed else None


def _lists_sentences(path: Path) -> bool:
    """Whether a json is one of these, without parsing it: a list that is cut is one too."""
    if path.name in _PUBLISHED:
        return True
    missing, tail = {b'"images"', b'"sentences"'}, b""
    if path.name.startswith("dataset_"):
        missing.remove(b'"sentences"')
    with mendable(str(path)), path.open("rb") as file:
        while missing and (block := file.read(_BLOCK_BYTES)):
            missing = {word for word in missing if word not in tail + block}
            tail = block[-len(b'"sentences"') :]
    return not missing


def _parse(path: Path) -> Iterator[tuple[str, _Image]]:
    try:
        parsed = json.loads(read_text(path), object_hook=_kept)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno} is no json: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path} is no list of captions: it is nested too deeply") from error
    images = parsed.get("images") if isinstance(parsed, dict) else None
    if not isinstance(images, list):
        raise InputError(f'{path} is no list of captions: it has no list "images"')
    for number, image in enumerate(images, start=1):
        yield _image(image, where=f"{path}, image {number}")


def _kept(values: dict[str, Any]) -> Any:
    """One object of the json, without what is not read: the tokens alone are most of a file."""
    return values["raw"] if "raw" in values else {n: values[n] for n in _KEPT if n in values}


def _image(values: Any, *, where: str) -> tuple[str, _Image]:
    known = values if isinstance(values, dict) else {}
    folder, sentences = known.get("filepath", ""), known.get("sentences")
    for name in ("filename", "split"):
        if not isinstance(known.get(name), str) or not known[name]:
            raise InputError(f'{where} has no "{name}"')
    if not isinstance(folder, str):
        raise InputError(f'{where} has a "filepath" that is no text')
    if not isinstance(sentences, list) or not all(isinstance(text, str) for text in sentences):
        raise InputError(f'{where} has no list "sentences" of objects with their text in "raw"')
    filename = inside(known["filename"], where=where)
    key = inside(f"{folder}/{filename}" if folder else filename, where=where)
    captions = tuple(text.strip() for text in sentences if text.strip())[:CAPTIONS_PER_PICTURE]
    return known["split"], _Image(key, filename, captions)


def _open(listed: Path, images: tuple[_Image, ...]) -> Contents:
    places = [_place(listed.parent, image) for image in images]
    missing = [image.key for image, place in zip(images, places, strict=True) if place is None]
    if missing:
        raise InputError(
            f"{listed} names the picture {missing[0]}, which is neither in "
            f"{listed.parent / 'images'} nor beside the json ({len(missing)} of {len(images)} "
            "pictures are missing): put them there"
        )
    found = tuple(place for place in places if place is not None)
    return Contents(
        folder=listed.parent,
        files=(str(listed), *found),
        read=partial(_read, listed, images, found),
        num_samples=len(images),
    )


def _place(folder: Path, image: _Image) -> str | None:
    names = dict.fromkeys((image.key, image.filename))
    places = (place / name for place in (folder / "images", folder) for name in names)
    return next((str(place) for place in places if place.is_file()), None)


def _read(listed: Path, images: tuple[_Image, ...], places: tuple[str, ...]) -> Iterator[Sample]:
    for image, place in zip(images, places, strict=True):
        data = read_picture(place, where=str(listed))
        yield Sample(image.key, data, captions=image.captions)
