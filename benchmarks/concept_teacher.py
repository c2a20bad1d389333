"""What a teacher's targets cost before training: the pass over pictures, heads, and targets.

The pass reads shards, decodes, computes and stores; beside it the bare model on tensors that are
ready, with the same batches and threads. The pictures are the packaged drawings of 64 pixels,
enlarged where the teacher sees more: no package ships photographs to shrink, which take longer to
decode. Heads and targets have no peer: their speed is absolute, and a matter of this machine.
"""

import statistics
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from harness import RATIO_COLUMNS, Table, alternate, ratio_of, ratio_rows, write_table

from winnow.concepts import HEADS, KeptRows
from winnow.concepts.features import compute_features
from winnow.concepts.head_training import train_heads
from winnow.concepts.heads import Heads, LinearHead, predict
from winnow.concepts.heads_facts import HeadsConfig
from winnow.concepts.labels import HeadLabels
from winnow.concepts.teacher import load_teacher
from winnow.concepts.teachers import efficientnet_lite
from winnow.curation.annotators.parse import ParseCaptions
from winnow.curation.kept import kept_pairs
from winnow.curation.selections import none
from winnow.data.concept_targets import TargetFacts, write_targets
from winnow.data.selection import Selection
from winnow.models.towers import ImageNormalizer
from winnow.recipes.data import curate
from winnow.recipes.packaged import packaged_data

TEACHER, BATCH, TOP_K = "efficientnet-lite0", 64, 10
PICTURES = {64: 768, 128: 384, 224: 192}
"""By the side that the teacher sees: some seconds a round on two cores."""
AIM = 0.9
HEAD_ROWS, WIDTH = 4096, 1280
CONCEPTS = {"306 + 69 concepts": (306, 69), "10,000 + 3,000 concepts": (10_000, 3_000)}


def measure_teacher(*, rounds: int) -> None:
    """The pass at each size, then heads and targets."""
    write_table("concepts", pass_table(rounds))
    write_table("concepts", heads_and_targets_table(rounds))


def pass_table(rounds: int) -> Table:
    """Pictures in the time of one: the whole pass over the bare model."""
    ratios, notes = [], {}
    for size, pictures in PICTURES.items():
        with tempfile.TemporaryDirectory() as scratch:
            times, count = pass_times(Path(scratch), size, pictures=pictures, rounds=rounds)
        claim = f"features of {count} pictures at {size} px"
        ratios.append(ratio_of(times, claim=claim, ours="whole pass", theirs="bare model", aim=AIM))
        for name, seconds in times.items():
            rate = count / statistics.median(seconds)
            notes[f"{name}, {size} px, pictures/s"] = round(rate, 1)
    return Table(
        title=f"The pass of a teacher over the pictures: {TEACHER}",
        columns=RATIO_COLUMNS,
        rows=ratio_rows(ratios),
        data=[asdict(ratio) | {"verdict": ratio.verdict} for ratio in ratios],
        notes=notes
        | {
            "batch": f"{BATCH}, {torch.get_num_threads()} threads",
            "pictures": "packaged drawings of 64 px; resized photographs are not at hand",
        },
    )


def pass_times(
    scratch: Path, size: int, *, pictures: int, rounds: int
) -> tuple[dict[str, list[float]], int]:
    """Seconds of the whole pass into a fresh store and of the bare model; pictures of both."""
    first_samples(scratch / "shards", pictures)
    curated = curate(str(scratch / "shards"), scratch / "curated", rules=none(), name="none")
    selection = Selection.open(curated.directory)
    rows = kept_rows(selection)
    teacher = load_teacher(TEACHER, image_size=size)
    distinct = {picture for batch in rows() for picture in batch["sha256"].to_pylist()}

    def whole_pass() -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as store:
            compute_features(teacher, selection, rows, Path(store), batch_size=BATCH)

    peers = {"whole pass": whole_pass, "bare model": bare_model(size, len(distinct))}
    return alternate(peers, rounds=rounds), len(distinct)


def first_samples(folder: Path, count: int) -> None:
    """A shard with the first `count` samples of the packaged training data."""
    folder.mkdir()
    found: set[str] = set()
    with tarfile.open(folder / "00000.tar", "w") as taken:
        for shard in sorted(packaged_data().train.glob("*.tar")):
            with tarfile.open(shard) as archive:
                for member in archive:
                    key = member.name.partition(".")[0]
                    if key not in found and len(found) == count:
                        return
                    found.add(key)
                    taken.addfile(member, archive.extractfile(member))


def kept_rows(selection: Selection) -> KeptRows:
    """The selection's pairs as the pass reads them; captions are parsed before it is timed."""
    pairs = kept_pairs(selection, ParseCaptions(), workers=1)
    return lambda: (rows.select(["uid", "sha256"]) for rows in pairs.batches())


def bare_model(size: int, pictures: int) -> Callable[[], None]:
    """The model alone, in the memory layout that suits it, on tensors that are ready."""
    model = efficientnet_lite.load("", size)
    module = model.module.eval().to(memory_format=torch.channels_last)
    normalize = ImageNormalizer(model.mean, model.std)
    shape = (pictures, 3, size, size)
    image_NCHW = torch.randint(0, 256, shape, dtype=torch.uint8)

    @torch.inference_mode()
    def run() -> None:
        for image_BCHW in image_NCHW.split(BATCH):
            module(normalize(image_BCHW))

    return run


@dataclass(frozen=True, kw_only=True)
class RandomFeatures:
    """Features that are in memory; see FeatureRows."""

    values_NF: np.ndarray

    @property
    def width(self) -> int:
        """F."""
        return self.values_NF.shape[1]

    def __len__(self) -> int:
        return len(self.values_NF)

    def take(self, rows: np.ndarray, /) -> np.ndarray:
        """Those of `rows`."""
        return self.values_NF[rows]


def heads_and_targets_table(rounds: int) -> Table:
    """Pictures a second of training heads for one epoch, and of finding and writing targets."""
    random = np.random.default_rng(0)
    features = RandomFeatures(values_NF=random.normal(size=(HEAD_ROWS, WIDTH)).astype(np.float16))
    peers: dict[str, Callable[[], None]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, counts in CONCEPTS.items():
            sizes = dict(zip(HEADS, counts, strict=True))
            peers[f"heads, one epoch, {name}"] = training(features, sizes)
            peers[f"targets, {name}"] = writing(features, sizes, Path(scratch))
        times = alternate(peers, rounds=rounds)
    data = [
        {"what": name, "pictures/s": HEAD_ROWS / statistics.median(seconds), "seconds": seconds}
        for name, seconds in times.items()
    ]
    return Table(
        title="Heads and targets: pictures a second of this machine",
        columns=("what", "pictures/s"),
        rows=[(str(row["what"]), f"{row['pictures/s']:,.0f}") for row in data],
        data=data,
        notes={
            "absolute": f"medians of {rounds} rounds, not ratios: they hold for this machine",
            "features": f"{HEAD_ROWS:,} of width {WIDTH}, random; two concepts a head and caption",
            "heads": "with the features' mean and deviation, and the measuring of what is held out",
        },
    )


def training(features: RandomFeatures, sizes: dict[str, int]) -> Callable[[], None]:
    """Both heads for one epoch."""
    random = np.random.default_rng(1)
    offsets_N1 = np.arange(0, 2 * HEAD_ROWS + 1, 2)
    labels = {}
    for head, size in sizes.items():
        first_N = random.integers(size, size=HEAD_ROWS)
        second_N = (first_N + random.integers(1, size, size=HEAD_ROWS)) % size
        values = np.stack([first_N, second_N], axis=1).astype(np.uint16).ravel()
        labels[head] = HeadLabels(offsets_N1=offsets_N1, values=values)
    ids = random.integers(2**64, size=HEAD_ROWS, dtype=np.uint64)
    config = HeadsConfig(epochs=1)

    def run() -> None:
        train_heads(features, labels, ids, sizes=sizes, config=config)

    return run


def writing(features: RandomFeatures, sizes: dict[str, int], folder: Path) -> Callable[[], None]:
    """Features to targets on disk."""
    random = torch.Generator().manual_seed(0)
    linear = {
        head: LinearHead(torch.randn(size, WIDTH, generator=random) / 32, torch.zeros(size))
        for head, size in sizes.items()
    }
    uids = [f"{row:032x}" for row in range(HEAD_ROWS)]
    facts = TargetFacts(
        selection="random",
        selection_fingerprint="random",
        vocabulary="random",
        teacher="random",
        teacher_identity="random",
        heads="random",
        sizes=sizes,
        top_k=TOP_K,
    )

    def run() -> None:
        found = predict(Heads(linear), features, TOP_K, rows=np.arange(HEAD_ROWS))
        write_targets(folder, (([uids[row] for row in rows], top) for rows, top in found), facts)

    return run
