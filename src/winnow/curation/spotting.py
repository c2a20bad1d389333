"""Text in pictures: lines with what they say, how sure that is and where they are.

The detector and the recogniser are those of RapidOCR (PP-OCRv4, Chinese and English; the weights
come with the package), one process on one thread. They are called one after the other, not through
RapidOCR's own call, which enlarges every picture to 736 pixels before it looks:

- The detector sees the picture with its longer side cut to `max_side`; its time goes with the area.
- Where it finds nothing, nothing more is done: most pictures end here.
- The recogniser sees what was found at the picture's own resolution, up to READ_SIDE, so that a
  small `max_side` misses small text but does not blur what it finds. It reads line by line: in its
  batches of six, every line is padded to the longest, which doubles the time where words are short
  and makes what is read in one line depend on the others.

Lines that read downwards are turned and read; those that read upwards or upside down are not.
"""

import functools
import hashlib
import importlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from winnow.data.images import ImageError, decode_rgb
from winnow.types import InputError

CODE_VERSION = 1
"""To be raised with any change that gives the same picture other lines."""

READ_SIDE = 2000
"""Longer side in pixels that lines are read at; RapidOCR's own limit."""

PACKAGE = "rapidocr-onnxruntime"
_STRIDE = 32  # the detector's input is a multiple of it
_LEAST_HEIGHT = 8  # pixels; a picture that is lower or narrower holds no legible line
_LEAST_LINE_WIDTH = 96  # pixels at a height of 48; shorter lines are padded to it


class SpottedLine(NamedTuple):
    """A line of text in a picture."""

    text: str
    confidence: float
    """0 to 1: the mean probability of its characters."""
    box: tuple[int, ...]
    """x and y of four corners in pixels of the picture, clockwise from the top left."""


class SpottingError(Exception):
    """A picture in which no text could be looked for."""


def open_spotter(*, max_side: int) -> Callable[[bytes], list[SpottedLine]]:
    """The function from an encoded picture to its lines, from top to bottom; loads the models.

    It raises SpottingError. Raises InputError where the package is missing or cannot be loaded.
    """
    package = _load_package()
    import cv2

    # It would start a thread per core in every worker process.
    cv2.setNumThreads(1)
    # "max" keeps it from enlarging; pictures come to it in the size they are to be looked at.
    engine = package.RapidOCR(
        det_limit_type="max", use_cls=False, intra_op_num_threads=1, inter_op_num_threads=1
    )
    # The recogniser's own errors derive from Exception itself.
    failures = (
        *(ImageError, ArithmeticError, LookupError, MemoryError, RuntimeError, ValueError),
        *(
            cv2.error,
            importlib.import_module(f"{package.__name__}.utils.infer_engine").ONNXRuntimeError,
        ),
    )

    def spot(data: bytes) -> list[SpottedLine]:
        try:
            return _spot(engine, data, max_side)
        except failures as error:
            raise SpottingError(" ".join(str(error).split()) or type(error).__name__) from error

    return spot


def spotter_identity(*, max_side: int) -> str:
    """What decides the lines: this code, its settings, the package and hashes of its weights.

    Raises InputError where the package is missing or cannot be loaded.
    """
    _load_package()
    facts = {
        "code": CODE_VERSION,
        "max_side": max_side,
        "read_side": READ_SIDE,
        PACKAGE: version(PACKAGE),
        "weights": _weights(),
    }
    return json.dumps(facts, sort_keys=True)


def _load_package() -> Any:
    try:
        return importlib.import_module("rapidocr_onnxruntime")
    except ModuleNotFoundError as error:
        raise InputError(
            f"text-spotting needs {error.name}, which is not installed: pip install {PACKAGE}"
        ) from error
    except ImportError as error:
        raise InputError(
            f"text-spotting cannot load OpenCV ({error}): "
            "pip uninstall opencv-python, then pip install opencv-python-headless"
        ) from error


@functools.cache
def _weights() -> dict[str, str]:
    """sha256 of every onnx file of the package, by file name."""
    folder = Path(_load_package().__file__).parent / "models"
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.onnx"))
    }


def _spot(engine: Any, data: bytes, max_side: int) -> list[SpottedLine]:
    image = decode_rgb(data, longest=READ_SIDE)
    height, width = image.pixels.shape[:2]
    if min(height, width) < _LEAST_HEIGHT:
        return []
    boxes_B42 = _detect(engine, image.pixels, max_side)
    if not len(boxes_B42):
        return []
    bgr_HWC = np.ascontiguousarray(image.pixels[:, :, ::-1])
    crops = engine.get_crop_img_list(bgr_HWC, boxes_B42)
    readings, _ = engine.text_rec(crops)
    own_B42 = boxes_B42 * [image.width / width, image.height / height]
    return [
        SpottedLine(text, float(confidence), tuple(box_42.round().astype(int).ravel().tolist()))
        for box_42, (text, confidence, *_) in zip(own_B42, readings, strict=True)
        if text
    ]


def _detect(engine: Any, pixels_HWC: np.ndarray, max_side: int) -> np.ndarray:
    """float32 (boxes, 4, 2): x and y in pixels of the given picture, from top to bottom."""
    height, width = pixels_HWC.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = _rounded(width * scale), _rounded(height * scale)
    small = Image.fromarray(pixels_HWC).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    bgr_HWC = np.ascontiguousarray(np.asarray(small)[:, :, ::-1])
    found, _ = engine.text_det(bgr_HWC)
    if found is None or not len(found):
        return np.empty((0, 4, 2), dtype=np.float32)
    boxes_B42 = np.stack(engine.sorted_boxes(found))
    return (boxes_B42 * [width / size[0], height / size[1]]).astype(np.float32)


def _rounded(side: float) -> int:
    """The multiple of the detector's stride next to `side`."""
    return max(_STRIDE, round(side / _STRIDE) * _STRIDE)
