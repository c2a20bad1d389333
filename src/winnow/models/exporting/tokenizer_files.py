"""The tokenizer of open_clip's wheel as files that other libraries read; no hub is asked.

vocab.json, merges.txt    byte-pair encoding, as CLIP published it
tokenizer.json            the same and what comes before it, for the `tokenizers` library
tokenizer_config.json     its class in transformers, and the context length

Ids are open_clip's. What transformers does not do is to mend captions first: open_clip undoes HTML
entities and broken encodings (ftfy), so `Tom &amp; Jerry` has other ids there.
"""

import json
from pathlib import Path
from typing import Any

import open_clip

# open_clip calls the same two ids <start_of_text> and <end_of_text>.
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def write_tokenizer(tokenize: open_clip.SimpleTokenizer, folder: Path) -> None:
    """Write the four files into `folder`."""
    start, end = tokenize.sot_token_id, tokenize.eot_token_id
    ids: dict[str, int] = {**tokenize.encoder}
    for theirs, number in ((_START, start), (_END, end)):
        ids.pop(tokenize.decoder[number])
        ids[theirs] = number
    vocabulary = dict(sorted(ids.items(), key=lambda item: item[1]))
    merges = [" ".join(pair) for pair in tokenize.bpe_ranks]
    _write(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    _write(folder / "tokenizer.json", _pipeline(vocabulary, merges, start=start, end=end))
    _write(folder / "tokenizer_config.json", _settings(tokenize.context_length))


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")


def _settings(context_length: int | None) -> dict[str, Any]:
    return {
        "tokenizer_class": "CLIPTokenizer",
        "processor_class": "CLIPProcessor",
        "bos_token": _START,
        "eos_token": _END,
        "pad_token": _END,
        "unk_token": _END,
        "model_max_length": context_length,
    }


def _pipeline(
    vocabulary: dict[str, int], merges: list[str], *, start: int, end: int
) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(_START, start), _special(_END, end)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": _WORDS},
                    "behavior": "Removed",
                    "invert": True,
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": True,
                },
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [_END, end],
            "cls": [_START, start],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": _END,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def _special(content: str, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
