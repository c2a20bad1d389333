import json

import numpy as np
import pytest
import torch
from colour_tasks import COLOURS, ColourEncoder, sample, write_task

from winnow.evaluation.embed import embed, prompt_ensemble
from winnow.evaluation.tasks import Task
from winnow.types import InputError


def test_features_are_those_of_the_model_in_the_task_s_order(colours, tmp_path):
    task = Task.open(colours)
    features = embed(ColourEncoder(), task, cache=tmp_path / "cache", batch_size=4)
    shown = [list(COLOURS.values())[i // 3] if i < 19 else COLOURS["red"] for i in range(21)]
    np.testing.assert_allclose(features.image_ND, np.array(shown) - 110.0)
    assert features.keys == tuple(f"p{i:02}" for i in range(21))
    assert features.label_N.tolist() == [i // 3 for i in range(21)]
    assert features.captions == tuple(f"all {name}" for name in COLOURS)
    assert features.pair_P2.tolist() == [[i, i // 3] for i in range(21)]
    assert isinstance(features.image_ND, np.memmap)


def test_the_batch_size_changes_nothing(colours, tmp_path):
    task = Task.open(colours)
    one = embed(ColourEncoder(), task, cache=tmp_path / "one", batch_size=1)
    all_ = embed(ColourEncoder(), task, cache=tmp_path / "all", batch_size=100)
    for name in ("image_ND", "label_N", "class_KD", "caption_MD", "pair_P2"):
        np.testing.assert_array_equal(getattr(one, name), getattr(all_, name))


def test_the_prompt_ensemble_is_the_normalised_mean_of_normalised_prompts():
    texts = {"a cat": [3.0, 4.0], "the cat": [0.0, 9.0], "a dog": [1.0, 0.0], "the dog": [0.0, 2.0]}

    class Lookup(ColourEncoder):
        def encode_text(self, names):
            return torch.tensor([texts[name] for name in names])

    ensemble = prompt_ensemble(Lookup(), ["cat", "dog"], ("a {c}", "the {c}"), batch_size=3)
    cat = np.array([0.6 + 0.0, 0.8 + 1.0])
    np.testing.assert_allclose(ensemble[0], cat / np.linalg.norm(cat), rtol=1e-6)
    np.testing.assert_allclose(ensemble[1], [0.5**0.5, 0.5**0.5], rtol=1e-6)


def test_a_task_is_embedded_once(colours, tmp_path):
    encoder, task = ColourEncoder(), Task.open(colours)
    embed(encoder, task, cache=tmp_path / "cache")
    embed(encoder, task, cache=tmp_path / "cache")
    assert encoder.calls == 1


@pytest.mark.parametrize("change", ["model", "task", "precision"])
def test_whatever_the_features_depend_on_embeds_anew(colours, tmp_path, change):
    encoder, cache = ColourEncoder(), tmp_path / "cache"
    embed(encoder, Task.open(colours), cache=cache)
    if change == "model":
        encoder.fingerprint = "another"
    if change == "task":
        (colours / "classnames.txt").write_text("\n".join(reversed(COLOURS)) + "\n")
    precision = "bf16" if change == "precision" else "fp32"
    embed(encoder, Task.open(colours), cache=cache, precision=precision)
    assert encoder.calls == 2


def test_an_interrupted_embedding_is_done_again(colours, tmp_path):
    class Interrupted(ColourEncoder):
        def encode_text(self, texts):
            raise KeyboardInterrupt

    encoder, task, cache = ColourEncoder(), Task.open(colours), tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        embed(Interrupted(), task, cache=cache)
    whole = np.array(embed(encoder, task, cache=cache).image_ND)
    assert encoder.calls == 1
    # Killed while writing: arrays are there, one of them torn, and the facts are not.
    folder = next(cache.iterdir())
    (folder / "facts.json").unlink()
    (folder / "image_ND.npy").write_bytes((folder / "image_ND.npy").read_bytes()[:150])
    again = embed(encoder, task, cache=cache)
    assert encoder.calls == 2
    np.testing.assert_array_equal(again.image_ND, whole)


def test_the_cache_says_what_it_depends_on(colours, tmp_path):
    task = Task.open(colours)
    embed(ColourEncoder(), task, cache=tmp_path / "cache")
    facts = json.loads(next((tmp_path / "cache").glob("*/facts.json")).read_text())
    assert (facts["model"], facts["task"]) == ("c0104a", task.fingerprint)
    assert (facts["image_size"], facts["precision"]) == (8, "fp32")


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    members = [*sample("a", "red"), ("b.png", sample("b", "red")[0][1][:40]), ("b.cls", b"0")]
    task = Task.open(write_task(tmp_path / "task", [members]))
    with pytest.raises(InputError, match="sample b has a picture that cannot be read"):
        embed(ColourEncoder(), task, cache=tmp_path / "cache")


def test_a_model_that_gives_nan_is_refused(colours, tmp_path):
    class Broken(ColourEncoder):
        def encode_image(self, image_BCHW):
            return torch.full((len(image_BCHW), 3), torch.nan)

    with pytest.raises(InputError, match="not finite for pictures p00 to p20"):
        embed(Broken(), Task.open(colours), cache=tmp_path / "cache")


def test_a_damaged_cache_says_what_to_delete(colours, tmp_path):
    task = Task.open(colours)
    embed(ColourEncoder(), task, cache=tmp_path / "cache")
    (facts,) = (tmp_path / "cache").glob("*/facts.json")
    facts.write_text('{"keys": ')
    with pytest.raises(InputError, match=r"facts\.json cannot be read as json"):
        embed(ColourEncoder(), task, cache=tmp_path / "cache")
