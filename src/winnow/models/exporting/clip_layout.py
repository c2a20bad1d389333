"""What the `CLIPModel` of transformers can hold, field by field, and its words for it.

It is the architecture of Radford et al. (2021): a vision transformer that pools its class token, a
causal text transformer that pools at the end of the caption, one linear projection each, cosines
times a temperature. Widths, depths and sizes are free; every other field of open_clip's
configuration must have the value that this architecture has.
"""

from dataclasses import MISSING, fields
from typing import Any

from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from winnow.models.exporting.source import Source, height_and_width

_TOP = (
    *("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "nonscalar_logit_scale"),
    *("init_logit_scale", "init_logit_bias"),  # starts of training: what was learnt is in weights
)
_FREE_VISION = (
    *("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "pos_embed_type"),
    *("patch_dropout", "attn_pooler_queries", "attn_pooler_heads"),  # of training; of no pooler
    *("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop"),
    "timm_drop_path",
)
_FREE_TEXT = (
    *("context_length", "width", "heads", "layers", "mlp_ratio", "pad_id", "eos_id"),
    *("hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
)
_RESAMPLE = {"bicubic": 3, "bilinear": 2, "random": 3}
"""Pillow's numbers; open_clip's `random` is of training, and bicubic otherwise."""
_START_ID, _END_ID = 49_406, 49_407


def refusals(source: Source) -> list[str]:
    """Every field that `CLIPModel` cannot hold, with its reason; empty where it holds the model."""
    config, preprocessing = source.architecture, source.preprocessing
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    reasons = [f"{name}: it has no such part" for name in config if name not in _TOP]
    if vision.get("timm_model_name"):
        reasons.append(
            f"vision_cfg.timm_model_name is {vision['timm_model_name']!r}: its image tower is a "
            "vision transformer in CLIP's own form"
        )
    elif isinstance(vision.get("layers"), list | tuple):
        reasons.append("vision_cfg.layers is a list (a ResNet): its image tower is a transformer")
    else:
        reasons += _other_values("vision_cfg", CLIPVisionCfg, vision, free=_FREE_VISION)
    reasons += _other_values("text_cfg", CLIPTextCfg, text, free=_FREE_TEXT)
    if source.clip.logit_bias is not None:
        reasons.append("logit_bias: its logits have none")
    if len({*height_and_width(preprocessing)}) > 1:
        reasons.append(f"vision_cfg.image_size is {preprocessing.size}: its pictures are squares")
    if preprocessing.resize_mode == "longest":
        reasons.append("preprocess_cfg.resize_mode is 'longest': its processor does not pad so")
    if preprocessing.interpolation not in _RESAMPLE:
        reasons.append(f"preprocess_cfg.interpolation is {preprocessing.interpolation!r}")
    return reasons


def _other_values(
    where: str, kind: type, given: dict[str, Any], *, free: tuple[str, ...]
) -> list[str]:
    """Fields with another value than CLIP's, which is open_clip's default."""
    reasons = []
    for field in fields(kind):
        default = None if field.default is MISSING else field.default
        value = given.get(field.name, default)
        plain = field.name == "block_type" and value == "default"
        if field.name not in free and field.name != "timm_model_name" and value != default:
            reasons += [] if plain else [f"{where}.{field.name} is {value!r}: it has {default!r}"]
    return reasons


def config_of(source: Source) -> dict[str, Any]:
    """config.json of a model that is not refused."""
    architecture = source.architecture
    activation = "quick_gelu" if architecture.get("quick_gelu", False) else "gelu"
    vision = CLIPVisionCfg(**architecture["vision_cfg"])
    text = CLIPTextCfg(**architecture["text_cfg"])
    assert isinstance(vision.layers, int), "a ResNet is refused"
    shared = {"hidden_act": activation, "projection_dim": architecture["embed_dim"]}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": "float32",
        "torch_dtype": "float32",
        "projection_dim": architecture["embed_dim"],
        "logit_scale_init_value": float(source.clip.logit_scale.detach()),
        "vision_config": {
            **shared,
            "model_type": "clip_vision_model",
            "hidden_size": vision.width,
            "intermediate_size": int(vision.width * vision.mlp_ratio),
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.width // vision.head_width,
            "image_size": height_and_width(source.preprocessing)[0],
            "patch_size": vision.patch_size,
            "layer_norm_eps": source.clip.visual.ln_post.eps,
        },
        "text_config": {
            **shared,
            "model_type": "clip_text_model",
            "hidden_size": text.width,
            "intermediate_size": int(text.width * text.mlp_ratio),
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": source.context_length,
            "vocab_size": text.vocab_size,
            # The end has the highest id and comes first of its kind, so open_clip's argmax over
            # ids and the first end that transformers looks for are the same place.
            "bos_token_id": _START_ID,
            "eos_token_id": _END_ID,
            "pad_token_id": _END_ID,
        },
    }


def processor_config(source: Source) -> dict[str, Any]:
    """preprocessor_config.json of a model that is not refused."""
    preprocessing = source.preprocessing
    side, _ = height_and_width(preprocessing)
    square = {"height": side, "width": side}
    squashed = preprocessing.resize_mode == "squash"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square if squashed else {"shortest_edge": side},
        "resample": _RESAMPLE[preprocessing.interpolation],
        "do_center_crop": not squashed,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
