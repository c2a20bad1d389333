"""What `winnow explore` takes and does: a page on this machine over pairs and a model."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import tyro

from winnow.curation.explain import selections_of
from winnow.curation.summary import SUMMARY_FILE
from winnow.data.block_cache import BlockCache
from winnow.data.folder import Folder
from winnow.data.user_cache import user_cache
from winnow.evaluation.embed import Embedder
from winnow.explore.answers import Explorer
from winnow.explore.pairs import read_pairs
from winnow.explore.server import missing_library, serve
from winnow.models.devices import usable_device
from winnow.types import InputError, Interrupted

_GIGABYTES = 4.0  # of remote shards and decoded row groups: thumbnails are read at random


@dataclass(frozen=True, kw_only=True)
class Explore:
    """A page on this machine: search pairs by text and by picture, with verdicts and reasons."""

    data: tyro.conf.Positional[str]
    """DIR, where pairs were curated into, or the folder of one of its selections."""
    model: str
    """The folder of a run, or a model as `winnow evaluate` takes it; the audit of a run is shown
    where it has one."""
    selection: str | None = None
    """Whose verdicts are shown, where DIR has several."""
    kept_only: bool = False
    """Only pairs that the selection kept; by default dropped ones are there too."""
    port: int = 0
    """Of 127.0.0.1; 0 takes a free one."""
    open: bool = False
    """Open the page in the browser."""
    cache: Path | None = None
    """Where features are kept. Default: explore/ in the user's cache."""
    batch_size: int = 256
    """Pictures or captions embedded at once."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the model computes in."""
    device: str = "auto"
    """`cpu`, `cuda`, ...; `auto` takes a GPU where there is one."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; it must be at least 1")


def run_explore(
    options: Explore, *, ready: Callable[[str], None], say: Callable[[str], None]
) -> None:
    """Embed what is not embedded yet, then serve until stopped; `ready` is given the address.

    Raises Interrupted in the end.
    """
    _require_libraries()
    explorer = open_explorer(options)
    pairs = explorer.pairs
    say(
        f"{len(pairs):,} pairs of selection {pairs.summary.selection}, seen by "
        f"{explorer.encoder.name}; Ctrl-C ends it"
    )

    def opened(address: str) -> None:
        ready(address)
        if options.open:
            import webbrowser

            webbrowser.open(address)

    try:
        serve(explorer, port=options.port, ready=opened)
    except KeyboardInterrupt as stop:
        number = stop.signal_number if isinstance(stop, Interrupted) else 2
        raise Interrupted(
            "stopped; the same command opens the page again at once", number
        ) from None


def open_explorer(options: Explore) -> Explorer:
    """Pairs and model, embedded. Raises InputError."""
    folder, selection = _chosen(options)
    run = Path(options.model)
    cache = options.cache or user_cache() / "explore"
    pairs = read_pairs(
        folder,
        selection,
        kept_only=options.kept_only,
        run=run if run.is_dir() else None,
        blocks=BlockCache(folder=cache / "blocks", gigabytes=_GIGABYTES),
    )
    # What is wrong with the pairs is said before open_clip is loaded.
    from winnow.models.encoder import load_encoder

    device = str(usable_device(options.device))
    embedder = Embedder(
        encoder=load_encoder(options.model, device=device, precision=options.precision),
        cache=cache,
        batch_size=options.batch_size,
    )
    return Explorer.of(pairs, embedder, device=device)


def _chosen(options: Explore) -> tuple[Folder, str]:
    """The curated folder and the name of a selection of it."""
    folder = Folder.at(options.data)
    if folder.exists(SUMMARY_FILE):
        out, _, name = folder.url.rsplit("/", 2)
        if options.selection not in (None, name):
            raise InputError(
                f"{folder.url} is the selection {name}, and --selection says {options.selection}: "
                "give one of them"
            )
        return Folder.at(out), name
    names = selections_of(folder)
    if options.selection is None and len(names) > 1:
        raise InputError(
            f"{folder.url} has several selections ({', '.join(names)}): say which with --selection"
        )
    if options.selection is None and not names:
        raise InputError(
            f"{folder.url} holds no selection: make one with `winnow curate SHARDS --out DIR`"
        )
    return folder, options.selection or names[0]


def _require_libraries() -> None:
    """Raise InputError where the server is not installed, before hours of embedding."""
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise missing_library(ModuleNotFoundError(name=name))
