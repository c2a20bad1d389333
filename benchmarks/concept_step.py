"""What training pays for concept heads: a step and the loader, with a teacher's targets or without.

The same towers, batch and optimizer in one process, in turns. Targets are random: what they say
costs nothing.
"""

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from harness import RATIO_COLUMNS, Ratio, Table, alternate, ratio_of, ratio_rows, write_table

from winnow.concepts import HEADS
from winnow.curation.selections import none
from winnow.data.concept_targets import ConceptTargets, SparseTargets, TargetFacts, write_targets
from winnow.data.loader import Batch, load_batches
from winnow.data.order import Order
from winnow.data.selection import Selection
from winnow.models.towers import Towers
from winnow.objectives import ConceptDistillation, ConceptHeads
from winnow.recipes.data import curate
from winnow.recipes.packaged import packaged_data
from winnow.recipes.training import clip, tiny
from winnow.training.mask import Mask
from winnow.training.optimizer import build_optimizer
from winnow.training.recipe import Recipe
from winnow.training.step import training_step

WITH, WITHOUT = "with concepts", "without"
TOP_K = 10
LOADED_STEPS = 8
LOADER_AIM = 0.95


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a step is measured at."""

    what: str
    recipe: Recipe
    batch_size: int
    concepts: dict[str, int]
    most: float
    """Aim: the time of a step with heads over the time of one without."""


SIZES = {
    "demo": Size(
        what="recipe tiny",
        recipe=tiny(),
        batch_size=256,
        concepts=dict(zip(HEADS, (306, 69), strict=True)),
        most=1.05,
    ),
    "large": Size(
        what="ViT-B/32",
        recipe=clip(),
        batch_size=64,
        concepts=dict(zip(HEADS, (10_000, 3_000), strict=True)),
        most=1.03,
    ),
}


def measure_step(names: list[str], *, rounds: int) -> None:
    """The steps of the sizes in `names`, each a table, and the loader."""
    for name in names:
        size = SIZES[name]
        title = f"A training step with concept heads: {size.what}"
        write_table("concepts", _table(title, step_ratio(size, rounds), size.most))
    title = "The loader with concept targets"
    write_table("concepts", _table(title, loader_ratio(rounds), 1 / LOADER_AIM))


def _table(title: str, ratio: Ratio, most: float) -> Table:
    return Table(
        title=title,
        columns=RATIO_COLUMNS,
        rows=ratio_rows([ratio]),
        data=[asdict(ratio) | {"verdict": ratio.verdict}],
        notes={
            "aim": f"at most {most:.2f} times the time without, a speed ratio of {1 / most:.3f}",
            "speed ratio, exactly": f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
        },
    )


def step_ratio(size: Size, rounds: int) -> Ratio:
    """The speed of a step with heads over that of one without."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peers = {WITHOUT: step(size, None, device), WITH: step(size, size.concepts, device)}
    concepts = " + ".join(f"{count:,}" for count in size.concepts.values())
    claim = f"training step, {size.what}, batch {size.batch_size}, {concepts} concepts"
    times = alternate(peers, rounds=rounds)
    return ratio_of(times, claim=claim, ours=WITH, theirs=WITHOUT, aim=1 / size.most)


def step(size: Size, concepts: dict[str, int] | None, device: torch.device) -> Callable[[], None]:
    """One step of winnow's trainer, with heads over `concepts` or without heads."""
    torch.manual_seed(0)
    recipe, distillation, heads = size.recipe, None, None
    if concepts is not None:
        distillation = ConceptDistillation()
        width = recipe.model.open_clip_config()["embed_dim"]
        heads = ConceptHeads(distillation, width, concepts)
    towers = Towers(recipe.model, heads=heads).to(device).train()
    optimizer = build_optimizer(towers, recipe.optimizer, distillation)
    batch = random_batch(towers, size.batch_size, concepts).to(device)

    def run() -> None:
        training_step(
            towers,
            optimizer,
            batch,
            rule=recipe.objective,
            mask=Mask(),
            step=0,
            progress=1.0,
            seed=0,
            micro_batches=1,
            max_gradient_norm=recipe.optimizer.max_gradient_norm,
            precision=nullcontext(),
        )

    return run


def random_batch(towers: Towers, size: int, concepts: dict[str, int] | None) -> Batch:
    """Pictures and captions of the shape that the towers train on, and targets."""
    generator, side = torch.Generator().manual_seed(0), towers.image_size
    image = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8, generator=generator)
    text = towers.tokenize([f"a picture of thing number {i}" for i in range(size)])
    ids, targets = torch.arange(size), None
    if concepts is not None:
        targets = {
            head: SparseTargets(torch.from_numpy(index_BK), torch.from_numpy(mass_BK).float())
            for head, (index_BK, mass_BK) in random_targets(size, concepts).items()
        }
    return Batch(image, text, ids, ids, caption_id_B=ids, image_id_B=None, targets=targets)


def random_targets(
    pictures: int, concepts: dict[str, int]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By head, int64 (pictures, TOP_K) distinct in a row, and masses that sum to 1."""
    random = np.random.default_rng(0)
    found = {}
    for head, count in concepts.items():
        index_BK = np.array([random.choice(count, TOP_K, replace=False) for _ in range(pictures)])
        mass_BK = random.random((pictures, TOP_K))
        found[head] = (index_BK, mass_BK / mass_BK.sum(axis=1, keepdims=True))
    return found


def loader_ratio(rounds: int) -> Ratio:
    """The speed of the loader with targets joined over that without, in this process."""
    packaged = packaged_data()
    recipe, concepts = tiny(), SIZES["demo"].concepts
    towers = Towers(recipe.model)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        curated = curate(str(packaged.train), out / "curated", rules=none(), name="none")
        selection = Selection.open(curated.directory)
        targets = write_random_targets(selection, concepts, out / "targets")

        def load(own: ConceptTargets | None) -> None:
            batches = load_batches(
                selection,
                Order(shard_counts=selection.shard_counts, seed=0),
                tokenize=towers.tokenize,
                image_size=towers.image_size,
                augmentation=recipe.augmentation,
                workers=0,
                batch_size=recipe.batch_size,
                first_step=0,
                last_step=LOADED_STEPS,
                targets=own,
            )
            assert all((batch.targets is None) == (own is None) for batch in batches)

        peers = {WITHOUT: lambda: load(None), WITH: lambda: load(targets)}
        times = alternate(peers, rounds=rounds)
    claim = f"{LOADED_STEPS} batches of {recipe.batch_size} packaged pictures, no worker"
    return ratio_of(times, claim=claim, ours=WITH, theirs=WITHOUT, aim=LOADER_AIM)


def write_random_targets(
    selection: Selection, concepts: dict[str, int], folder: Path
) -> ConceptTargets:
    """Targets for every pair of a selection."""
    uids = selection.table["uid"].unique().to_pylist()
    facts = TargetFacts(
        selection=selection.directory.name,
        selection_fingerprint=selection.fingerprint,
        vocabulary="random",
        teacher="random",
        teacher_identity="random",
        heads="random",
        sizes=concepts,
        top_k=TOP_K,
    )
    write_targets(folder, [(uids, random_targets(len(uids), concepts))], facts)
    return ConceptTargets.open(folder)
