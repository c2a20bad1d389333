"""What `winnow export` takes and does: a model in the formats of other libraries, and its card."""

import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import tyro

from winnow.evaluation.results import Result
from winnow.models.encoder import load_encoder
from winnow.models.exporting import hugging_face, onnx_towers, open_clip_folder
from winnow.models.exporting.comparing import refuse_differences
from winnow.models.exporting.source import CAPTIONS, Probe, Source, open_source
from winnow.models.exporting.tokenizer_files import write_tokenizer
from winnow.recipes.export_folder import CARD_FILE, list_files, refuse_others_folder, writing_export
from winnow.recipes.exported_run import (
    captions_of,
    data_of,
    part_of,
    recipe_of,
    results_of,
    run_folder,
)
from winnow.recipes.markdown import without_folders
from winnow.recipes.model_card import Card, card_text
from winnow.types import InputError

Format = Literal["open-clip", "hugging-face", "onnx"]
_WRITERS: dict[str, ModuleType] = {
    "open-clip": open_clip_folder,
    "hugging-face": hugging_face,
    "onnx": onnx_towers,
}
_NEEDS = {
    "open-clip": (),
    "hugging-face": ("transformers",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
}
"""Packages of the extra `export`."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a model for other libraries; each loads it back, and both must agree."""

    model: tyro.conf.Positional[str]
    """The folder of a run, or local-dir:PATH; whatever `winnow evaluate` takes."""
    out: Path
    """The export's folder. An export that is there, as it was written, is replaced."""
    formats: Annotated[tuple[Format, ...], tyro.conf.arg(name="format")] = ("open-clip",)
    """open-clip (local-dir: and hf-hub:), hugging-face (CLIPModel of transformers), onnx (both
    towers); several share the folder. The last two need the extra `export`."""
    license: str | None = None
    """What you publish it under, as the Hub spells it: apache-2.0, mit, cc-by-4.0, other, ...
    Without it the card says that none was stated."""
    results: Path | None = None
    """A folder that `winnow evaluate` wrote, for the card. Default: that of the run."""


def run_export(options: Export, *, say: Callable[[str], None]) -> Path:
    """Write the export; its folder. Raises InputError before anything is in its place."""
    _refuse_options(options)
    source = open_source(options.model)
    _refuse_formats(source, options.formats)
    run = run_folder(options.model)
    data = [] if run is None else data_of(run)
    probe = Probe(source, tuple(dict.fromkeys((*CAPTIONS, *captions_of(data)))))
    differences: dict[str, dict[str, float]] = {}
    with writing_export(options.out) as folder:
        # open_clip has its tokenizer in the wheel; whoever finds the folder on a hub may not.
        write_tokenizer(source.tokenize, folder)
        for name in options.formats:
            _WRITERS[name].write(source, folder)
            differences[name] = _WRITERS[name].differences(probe, folder)
            refuse_differences(name, differences[name])
            say(
                f"{name}: loaded back, at most {max(differences[name].values()):.1e} from the model"
            )
        is_read = "hugging-face" in options.formats
        results, left_out = _results(options, run)
        card = Card(
            title=_title(options, run),
            part=None if run is None else part_of(run, options.model),
            source=source,
            differences=differences,
            other_ids=len(hugging_face.other_ids(probe, folder)) if is_read else None,
            captions=len(probe.captions),
            recipe=None if run is None else recipe_of(run),
            data=data,
            results=results,
            left_out=left_out,
            license=options.license,
            version=_version(),
        )
        (folder / CARD_FILE).write_text(card_text(card), encoding="utf-8")
        list_files(folder, version=_version(), differences=differences)
    return options.out


def _refuse_options(options: Export) -> None:
    """What can be said before the model is loaded."""
    if not options.formats:
        raise InputError(f"--format names none of {', '.join(_WRITERS)}")
    if len({*options.formats}) < len(options.formats):
        raise InputError(f"--format names a format twice: {' '.join(options.formats)}")
    if options.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", options.license):
        raise InputError(
            f"--license {options.license!r} is no identifier of the Hub, such as apache-2.0 or "
            "mit; `other` stands for one that it does not know"
        )
    if options.results is not None and not options.results.is_dir():
        raise InputError(f"there are no results in {options.results}: it is no folder")
    for name in options.formats:
        missing = [package for package in _NEEDS[name] if importlib.util.find_spec(package) is None]
        if missing:
            raise InputError(
                f"--format {name} needs {' and '.join(missing)}: pip install 'winnow-clip[export]'"
            )
    refuse_others_folder(options.out)


def _refuse_formats(source: Source, formats: Sequence[str]) -> None:
    """Raise InputError with every field that a format cannot hold."""
    for name in formats:
        reasons = _WRITERS[name].refusals(source)
        if reasons:
            fitting = [other for other in _WRITERS if not _WRITERS[other].refusals(source)]
            raise InputError(
                f"{source.name} cannot be exported as {name}, which holds CLIP's own architecture: "
                f"{'; '.join(reasons)}. It can be as {' and '.join(fitting)}"
            )


def _results(options: Export, run: Path | None) -> tuple[list[Result], int]:
    folder = options.results or (None if run is None else run / "evaluation")
    if folder is None or not folder.is_dir():
        return [], 0
    return results_of(folder, load_encoder(options.model).fingerprint)


def _title(options: Export, run: Path | None) -> str:
    return without_folders(options.model) if run is None else run.absolute().name


def _version() -> str:
    return importlib.metadata.version("winnow-clip")
