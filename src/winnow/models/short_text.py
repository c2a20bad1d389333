"""Texts without computing their padding.

The text towers of CLIP are causal and read a caption's feature at its end-of-text token: what
stands behind it changes nothing. Prompts have some ten tokens of 77, so most of the work would be
on padding. Here a batch is cut behind its longest caption; features are equal to rounding, and so
are gradients.
"""

from collections.abc import Callable
from typing import Any

import open_clip
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.nn.functional import pad

_MULTIPLE = 8
"""Lengths are rounded up to one: sizes that matrix products like, and few different ones."""


def without_padding(tokens_BT: Any) -> Any:
    """Token ids without the columns that are 0 in every row behind the last that is not.

    Their number is rounded up to a multiple of 8, of all T at most. What is no tensor (B, T), as
    tokenizers of other libraries give, comes back as it is.
    """
    if not isinstance(tokens_BT, Tensor) or tokens_BT.ndim != 2 or not tokens_BT.any():
        return tokens_BT
    longest = int(tokens_BT.any(dim=0).nonzero().max()) + 1
    return tokens_BT[:, : -(-longest // _MULTIPLE) * _MULTIPLE]


class ShortTokens:
    """A tokenizer that leaves padding out. It can be pickled if the one it is made of can."""

    def __init__(self, tokenize: Callable[[list[str]], Any]) -> None:
        self._tokenize = tokenize

    def __call__(self, captions: list[str]) -> Any:
        """What that one gives, cut behind the longest caption."""
        return without_padding(self._tokenize(captions))


def is_indifferent_to_padding(clip: nn.Module) -> bool:
    """Whether features are read at the end-of-text token of a causal tower.

    That is so for open_clip's `CLIP` unless a configuration says otherwise; SigLIP's towers see
    the padding, and other classes compute their own way.
    """
    if type(clip) is not open_clip.CLIP:
        return False
    return clip.attn_mask is not None and clip.text_pool_type == "argmax"


def encode_text(
    clip: open_clip.CLIP | open_clip.CustomTextCLIP, tokens_BT: Tensor, *, context_length: int
) -> Tensor:
    """(B, D) un-normalised, from token ids (B, T) with or without their padding.

    A tower that sees the padding gets it back, zeros up to `context_length`.
    """
    missing = context_length - tokens_BT.shape[1]
    if missing == 0:
        return clip.encode_text(tokens_BT)
    if not is_indifferent_to_padding(clip):
        return clip.encode_text(pad(tokens_BT, (0, missing)))
    return _encode_short(clip, tokens_BT)


def _encode_short(clip: Any, tokens_BT: Tensor) -> Tensor:
    """What `CLIP.encode_text` does, at fewer positions; it takes no other number itself."""
    length = tokens_BT.shape[1]
    dtype = clip.transformer.get_cast_dtype()
    position_TW = clip.positional_embedding[:length].to(dtype)
    x_BTW = clip.token_embedding(tokens_BT).to(dtype) + position_TW
    x_BTW = clip.transformer(x_BTW, attn_mask=clip.attn_mask[:length, :length])
    end_BW = text_global_pool(clip.ln_final(x_BTW), tokens_BT, "argmax")
    if isinstance(clip.text_projection, nn.Linear):
        return clip.text_projection(end_BW)
    return end_BW if clip.text_projection is None else end_BW @ clip.text_projection
