"""open_clip's weights under the names of transformers' `CLIPModel`.

transformers has the three projections of an attention apart, which open_clip stacks as query, key,
value; its projections into the joint space are linear layers, so they are open_clip's transposed.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

_VISION, _TEXT = "vision_model", "text_model"


def clip_weights(clip: Any) -> dict[str, Tensor]:
    """Every weight of an open_clip model that `clip_layout.py` does not refuse, by its new name."""
    # CustomTextCLIP has a text tower; CLIP has the parts of one.
    text = getattr(clip, "text", clip)
    weights = {"logit_scale": clip.logit_scale.reshape(())}
    weights |= dict(_vision(clip.visual))
    weights |= dict(_text(text))
    held = sum(value.numel() for value in weights.values())
    there = sum(value.numel() for value in clip.state_dict().values())
    assert held == there, f"{there - held} weights of the model have no place in the format"
    return {name: value.detach().clone().contiguous() for name, value in weights.items()}


def _vision(visual: Any) -> Iterator[tuple[str, Tensor]]:
    embeddings = f"{_VISION}.embeddings"
    yield f"{embeddings}.class_embedding", visual.class_embedding
    yield f"{embeddings}.patch_embedding.weight", visual.conv1.weight
    yield f"{embeddings}.position_embedding.weight", visual.positional_embedding
    # The name is misspelt there.
    yield from _both(f"{_VISION}.pre_layrnorm", visual.ln_pre)
    yield from _blocks(_VISION, visual.transformer)
    yield from _both(f"{_VISION}.post_layernorm", visual.ln_post)
    yield "visual_projection.weight", visual.proj.T


def _text(text: Any) -> Iterator[tuple[str, Tensor]]:
    embeddings = f"{_TEXT}.embeddings"
    yield f"{embeddings}.token_embedding.weight", text.token_embedding.weight
    yield f"{embeddings}.position_embedding.weight", text.positional_embedding
    yield from _blocks(_TEXT, text.transformer)
    yield from _both(f"{_TEXT}.final_layer_norm", text.ln_final)
    yield "text_projection.weight", text.text_projection.T


def _blocks(tower: str, transformer: Any) -> Iterator[tuple[str, Tensor]]:
    for number, block in enumerate(transformer.resblocks):
        here = f"{tower}.encoder.layers.{number}"
        stacked = (block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3))
        for name, weight, bias in zip("qkv", *stacked, strict=True):
            yield f"{here}.self_attn.{name}_proj.weight", weight
            yield f"{here}.self_attn.{name}_proj.bias", bias
        yield from _both(f"{here}.self_attn.out_proj", block.attn.out_proj)
        yield from _both(f"{here}.layer_norm1", block.ln_1)
        yield from _both(f"{here}.layer_norm2", block.ln_2)
        yield from _both(f"{here}.mlp.fc1", block.mlp.c_fc)
        yield from _both(f"{here}.mlp.fc2", block.mlp.c_proj)


def _both(name: str, layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", layer.weight  # type: ignore[misc]
    yield f"{name}.bias", layer.bias  # type: ignore[misc]
