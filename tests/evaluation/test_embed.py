import numpy as np
import pytest
import torch
from colour_tasks import COLOURS, ColourEncoder, sample, write_task

from winnow.data.images import View
from winnow.evaluation import embed as embed_module
from winnow.evaluation.embed import Embedder
from winnow.evaluation.sets import open_set
from winnow.models.encoder import Encoder
from winnow.types import InputError


def embedder(cache, encoder=None, **options):
    return Embedder(encoder=encoder or ColourEncoder(), cache=cache, **options)


def test_features_are_those_of_the_model_in_the_set_s_order(colours, tmp_path):
    features = embedder(tmp_path, batch_size=4).images(open_set(colours))
    shown = [list(COLOURS.values())[i // 3] if i < 19 else COLOURS["red"] for i in range(21)]
    np.testing.assert_allclose(features.image_ND, np.array(shown) - 110.0)
    assert features.hidden_NH is features.image_ND
    assert features.samples.keys == tuple(f"p{i:02}" for i in range(21))
    assert features.samples.label_N.tolist() == [i // 3 for i in range(21)]
    assert features.samples.captions.texts == tuple(f"all {name}" for name in COLOURS)
    assert features.samples.captions.pair_P2.tolist() == [[i, i // 3] for i in range(21)]
    assert isinstance(features.image_ND, np.memmap)


def test_both_stages_are_kept_where_a_model_has_two(colours, tmp_path):
    class Two(ColourEncoder):
        def encode_image_stages(self, image_BCHW):
            projected_BD = self.encode_image(image_BCHW)
            return torch.cat([projected_BD, projected_BD + 1], dim=1), projected_BD

    features = embedder(tmp_path, Two()).images(open_set(colours))
    assert features.hidden_NH.shape == (21, 6)
    np.testing.assert_array_equal(features.hidden_NH[:, :3], features.image_ND)
    np.testing.assert_array_equal(features.hidden_NH[:, 3:], features.image_ND + 1)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_neither_batches_nor_parts_change_anything(colours, tmp_path, monkeypatch, batch_size):
    opened = open_set(colours)
    whole = embedder(tmp_path / "whole").images(opened)
    monkeypatch.setattr(embed_module, "PICTURES_A_PART", 6)
    parts = embedder(tmp_path / "parts", batch_size=batch_size).images(opened)
    np.testing.assert_array_equal(parts.image_ND, whole.image_ND)
    assert parts.samples.table == whole.samples.table


def test_the_prompt_ensemble_is_the_normalized_mean_of_normalized_prompts(tmp_path, monkeypatch):
    texts = {"a cat": [3.0, 4.0], "the cat": [0.0, 9.0], "a dog": [1.0, 0.0], "the dog": [0.0, 2.0]}

    class Lookup(ColourEncoder):
        def encode_text(self, names):
            return torch.tensor([texts[name] for name in names])

    monkeypatch.setattr(embed_module, "CLASSES_A_PART", 1)
    ensemble = embedder(tmp_path, Lookup(), batch_size=3).classes(
        ["cat", "dog"], ("a {c}", "the {c}")
    )
    cat = np.array([0.6 + 0.0, 0.8 + 1.0])
    np.testing.assert_allclose(ensemble[0], cat / np.linalg.norm(cat), rtol=1e-6)
    np.testing.assert_allclose(ensemble[1], [0.5**0.5, 0.5**0.5], rtol=1e-6)


def test_texts_are_embedded_once_in_their_order(tmp_path):
    asked = []

    class Remembering(ColourEncoder):
        def encode_text(self, texts):
            asked.extend(texts)
            return super().encode_text(texts)

    names = ["red", "blue", "a red thing"]
    for _ in range(2):
        features = embedder(tmp_path, Remembering(), batch_size=2).texts(names, what="names")
    expected = np.array([COLOURS[name] for name in ("red", "blue", "red")]) - 110.0
    np.testing.assert_allclose(features, expected)
    assert asked == names


def test_a_set_is_embedded_once(colours, tmp_path):
    encoder = ColourEncoder()
    for _ in range(2):
        embedder(tmp_path, encoder).images(open_set(colours))
    assert encoder.calls == 1


@pytest.mark.parametrize("change", ["model", "set", "precision", "view"])
def test_whatever_the_features_depend_on_embeds_anew(colours, tmp_path, change):
    encoder = ColourEncoder()
    embedder(tmp_path, encoder).images(open_set(colours))
    if change == "model":
        encoder.fingerprint = "another"
    if change == "precision":
        encoder.precision = "bf16"
    if change == "view":
        encoder.view = View(8, "squash")
    if change == "set":
        write_task(colours, [sample("a", "red"), sample("b", "red")])
    embedder(tmp_path, encoder).images(open_set(colours))
    assert encoder.calls == 2


def test_other_prompts_embed_no_picture_anew(colours, tmp_path):
    encoder = ColourEncoder()
    embedder(tmp_path, encoder).images(open_set(colours))
    (colours / "zeroshot_classification_templates.txt").write_text("{c}!\n")
    (colours / "classnames.txt").write_text("\n".join(reversed(COLOURS)) + "\n")
    embedder(tmp_path, encoder).images(open_set(colours))
    assert encoder.calls == 1


def test_a_killed_embedding_goes_on_after_its_last_part(colours, tmp_path, monkeypatch):
    class Killed(ColourEncoder):
        def encode_image(self, image_BCHW):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().encode_image(image_BCHW)

    monkeypatch.setattr(embed_module, "PICTURES_A_PART", 6)
    opened = open_set(colours)
    with pytest.raises(KeyboardInterrupt):
        embedder(tmp_path, Killed()).images(opened)
    encoder = ColourEncoder()
    features = embedder(tmp_path, encoder).images(opened)
    assert encoder.calls == 2  # of four parts
    fresh = embedder(tmp_path / "fresh").images(opened)
    np.testing.assert_array_equal(features.image_ND, fresh.image_ND)
    assert features.samples.keys == fresh.samples.keys


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    members = [*sample("a", "red"), ("b.png", sample("b", "red")[0][1][:40]), ("b.cls", b"0")]
    opened = open_set(write_task(tmp_path / "task", [members]))
    with pytest.raises(InputError, match="sample b has a picture that cannot be read"):
        embedder(tmp_path / "cache").images(opened)


def test_a_model_that_gives_nan_is_refused(colours, tmp_path):
    class Broken(ColourEncoder):
        def encode_image(self, image_BCHW):
            return torch.full((len(image_BCHW), 3), torch.nan)

    with pytest.raises(InputError, match="not finite for pictures p00 to p20"):
        embedder(tmp_path, Broken()).images(open_set(colours))


def test_damaged_features_say_what_to_delete(colours, tmp_path):
    opened = open_set(colours)
    embedder(tmp_path).images(opened)
    (facts,) = (tmp_path / "images").glob("*/facts.json")
    facts.write_text('{"shapes": ')
    with pytest.raises(InputError, match=r"facts\.json cannot be read as json"):
        embedder(tmp_path).images(opened)


def test_a_model_that_is_trained_on_is_embedded_anew_under_the_same_encoder(colours, tmp_path):
    model = torch.nn.Module()
    model.scale = torch.nn.Parameter(torch.ones(()))
    model.encode_image = lambda image_BCHW: image_BCHW.mean(dim=(2, 3)) * model.scale
    model.encode_text = lambda tokens: tokens * model.scale
    half = (0.5, 0.5, 0.5)
    encoder = Encoder.around(
        *(model, lambda texts: torch.ones(len(texts), 3)),
        view=View(8),
        mean=half,
        std=half,
        name="trained",
    )
    used, opened = embedder(tmp_path, encoder), open_set(colours)
    first = np.array(used.images(opened).image_ND), np.array(used.texts(["a"], what="words"))
    with torch.no_grad():
        model.scale.fill_(-3)
    second = used.images(opened).image_ND, used.texts(["a"], what="words")
    for before, after in zip(first, second, strict=True):
        np.testing.assert_allclose(after, -3 * before, rtol=1e-6)
