"""Text in real pictures: drawings that packages hold, with words drawn over them, and without."""

import importlib
import io
import json
import subprocess
import sys

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageFont

from winnow.curation import spotting
from winnow.curation.annotators.spotting import SPOTTED, SpotText
from winnow.curation.spotting import SpottingError, open_spotter, spotter_identity
from winnow.data.images import decode_rgb
from winnow.data.packaged.raster import rasterise
from winnow.data.packaged.vendors import twemoji_drawings
from winnow.types import InputError

FONT = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"


@pytest.fixture(scope="module")
def spot():
    return open_spotter(max_side=640)


@pytest.fixture(scope="module")
def drawing():
    """Twemoji's red apple, 320 pixels square."""
    (apple,) = (one for one in twemoji_drawings() if one.name == "red apple")
    png = rasterise(apple, side=72).png
    with Image.open(io.BytesIO(png)) as image:
        return image.convert("RGB").resize((320, 320))


def bytes_of(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def with_text(image, text, *, at=None, size=28, fill="black", tilt=0.0):
    """The words drawn with their middle at `at`, on a white outline, turned against the clock."""
    at = at or (image.width / 2, image.height / 2)
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    font = ImageFont.truetype(FONT, size)
    ImageDraw.Draw(layer).text(at, text, fill, font, "mm", stroke_width=2, stroke_fill="white")
    layer = layer.rotate(tilt, Image.Resampling.BICUBIC, center=at)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def readings(lines):
    return [line.text.strip().lower() for line in lines if line.confidence >= 0.8]


def middle(box):
    return np.asarray(box).reshape(4, 2).mean(axis=0)


def test_words_on_a_drawing_are_read_and_placed(spot, drawing):
    image = with_text(drawing, "Summer Sale", at=(160, 60))
    image = with_text(image, "only today", at=(160, 250))
    lines = [line for line in spot(bytes_of(image, "JPEG")) if line.confidence >= 0.8]
    assert readings(lines) == ["summer sale", "only today"]
    assert middle(lines[0].box) == pytest.approx([160, 60], abs=6)
    assert middle(lines[1].box) == pytest.approx([160, 250], abs=6)
    left, top, right, second, _, bottom, *_ = lines[0].box
    assert left < right
    assert abs(top - second) < 6
    assert top < bottom


def test_a_drawing_without_words_has_none(spot, drawing):
    assert readings(spot(bytes_of(drawing))) == []


def test_a_tilted_line_is_read_and_its_box_is_tilted(spot, drawing):
    (line,) = [
        one for one in spot(bytes_of(with_text(drawing, "Summer", tilt=20))) if one.confidence > 0.8
    ]
    assert line.text.strip().lower() == "summer"
    corners = np.asarray(line.box).reshape(4, 2)
    x, y = corners[1] - corners[0]
    assert np.degrees(np.arctan2(-y, x)) == pytest.approx(20, abs=4)


def test_a_line_that_reads_downwards_is_read(spot, drawing):
    turned = with_text(drawing, "Summer Sale").rotate(-90)
    assert readings(spot(bytes_of(turned))) == ["summer sale"]


@pytest.mark.parametrize(("width", "height"), [(2400, 1600), (1200, 60), (90, 400)])
def test_boxes_are_in_pixels_of_the_picture_itself(spot, width, height):
    size = min(width // 8, height - 20)
    image = with_text(Image.new("RGB", (width, height), "#3a7"), "Summer", size=size)
    (line,) = spot(bytes_of(image))
    corners = np.asarray(line.box).reshape(4, 2)
    assert middle(line.box) == pytest.approx([width / 2, height / 2], abs=0.04 * max(width, height))
    text_width = ImageFont.truetype(FONT, size).getlength("Summer")
    assert corners[1, 0] - corners[0, 0] == pytest.approx(text_width, rel=0.3)


def test_small_text_in_a_large_picture_is_read_at_its_own_resolution(spot):
    """Found at 640 pixels, where its letters are nine pixels high; read at 2000."""
    image = with_text(Image.new("RGB", (2000, 1000), "#3a7"), "Summer Sale 2024", size=36)
    assert readings(spot(bytes_of(image))) == ["summer sale 2024"]
    assert readings(open_spotter(max_side=96)(bytes_of(image))) == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_is_reduced_to_the_longest_side_and_knows_its_own(kind):
    ramp = np.linspace(0, 255, 1800).astype(np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (900, 1))] * 3, axis=2))
    found = decode_rgb(bytes_of(image, kind), longest=600)
    assert found.pixels.shape == (300, 600, 3)
    assert (found.width, found.height) == (1800, 900)
    expected = np.linspace(0, 255, 600)[None, :, None]
    assert np.abs(found.pixels - expected).max() < 4
    whole = decode_rgb(bytes_of(image, kind), longest=1800)
    assert whole.pixels.shape == (900, 1800, 3)
    assert np.abs(whole.pixels - ramp[None, :, None].astype(float)).max() < 4


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "empty picture"),
        (b"no picture at all", "unknown picture format"),
        (bytes_of(Image.new("RGB", (64, 64)), "JPEG")[:200], "truncated picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(spot, data, complaint):
    with pytest.raises(SpottingError, match=complaint):
        spot(data)


def test_pictures_that_can_hold_no_line_are_empty(spot):
    assert spot(bytes_of(Image.new("RGB", (3000, 4)))) == []
    assert spot(bytes_of(Image.new("RGB", (1, 1)))) == []


def annotate(annotator, pictures):
    rows = pa.record_batch({"caption": ["a caption"] * len(pictures)})
    return annotator.open()(rows, iter(pictures))


def test_the_annotator_keeps_a_row_for_each_picture(drawing):
    pictures = [bytes_of(with_text(drawing, "Summer Sale")), b"junk", bytes_of(drawing)]
    found = annotate(SpotText(), pictures)
    assert found.schema == pa.schema([("spotted", SPOTTED), ("error", pa.string())])
    text, junk, plain = found.to_pylist()
    assert [line["text"].strip().lower() for line in text["spotted"]] == ["summer sale"]
    assert len(text["spotted"][0]["box"]) == 8
    assert (text["error"], plain["error"]) == (None, None)
    assert junk["spotted"] is None
    assert junk["error"].startswith("spotting failed: unknown picture format")
    assert plain["spotted"] == []


def test_uncertain_lines_are_not_stored(drawing):
    pictures = [bytes_of(with_text(drawing, "Summer Sale"))]
    assert annotate(SpotText(min_confidence_stored=1.0), pictures)["spotted"].to_pylist() == [[]]


def test_a_failure_of_the_models_is_the_row_s(monkeypatch, drawing):
    from rapidocr_onnxruntime.utils.infer_engine import ONNXRuntimeError

    def fail(*_):
        raise ONNXRuntimeError("Traceback:\n  out of\n  luck")

    monkeypatch.setattr(spotting, "_detect", fail)
    found = annotate(SpotText(), [bytes_of(drawing)]).to_pylist()
    assert found == [{"spotted": None, "error": "spotting failed: Traceback: out of luck"}]


def test_the_identity_names_all_that_decides_the_lines(monkeypatch):
    facts = json.loads(spotter_identity(max_side=640))
    assert facts["rapidocr-onnxruntime"] == "1.4.4"
    assert [len(digest) for digest in facts["weights"].values()] == [64, 64, 64]
    identities = {
        SpotText().identity(),
        SpotText(max_side=320).identity(),
        SpotText(min_confidence_stored=0.6).identity(),
    }
    monkeypatch.setattr(spotting, "CODE_VERSION", spotting.CODE_VERSION + 1)
    assert len(identities | {SpotText().identity()}) == 4


def test_opencv_that_cannot_be_loaded_says_which_one_to_install(monkeypatch):
    def fail(name):
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(InputError, match=r"libGL.*pip install opencv-python-headless"):
        SpotText().open()
    with pytest.raises(InputError, match="opencv-python-headless"):
        SpotText().identity()


def test_a_missing_package_is_named(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(InputError, match=r"rapidocr_onnxruntime.*pip install rapidocr-onnxruntime"):
        SpotText().open()


def test_importing_it_loads_no_model():
    """The command line imports it for its settings, and must stay quick."""
    code = (
        "import sys, winnow.curation.annotators.spotting, winnow.curation.rules.text_spotting;"
        "print(sorted({'cv2', 'onnxruntime', 'rapidocr_onnxruntime', 'torch'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


@pytest.mark.parametrize("settings", [{"max_side": 0}, {"min_confidence_stored": 1.5}])
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        SpotText(**settings)
