import open_clip
import pytest
import torch

from winnow.models.short_text import encode_text, is_indifferent_to_padding

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


def lengths_seen(clip):
    seen = []
    clip.transformer.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    return seen


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("text", [{}, {"proj_bias": True}, {"proj_type": "none", "width": 16}])
def test_features_are_open_clip_s(text, texts):
    clip = clip_of(**text)
    tokens = open_clip.SimpleTokenizer(context_length=77)(texts)
    assert is_indifferent_to_padding(clip)
    with torch.inference_mode():
        found, expected = encode_text(clip, tokens), clip.encode_text(tokens)
    assert expected.std() > 0.1  # features that say something
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("texts", "length"),
    [(["cat"], 8), (["cat " * 6], 8), (["cat " * 7], 16), (["a", "cat " * 30], 32)],
)
def test_the_padding_is_not_computed(texts, length):
    """A start and an end token beside the words."""
    clip = clip_of()
    seen = lengths_seen(clip)
    encode_text(clip, open_clip.SimpleTokenizer(context_length=77)(texts))
    assert seen == [length]


def test_a_text_of_every_token_goes_the_whole_way():
    clip = clip_of()
    seen = lengths_seen(clip)
    encode_text(clip, open_clip.SimpleTokenizer(context_length=77)(["x " * 200]))
    assert seen == [77]


def test_towers_that_see_the_padding_are_left_to_themselves():
    assert not is_indifferent_to_padding(clip_of(no_causal_mask=True))
    assert not is_indifferent_to_padding(clip_of(pool_type="last"))
    assert not is_indifferent_to_padding(clip_of(pool_type="eos", eos_id=49407))
    custom = open_clip.CustomTextCLIP(embed_dim=16, vision_cfg=VISION, text_cfg=TEXT)
    assert not is_indifferent_to_padding(custom)


def test_no_texts_are_no_features():
    assert encode_text(clip_of(), torch.zeros(0, 77, dtype=torch.int64)).shape == (0, 16)


def test_openai_s_architectures_are():
    clip = open_clip.create_model("ViT-B-32", pretrained=None)
    assert is_indifferent_to_padding(clip)
