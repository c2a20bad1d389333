import dataclasses
import json

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from winnow.models import CustomTowers, TextTransformer, VisionTransformer
from winnow.models.exporting import hugging_face, open_clip_folder
from winnow.models.exporting.comparing import TOLERANCE, farthest, refuse_differences
from winnow.models.exporting.source import CAPTIONS, Probe, open_source
from winnow.models.exporting.tokenizer_files import write_tokenizer
from winnow.models.towers import Towers
from winnow.types import InputError

SMALL = CustomTowers(
    embed_dim=24,
    image=VisionTransformer(image_size=32, patch_size=8, width=64, head_width=16, layers=2),
    text=TextTransformer(context_length=12, width=48, heads=3, layers=2),
)
ENTITIES = "Tom &amp; Jerry"
WEB = ("A  view\tof\nthe bay ", "3,000 m² of 'prime' land @ £9.99!", "ИВАН и Мария", "x" * 80)


def made(folder, towers=SMALL, **config):
    """A folder of open_clip with random weights, all of which matter."""
    torch.manual_seed(0)
    model = Towers(towers)
    for value in model.parameters():
        value.data += 0.05 * torch.randn_like(value)
    model.export(folder)
    file = folder / "open_clip_config.json"
    written = json.loads(file.read_text())
    written["model_cfg"] |= config
    file.write_text(json.dumps(written))
    return open_source(f"local-dir:{folder}")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return made(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="module")
def probe(source):
    return Probe(source, (*CAPTIONS, *WEB))


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hugging-face")
    hugging_face.write(source, folder)
    return folder


def copy_of(folder, to):
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_the_distance_is_relative_and_sees_lengths_shapes_and_nan():
    own = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    assert farthest(own, torch.tensor([[3.0, 4.0], [1.0, 0.0]])) == 0
    assert farthest(own, torch.tensor([[3.0, 4.5], [1.0, 0.0]])) == pytest.approx(0.1)
    assert farthest(own, 2 * own) == pytest.approx(1)
    for other in (own[:1], torch.full((2, 2), torch.nan)):
        assert farthest(own, other) == torch.inf
    refuse_differences("onnx", {"image embeddings": TOLERANCE})
    for wrong in (1.1e-5, torch.inf, torch.nan):
        with pytest.raises(
            InputError, match=r"the onnx export is not the model.* text embeddings by"
        ):
            refuse_differences("onnx", {"image embeddings": 0.0, "text embeddings": wrong})


def test_open_clip_loads_its_own_folder_back_bit_for_bit(source, probe, tmp_path):
    open_clip_folder.write(source, tmp_path)
    assert set(open_clip_folder.differences(probe, tmp_path).values()) == {0.0}
    name = f"local-dir:{tmp_path}"
    clip, _, transform = open_clip.create_model_and_transforms(name)
    assert clip.eval().visual.preprocess_cfg == source.clip.visual.preprocess_cfg
    pixels = torch.stack([transform(picture) for picture in probe.pictures])
    with torch.inference_mode():
        torch.testing.assert_close(clip.encode_image(pixels), probe.image_BD, rtol=0, atol=0)
    tokens = open_clip.get_tokenizer(name)(list(probe.captions))
    assert torch.equal(tokens, probe.tokens_BT)


def test_open_clip_finds_it_under_the_names_of_a_hub(source, probe, tmp_path, monkeypatch):
    open_clip_folder.write(source, tmp_path)

    def fetched(model_id, filename=None, **_):
        assert model_id == "somebody/small"
        return str(tmp_path / (filename or "open_clip_model.safetensors"))

    monkeypatch.setattr(open_clip.factory, "download_pretrained_from_hf", fetched)
    clip = open_clip.create_model("hf-hub:somebody/small", require_pretrained=True).eval()
    with torch.inference_mode():
        assert torch.equal(clip.encode_text(probe.tokens_BT), probe.text_BD)


@pytest.mark.parametrize(("activation", "custom_text"), [(False, False), (True, True)])
def test_transformers_computes_the_same_embeddings(activation, custom_text, tmp_path):
    from transformers import CLIPModel

    # Weights of the text tower have other names in open_clip's class for custom towers.
    source = made(tmp_path / "model", quick_gelu=activation)
    if custom_text:
        state = load_file(tmp_path / "model" / "open_clip_model.safetensors")
        state = open_clip.model.convert_to_custom_text_state_dict(state)
        save_file(state, tmp_path / "model" / "open_clip_model.safetensors")
        source = open_source_with(tmp_path / "model", custom_text=True)
        assert type(source.clip) is open_clip.CustomTextCLIP
    probe = Probe(source, CAPTIONS)
    hugging_face.write(source, tmp_path)
    model = CLIPModel.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        given = {"input_ids": probe.tokens_BT, "pixel_values": probe.pixels_BCHW}
        found = model(**given)
        image, text = (
            torch.nn.functional.normalize(x, dim=1) for x in (probe.image_BD, probe.text_BD)
        )
    torch.testing.assert_close(found.image_embeds, image, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.text_embeds, text, rtol=0, atol=1e-5)
    logits = source.clip.logit_scale.exp().detach() * image.clone() @ text.T.clone()
    torch.testing.assert_close(found.logits_per_image, logits, rtol=1e-5, atol=1e-4)
    assert model.config.vision_config.hidden_act == ("quick_gelu" if activation else "gelu")


def open_source_with(folder, **config):
    file = folder / "open_clip_config.json"
    written = json.loads(file.read_text())
    written["model_cfg"] |= config
    file.write_text(json.dumps(written))
    return open_source(f"local-dir:{folder}")


def test_pictures_and_captions_go_through_transformers_whole_pipeline(probe, exported):
    found = hugging_face.differences(probe, exported)
    assert set(found) == {"image embeddings", "text embeddings", "the temperature"}
    assert max(found.values()) < TOLERANCE


def test_the_automatic_classes_know_the_folder(exported):
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

    assert AutoConfig.from_pretrained(exported).model_type == "clip"
    assert AutoImageProcessor.from_pretrained(exported).size["shortest_edge"] == 32
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert (tokenizer.model_max_length, len(tokenizer)) == (12, 49_408)


def test_token_ids_are_open_clip_s_but_for_what_it_mends_first(source, exported):
    probe = Probe(source, (*CAPTIONS, *WEB, ENTITIES, "schÃ¶n"))
    assert hugging_face.other_ids(probe, exported) == [ENTITIES, "schÃ¶n"]


def test_the_vocabulary_files_alone_give_the_same_tokenizer(source, tmp_path):
    from transformers import CLIPTokenizer

    write_tokenizer(source.tokenize, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("a photo of a dog")["input_ids"]
    assert ids == [49406, 320, 1125, 539, 320, 1929, 49407]
    assert source.tokenize(["a photo of a dog"])[0, : len(ids)].tolist() == ids


def levels_apart(own_CHW, other_CHW, std):
    """The largest difference of two normalised pictures, in levels of 255."""
    return float(((other_CHW - own_CHW).abs() * 255 * torch.tensor(std).view(3, 1, 1)).max())


def both_views(source, exported, size):
    from PIL import Image
    from transformers import CLIPImageProcessor

    picture = Image.effect_noise(size, 80).convert("RGB")
    theirs = CLIPImageProcessor.from_pretrained(exported)(picture, return_tensors="pt")
    own = open_clip.transform.image_transform_v2(source.preprocessing, is_train=False)(picture)
    return own, theirs["pixel_values"][0]


@pytest.mark.parametrize("size", [(64, 64), (48, 60), (64, 128), (20, 30)])
def test_a_picture_that_is_resized_differs_by_one_level_of_255_at_most(source, exported, size):
    own, theirs = both_views(source, exported, size)
    assert levels_apart(own, theirs, source.preprocessing.std) < 1.01


def test_with_an_odd_margin_it_may_be_cut_one_pixel_aside(source, exported):
    """The shorter side becomes 32, the longer 43: of 11 pixels, open_clip cuts 6 before."""
    own, theirs = both_views(source, exported, (70, 51))
    assert levels_apart(own, theirs, source.preprocessing.std) > 50
    shifted = own[:, :, :-1], theirs[:, :, 1:]
    assert levels_apart(*shifted, source.preprocessing.std) < 1.01


def test_squashed_pictures_are_squashed_there_too(source, tmp_path):
    from PIL import Image
    from transformers import CLIPImageProcessor

    squash = dataclasses.replace(source.preprocessing, resize_mode="squash", mean=(0.5,) * 3)
    hugging_face.write(dataclasses.replace(source, preprocessing=squash), tmp_path)
    picture = Image.linear_gradient("L").resize((64, 32)).convert("RGB")
    theirs = CLIPImageProcessor.from_pretrained(tmp_path)(picture, return_tensors="pt")
    own = open_clip.transform.image_transform_v2(squash, is_train=False)(picture)
    assert theirs["pixel_values"].shape == (1, 3, 32, 32)
    assert (theirs["pixel_values"][0] - own).abs().max() < 0.02


def edited(folder, name, change):
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))


def other_activation(folder):
    edited(folder, "config.json", lambda c: c["vision_config"].update(hidden_act="quick_gelu"))


def other_heads(folder):
    edited(folder, "config.json", lambda c: c["text_config"].update(num_attention_heads=4))


def other_mean(folder):
    edited(folder, "preprocessor_config.json", lambda c: c.update(image_mean=[0.5, 0.5, 0.5]))


def other_words(folder):
    def swap(values):
        ids = values["model"]["vocab"]
        ids["dog</w>"], ids["cat</w>"] = ids["cat</w>"], ids["dog</w>"]

    edited(folder, "tokenizer.json", swap)


def other_weights(change):
    def break_it(folder):
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return break_it


def swap_query_and_key(state):
    names = [f"vision_model.encoder.layers.1.self_attn.{one}_proj.bias" for one in "qv"]
    state[names[0]], state[names[1]] = state[names[1]].clone(), state[names[0]].clone()


@pytest.mark.parametrize(
    ("break_it", "what"),
    [
        (other_activation, "image embeddings"),
        (other_heads, "text embeddings"),
        (other_mean, "image embeddings"),
        (other_words, "text embeddings"),
        (other_weights(swap_query_and_key), "image embeddings"),
        (other_weights(lambda s: s["logit_scale"].add_(0.01)), "the temperature"),
        (other_weights(lambda s: s["visual_projection.weight"].mul_(2)), "image embeddings"),
    ],
)
def test_whatever_is_not_the_model_is_noticed(break_it, what, probe, exported, tmp_path):
    break_it(copy_of(exported, tmp_path))
    found = hugging_face.differences(probe, tmp_path)
    assert {name for name, size in found.items() if size > TOLERANCE} == {what}
