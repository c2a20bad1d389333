"""The model card of an export: how to load it, how it was made, what it reaches, what is unknown.

It says what files say and nothing more; a license is the user's to give. Whatever was scraped or
named by somebody is escaped, and of paths only last names are told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from winnow.evaluation.results import Result
from winnow.models.exporting.comparing import TOLERANCE
from winnow.models.exporting.onnx_towers import OPSET
from winnow.models.exporting.source import Source, height_and_width
from winnow.recipes.exported_run import TrainedOn
from winnow.recipes.markdown import plain, table, without_folders
from winnow.reports.evaluation_rows import metric_words

_LIBRARY = {"open-clip": "open_clip", "hugging-face": "transformers", "onnx": "onnx"}
_FIRST = ("objective", "model", "batch_size", "steps", "precision", "optimizer")
_LEFT_OUT = ("runtime",)
"""How a run was carried out, which is of its machine."""
_LOADING = {
    "open-clip": """\
With [open_clip](https://github.com/mlfoundations/open_clip):

```python
import open_clip
import torch
from PIL import Image

name = "local-dir:FOLDER"  # or "hf-hub:OWNER/NAME"
model, _, preprocess = open_clip.create_model_and_transforms(name)
tokenize = open_clip.get_tokenizer(name)
model.eval()
with torch.inference_mode():
    image = model.encode_image(preprocess(Image.open("picture.jpg"))[None], normalize=True)
    text = model.encode_text(tokenize(["a photo of a cat", "a photo of a dog"]), normalize=True)
    print((model.logit_scale.exp() * image @ text.T).softmax(dim=-1))
```
""",
    "hugging-face": """\
With [transformers](https://github.com/huggingface/transformers):

```python
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

name = "FOLDER"  # or "OWNER/NAME"
model, processor = CLIPModel.from_pretrained(name), CLIPProcessor.from_pretrained(name)
captions, picture = ["a photo of a cat", "a photo of a dog"], Image.open("picture.jpg")
given = processor(
    text=captions, images=picture, return_tensors="pt", padding=True, truncation=True
)
with torch.inference_mode():
    print(model(**given).logits_per_image.softmax(dim=-1))
```
""",
    "onnx": """\
With [onnxruntime](https://onnxruntime.ai), on pixels and token ids as open_clip makes them
(opset {opset}; embeddings come un-normalised):

```python
import numpy as np
import onnxruntime

images = onnxruntime.InferenceSession("FOLDER/onnx/vision_model.onnx")
texts = onnxruntime.InferenceSession("FOLDER/onnx/text_model.onnx")
pixels = np.zeros((1, 3, {height}, {width}), np.float32)  # (rgb from 0 to 1 - mean) / deviation
ids = np.zeros((2, {context_length}), np.int64)  # start, words, end, then zeros
(image,) = images.run(None, {{"pixel_values": pixels}})
(text,) = texts.run(None, {{"input_ids": ids}})
```

Mean {mean}, deviation {std}; cosines are multiplied with {scale:.4f}.
""",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything that a card tells."""

    title: str
    part: str | None
    """The folder of the run that the weights are from, where that is not the one of its end."""
    source: Source
    differences: Mapping[str, Mapping[str, float]]
    """By format, what was measured when it was loaded back; its keys are the formats."""
    other_ids: int | None
    """Of the captions compared, how many transformers reads otherwise; None where not asked."""
    captions: int
    """How many captions were compared."""
    recipe: Mapping[str, Any] | None
    data: Sequence[TrainedOn]
    results: Sequence[Result]
    left_out: int
    """Numbers in the results that are of other weights."""
    license: str | None
    version: str
    """Of winnow."""


def card_text(card: Card) -> str:
    """README.md of an export."""
    parts = [_metadata(card), _head(card), _loading(card), _recipe(card), _data(card)]
    parts += [_results(card), _comparison(card), _unknown(card)]
    return "\n\n".join("\n".join(part).strip("\n") for part in parts if part) + "\n"


def _metadata(card: Card) -> list[str]:
    from huggingface_hub import ModelCardData

    libraries = [_LIBRARY[name] for name in card.differences]
    data = ModelCardData(
        library_name=libraries[0],
        license=card.license,
        pipeline_tag="zero-shot-image-classification",
        tags=["clip", *libraries, "winnow"],
    )
    return ["---", data.to_yaml(line_break="\n").strip(), "---"]


def _head(card: Card) -> list[str]:
    source = card.source
    parameters = sum(value.numel() for value in source.clip.parameters())
    height, width = height_and_width(source.preprocessing)
    vision, text = (
        source.architecture.get("vision_cfg", {}),
        source.architecture.get("text_cfg", {}),
    )
    rows = [
        ("parameters", f"{parameters:,}"),
        ("embedding", f"{source.architecture.get('embed_dim')} numbers"),
        ("pictures", f"{height} x {width} pixels, resized by {source.preprocessing.resize_mode}"),
        ("captions", f"{source.context_length} tokens, start and end included"),
        *(("image tower", words) for words in [_settings(vision)] if words),
        *(("text tower", words) for words in [_settings(text)] if words),
    ]
    return [
        f"# {plain(card.title)}",
        "",
        "A CLIP model: it turns pictures and captions into vectors whose cosines say how well they "
        f"belong together. Exported by winnow {plain(card.version)}.",
        "",
        *table(["", ""], rows),
    ]


def _loading(card: Card) -> list[str]:
    preprocessing = card.source.preprocessing
    height, width = height_and_width(preprocessing)
    facts = {
        "opset": OPSET,
        "height": height,
        "width": width,
        "context_length": card.source.context_length,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "scale": card.source.scale,
    }
    told = [_LOADING[name].format(**facts) for name in card.differences]
    return ["## How to use it", "", *told]


def _recipe(card: Card) -> list[str]:
    if card.recipe is None:
        return []
    named = {name: value for name, value in card.recipe.items() if name not in _LEFT_OUT}
    order = sorted(named, key=lambda name: (*_FIRST, name).index(name))
    rows = [row for name in order for row in _leaves(name, without_folders(named[name]))]
    batch, steps = named.get("batch_size"), named.get("steps")
    seen: list[str] = []
    if isinstance(batch, int) and isinstance(steps, int):
        seen += [f"{steps:,} steps of {batch:,} pairs: {steps * batch:,} pairs were seen.", ""]
    if card.part is not None:
        seen += [f"The weights are those in {plain(card.part)}, perhaps of an earlier step.", ""]
    return ["## How it was trained", "", *seen, *table(["setting", "value"], rows)]


def _data(card: Card) -> list[str]:
    if not card.data:
        return []
    return ["## What it was trained on", *(line for one in card.data for line in _funnel(one))]


def _funnel(data: TrainedOn) -> Iterator[str]:
    pairs = "an unknown number of" if data.pairs is None else f"{data.pairs:,}"
    yield from ("", f"Selection {plain(data.name)}: {pairs} pairs.", "")
    if data.selection is None:
        yield "It is no longer there as it was, so what it was selected from is not told here."
        return
    if data.summary is None:
        yield "No account says what it was selected from."
        return
    summary = data.summary
    rows = [("seen", summary.seen)]
    rows += [(f"dropped: {code}", count) for code, count in summary.dropped.items()]
    rows += [(f"unreadable: {code}", count) for code, count in summary.errors_by_code.items()]
    rows += [("kept", summary.kept)]
    share = max(summary.seen, 1)
    yield from table(
        ["pairs", "number", "of seen"],
        [(name, f"{count:,}", f"{count / share:.1%}") for name, count in rows],
    )
    if summary.rules:
        yield from ("", "The rules, in their order:", "")
        yield from table(["rule", "settings"], map(_rule, summary.rules))


def _rule(settings: Mapping[str, Any]) -> tuple[str, str]:
    return settings["rule"], _settings({k: v for k, v in settings.items() if k != "rule"})


def _results(card: Card) -> list[str]:
    lines = ["## Results", ""]
    if card.left_out:
        lines += [f"{card.left_out} numbers of other weights are left out.", ""]
    if not card.results:
        return [*lines, "None were measured of these weights."]
    head = ["evaluation set", "protocol", "metric", "value", "95 % interval", "chance", "n"]
    return [*lines, *table(head, map(_result, card.results))]


def _result(row: Result) -> list[str]:
    is_rank = row.metric.endswith("median_rank")
    value, low, high = (_number(one, is_rank) for one in (row.value, row.low, row.high))
    shots = "" if row.shots is None else f"{row.shots} shots"
    protocol = " ".join(word for word in (row.protocol, row.method, shots) if word)
    chance = "" if row.chance is None else _number(row.chance, is_rank)
    task = f"{row.task} ({row.split})"
    return [
        task,
        protocol,
        metric_words(row.metric),
        value,
        f"{low} to {high}",
        chance,
        f"{row.n:,}",
    ]


def _number(value: float, is_rank: bool) -> str:
    return f"{value:,.0f}" if is_rank else f"{value:.1%}"


def _comparison(card: Card) -> list[str]:
    rows = [
        (name, what, f"{size:.1e}")
        for name, sizes in card.differences.items()
        for what, size in sizes.items()
    ]
    lines = [
        "## Is the export the model?",
        "",
        "Every format was loaded back by its own library and compared with the trained model on "
        f"noise pictures and {card.captions} captions. The largest difference, relative to an "
        f"embedding's length (up to {TOLERANCE:g} is rounding):",
        "",
        *table(["format", "what", "difference"], rows),
    ]
    if card.other_ids is not None:
        lines += [
            "",
            f"Of these captions, {card.other_ids} have other token ids in transformers, which does "
            "not undo HTML entities and broken encodings as open_clip does. Pictures that must be "
            "resized may differ there by one level of 255, and be cut out one pixel aside.",
        ]
    return lines


def _unknown(card: Card) -> list[str]:
    unknown = [] if card.license else ["A license: none was stated. Ask whoever published this."]
    if card.recipe is None:
        unknown.append("How the model was trained, and on what.")
    if not card.data:
        unknown.append("The training data.")
    unknown += [
        "Who owns the training pictures and captions, and whether any of them are in the "
        "evaluation sets, unless the rules above say so.",
        "How it does on anything that is not in the table of results. Intervals are of drawing the "
        "evaluation set, not of training again with another seed.",
        "Whether it is fair or safe: nobody measured that here. Models of scraped data repeat what "
        "they were shown; do not let one decide about people.",
    ]
    return ["## What is not known", "", *(f"- {sentence}" for sentence in unknown)]


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """One row for every setting; a part that was chosen by name is a row with its name."""
    if not isinstance(value, dict):
        yield name, _words(value)
        return
    if "kind" in value:
        yield name, str(value["kind"])
    for key, inner in value.items():
        if key != "kind":
            yield from _leaves(f"{name}.{key}", inner)


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {_words(value)}" for name, value in without_folders(dict(values)).items()
    )


def _words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    return "yes" if value is True else "no" if value is False else str(value)
