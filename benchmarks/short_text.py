"""Text features with and without the padding behind the longest caption of a batch.

open_clip computes all 77 tokens of every text; winnow cuts a batch behind its longest. Same tower
(ViT-B-32's, random weights), same tokens, in turns; the features are compared before anything is
timed. Texts: one query, prompts of zero-shot classification, and captions of each source that
`caption_sets.py` finds, all in batches as evaluation has them.

    python benchmarks/short_text.py [--rounds 12] [--texts 64]
"""

import argparse
from functools import partial

import open_clip
import torch
from caption_sets import CACHE, captions_by_source
from harness import Ratio, alternate, ratio_of, report
from torch import Tensor

from winnow.models.short_text import encode_text, without_padding

OURS, PEER = "winnow", "open_clip"
AIM = 1.0
MODEL = "ViT-B-32"
PROMPT = "a photo of a {}."
NAMES = "emoji"  # the source whose captions are names


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--texts", type=int, default=64, help="in a batch")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    clip = open_clip.create_model(MODEL, pretrained=None).eval()
    tokenize = open_clip.get_tokenizer(MODEL)
    with torch.inference_mode():
        ratios = [
            compare(clip, name, tokenize(texts), rounds=arguments.rounds)
            for name, texts in batches(arguments.texts).items()
        ]
    about = {"tower": f"{MODEL}, random weights, float32", "threads": torch.get_num_threads()}
    report("short_text", ratios, about)


def batches(count: int) -> dict[str, list[str]]:
    """Texts by what they are: spread evenly over their source, in its order."""
    sources = captions_by_source(CACHE)
    prompts = [PROMPT.format(name) for name in sources.pop(NAMES)]
    chosen = {"one query": prompts[:1], f"{count} prompts": spread(prompts, count)}
    return chosen | {f"{count} captions, {name}": spread(c, count) for name, c in sources.items()}


def spread(texts: list[str], count: int) -> list[str]:
    """`count` of the texts at equal distances, all of them where there are fewer."""
    return texts[:: max(1, len(texts) // count)][:count]


def compare(clip: open_clip.CLIP, name: str, tokens_BT: Tensor, *, rounds: int) -> Ratio:
    """The ratio for one batch. Raises where the features differ by more than rounding."""
    peers = {
        OURS: partial(short, clip, tokens_BT),
        PEER: partial(clip.encode_text, tokens_BT),
    }
    torch.testing.assert_close(peers[OURS](), peers[PEER](), rtol=1e-4, atol=1e-5)
    longest = int(tokens_BT.argmax(dim=1).max()) + 1
    return ratio_of(
        alternate(peers, rounds=rounds),
        claim=f"{name}, {longest} tokens at most",
        ours=OURS,
        theirs=PEER,
        aim=AIM,
    )


def short(clip: open_clip.CLIP, tokens_BT: Tensor) -> Tensor:
    """Cut and encoded."""
    return encode_text(clip, without_padding(tokens_BT), context_length=tokens_BT.shape[1])


if __name__ == "__main__":
    main()
