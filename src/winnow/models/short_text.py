"""Text features without computing the padding.

The text towers of CLIP are causal and read a caption's feature at its end-of-text token, the
highest number of the vocabulary: what stands behind it changes nothing. Prompts have some ten
tokens of 77, so most of the work is on padding. Here a batch is cut behind its longest caption;
features are equal to rounding.
"""

import open_clip
from open_clip.transformer import text_global_pool
from torch import Tensor, nn

_MULTIPLE = 8
"""Lengths are rounded up to one: sizes that matrix products like, and few different ones."""


def is_indifferent_to_padding(clip: nn.Module) -> bool:
    """Whether features are read at the end-of-text token of a causal tower.

    That is so for open_clip's `CLIP` unless a configuration says otherwise; SigLIP's towers see
    the padding, and other classes compute their own way.
    """
    if type(clip) is not open_clip.CLIP:
        return False
    return clip.attn_mask is not None and clip.text_pool_type == "argmax"


def encode_text(clip: open_clip.CLIP, tokens_BT: Tensor) -> Tensor:
    """(B, D) un-normalised, from token ids (B, T) of a tower that is indifferent to padding."""
    length = _length(tokens_BT)
    if length == clip.positional_embedding.shape[0]:
        return clip.encode_text(tokens_BT)
    tokens_BT = tokens_BT[:, :length]
    dtype = clip.transformer.get_cast_dtype()
    position_TW = clip.positional_embedding[:length].to(dtype)
    x_BTW = clip.token_embedding(tokens_BT).to(dtype) + position_TW
    x_BTW = clip.transformer(x_BTW, attn_mask=clip.attn_mask[:length, :length])
    end_BW = text_global_pool(clip.ln_final(x_BTW), tokens_BT, "argmax")
    if isinstance(clip.text_projection, nn.Linear):
        return clip.text_projection(end_BW)
    return end_BW if clip.text_projection is None else end_BW @ clip.text_projection


def _length(tokens_BT: Tensor) -> int:
    """Of the longest caption with its end token, rounded up, of all T at most."""
    if not len(tokens_BT):
        return tokens_BT.shape[1]
    longest = int(tokens_BT.argmax(dim=1).max()) + 1
    return min(-(-longest // _MULTIPLE) * _MULTIPLE, tokens_BT.shape[1])
