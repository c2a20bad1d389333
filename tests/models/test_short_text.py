import open_clip
import pytest
import torch

from winnow.models.short_text import (
    ShortTokens,
    encode_text,
    is_indifferent_to_padding,
    without_padding,
)

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
TEXT = {"context_length": 77, "width": 32, "heads": 2, "layers": 3}
TEXTS = {
    "one word": ["cat"],
    "nothing": [""],
    "of all lengths": ["", "a cat", "a photo of a large dog on the beach", "cat " * 30, "x " * 200],
    "up to a multiple": ["cat " * 6, "cat " * 5],
    "beyond a multiple": ["cat " * 7],
}


def clip_of(**text):
    torch.manual_seed(0)
    return open_clip.CLIP(embed_dim=16, vision_cfg=VISION, text_cfg=TEXT | text).eval()


CONTEXT = TEXT["context_length"]
tokenize = open_clip.SimpleTokenizer(context_length=CONTEXT)


def lengths_seen(clip):
    seen = []
    tower = clip.transformer if isinstance(clip, open_clip.CLIP) else clip.text.transformer
    tower.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    return seen


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("text", [{}, {"proj_bias": True}, {"proj_type": "none", "width": 16}])
def test_features_and_gradients_are_open_clip_s(text, texts):
    clip, tokens = clip_of(**text), tokenize(texts)
    gradients = []
    for encode in (
        lambda: encode_text(clip, without_padding(tokens), context_length=CONTEXT),
        lambda: clip.encode_text(tokens),
    ):
        clip.zero_grad()
        features = encode()
        (features * torch.linspace(-1, 1, 16)).mean().backward()
        gradients.append([features, *(p.grad for p in clip.parameters() if p.grad is not None)])
    assert gradients[1][0].std() > 0.1  # features that say something
    assert len(gradients[0]) == len(gradients[1]) > 30
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("texts", "length"),
    [
        (["cat"], 8),
        (["cat " * 6], 8),
        (["cat " * 7], 16),
        (["a", "cat " * 30], 32),
        (["x " * 200], 77),
        ([""], 8),
    ],
)
def test_the_padding_is_not_computed(texts, length):
    """A start and an end token beside the words."""
    clip = clip_of()
    seen = lengths_seen(clip)
    encode_text(clip, ShortTokens(tokenize)(texts), context_length=CONTEXT)
    assert seen == [length]


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}])
def test_towers_that_see_the_padding_get_it_back(text):
    clip, tokens = clip_of(**text), tokenize(["a cat"])
    assert not is_indifferent_to_padding(clip)
    short = encode_text(clip, without_padding(tokens), context_length=CONTEXT)
    assert torch.equal(short, clip.encode_text(tokens))


def test_a_tower_of_another_class_gets_it_back():
    torch.manual_seed(0)
    clip = open_clip.CustomTextCLIP(embed_dim=16, vision_cfg=VISION, text_cfg=TEXT).eval()
    tokens, seen = tokenize(["a cat"]), lengths_seen(clip)
    short = encode_text(clip, without_padding(tokens), context_length=CONTEXT)
    assert seen == [77]
    assert torch.equal(short, clip.encode_text(tokens))


def test_what_is_no_padding_stays():
    assert without_padding(torch.zeros(0, 77, dtype=torch.int64)).shape == (0, 77)
    assert without_padding(torch.full((2, 12), 5)).shape == (2, 12)
    of_another_library = {"input_ids": torch.zeros(1, 9)}
    assert without_padding(of_another_library) is of_another_library


def test_openai_s_architectures_are_indifferent():
    clip = open_clip.create_model("ViT-B-32", pretrained=None)
    assert is_indifferent_to_padding(clip)
