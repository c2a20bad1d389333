import io
import pickle

import numpy as np
import open_clip
import pytest
import torch
from curation_samples import ledger_rows
from PIL import Image

from winnow.curation.annotators.clip_score import ClipScore
from winnow.models import CustomTowers, TextTransformer, VisionTransformer
from winnow.models.towers import Towers
from winnow.types import InputError

SMALL = CustomTowers(
    embed_dim=16,
    image=VisionTransformer(image_size=32, patch_size=8, width=32, head_width=16, layers=1),
    text=TextTransformer(context_length=12, width=32, heads=2, layers=1),
)
CAPTIONS = [
    "a red apple",
    "",
    "two dogs in the snow",
    "\0 " + "word " * 100,
    "кошка",
    "a red apple",
]


def save(directory, seed):
    torch.manual_seed(seed)
    Towers(SMALL).eval().export(directory / "model")
    return str(directory)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("run"), 0)


def pictures(count, *, width=32, height=32):
    random = np.random.default_rng(count)
    for _ in range(count):
        file = io.BytesIO()
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "png")
        yield file.getvalue()


def score(annotator, captions, images):
    return annotator.open()(ledger_rows(*({"caption": c} for c in captions)), images)


def test_the_score_is_open_clip_s_cosine(model):
    found = score(ClipScore(model=model, batch_size=4), CAPTIONS, pictures(len(CAPTIONS)))
    assert found.schema.names == ["clip_score", "error"]
    assert found["error"].null_count == len(CAPTIONS)
    clip, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{model}/model")
    tokens = open_clip.get_tokenizer(f"local-dir:{model}/model")(CAPTIONS)
    clip = clip.double().eval()
    for row, image in enumerate(pictures(len(CAPTIONS))):
        # Of the model's own size: nothing is resized, so both see the same pixels.
        view = preprocess(Image.open(io.BytesIO(image))).double()
        with torch.no_grad():
            x, t = clip.encode_image(view[None])[0], clip.encode_text(tokens[row : row + 1])[0]
        literal = sum(a * b for a, b in zip(x.tolist(), t.tolist(), strict=True))
        literal /= sum(a * a for a in x.tolist()) ** 0.5 * sum(b * b for b in t.tolist()) ** 0.5
        assert found["clip_score"][row].as_py() == pytest.approx(literal, abs=2e-6)
    assert len(set(found["clip_score"].to_pylist())) == len(CAPTIONS)


def test_the_batch_size_changes_nothing(model):
    captions = [f"caption number {n}" for n in range(23)]
    images = list(pictures(23, width=50, height=41))
    images[7], images[8] = b"this is no picture", images[8][:200]
    alike = [
        score(ClipScore(model=model, batch_size=size), captions, images) for size in (1, 2, 7, 100)
    ]
    one = np.array(alike[0]["clip_score"].to_pylist(), dtype=float)
    for other in alike[1:]:
        other_scores = np.array(other["clip_score"].to_pylist(), dtype=float)
        np.testing.assert_allclose(other_scores, one, rtol=0, atol=1e-6)
        assert other["error"].equals(alike[0]["error"])


def test_a_bad_picture_is_an_error_of_its_row(model):
    good = next(pictures(1))
    for size in (1, 2, 10):
        annotator = ClipScore(model=model, batch_size=size)
        found = score(annotator, ["a", "b", "c", "d"], iter([good, b"no", b"", good[:99]]))
        assert found["clip_score"].is_null().to_pylist() == [False, True, True, True]
        codes = [error and error.partition(":")[0] for error in found["error"].to_pylist()]
        assert codes == [None, "unknown picture format", "empty picture", "truncated picture"]
    assert score(ClipScore(model=model), [], iter(())).num_rows == 0


def test_features_that_are_not_finite_are_no_score(tmp_path):
    torch.manual_seed(0)
    towers = Towers(SMALL).eval()
    with torch.no_grad():
        towers.clip.token_embedding.weight[320] = torch.nan  # of the word "a"
    towers.export(tmp_path / "model")
    annotator = ClipScore(model=str(tmp_path))
    found = score(annotator, ["a", "dog"], pictures(2))
    assert found["clip_score"].is_null().to_pylist() == [True, False]
    assert found["error"].to_pylist() == ["score not finite: the model gives nan", None]


def test_the_identity_is_that_of_the_weights(model, tmp_path):
    first = ClipScore(model=model)
    identity = first.identity()
    assert ClipScore(model=model, batch_size=3, device="cpu").identity() == identity
    assert ClipScore(model=save(tmp_path, 1)).identity() != identity
    assert ClipScore(model=f"local-dir:{model}/model").identity() == identity
    # A worker is told instead of hashing the weights again.
    assert identity.split()[-1] in pickle.dumps(first).decode("latin-1")


def test_what_cannot_score_is_refused(model, tmp_path):
    with pytest.raises(InputError, match="neither the folder of a run"):
        ClipScore(model=str(tmp_path / "none")).identity()
    with pytest.raises(InputError, match="cannot be used here"):
        ClipScore(model=model, device="no-such-device").open()
    with pytest.raises(InputError, match="give 1 or more"):
        ClipScore(model=model, batch_size=0)
