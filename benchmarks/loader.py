"""Loading 512-px JPEG shards, against the webdataset stages of open_clip's pipeline.

Both sides read the same shards with the same number of worker processes, crop as open_clip does
(90 to 100 % of the picture), and end with the same thing in the training process: a normalised
float32 batch (B, 3, 224, 224) and its tokens. Winnow's normalisation happens there and is counted.
The peer's stages are those of open_clip's training data: shard list, split by worker, tar to
samples, shuffle buffer, decode, transform and tokenize, batch.

The pictures are noise with the 1/f spectrum of photographs, at quality 90: nothing that ships in a
package is a large set of photographs. The PSNR of the scaled JPEG decoding, against decoding whole
and cropping the same place, is measured on the same pictures.

    python benchmarks/loader.py [--rounds 10] [--pictures 1024] [--workers 1]
"""

import argparse
import io
import json
import math
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
import webdataset as wds
from harness import alternate, ratio_of, report
from open_clip import SimpleTokenizer
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transform import image_transform
from PIL import Image

from winnow.curation.selections import none
from winnow.data.augmentation import Augmentation, choose_crop
from winnow.data.images import training_view
from winnow.data.loader import load_batches
from winnow.data.order import Order
from winnow.data.selection import Selection
from winnow.models.towers import ImageNormalizer
from winnow.recipes.data import curate

SIZE, STORED, BATCH, PER_SHARD = 224, 512, 64, 256


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.pictures < PER_SHARD or arguments.pictures % PER_SHARD:
        parser.error(f"--pictures must be a multiple of {PER_SHARD}, the size of a shard")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        shards = write_shards(Path(scratch) / "shards", arguments.pictures)
        curated = curate(str(shards), Path(scratch) / "curated", rules=none(), name="none")
        selection = Selection.open(curated.directory)
        steps = arguments.pictures // BATCH
        peers = {
            "winnow": lambda: consume_winnow(selection, steps, arguments.workers),
            "webdataset pipeline": lambda: consume_webdataset(shards, steps, arguments.workers),
        }
        times = alternate(peers, rounds=arguments.rounds)
        psnr = draft_psnr(shards)
    processes = arguments.workers + 1
    notes = {
        f"{name}, images/s per process": round(
            steps * BATCH / float(np.median(seconds)) / processes, 1
        )
        for name, seconds in times.items()
    }
    ratio = ratio_of(
        times,
        claim=f"loading {STORED}-px JPEG, {arguments.workers} worker",
        ours="winnow",
        theirs="webdataset pipeline",
        aim=1.5,
    )
    report("loader", [ratio], notes | {"PSNR of scaled decoding, median of 64": f"{psnr:.1f} dB"})


def write_shards(folder: Path, pictures: int) -> Path:
    """Webdataset shards of 1/f noise, which compresses about as photographs do."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for shard in range(math.ceil(pictures / PER_SHARD)):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for index in range(PER_SHARD):
                key = f"{shard:05d}{index:04d}"
                buffer = io.BytesIO()
                Image.fromarray(photograph_like(random)).save(buffer, "JPEG", quality=90)
                members = {
                    "jpg": buffer.getvalue(),
                    "txt": f"a picture of thing number {index} in shard {shard}".encode(),
                    "json": json.dumps({"key": key}).encode(),
                }
                for extension, payload in members.items():
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(payload)
                    archive.addfile(member, io.BytesIO(payload))
    return folder


def photograph_like(random: np.random.Generator) -> np.ndarray:
    """uint8 (512, 512, 3) noise whose amplitude falls as 1/f, as in natural scenes."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(STORED), np.fft.fftfreq(STORED)))
    frequency[0, 0] = 1 / STORED
    channels = []
    shared = random.normal(size=(STORED, STORED))
    for _ in range(3):
        field = shared + 0.3 * random.normal(size=(STORED, STORED))
        spectrum = np.fft.fft2(field) / frequency
        spectrum[0, 0] = 0
        values = np.fft.ifft2(spectrum).real
        channels.append(128 + 50 * values / values.std())
    return np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)


def consume_winnow(selection: Selection, steps: int, workers: int) -> None:
    """Every batch of an epoch, normalised as the towers do it."""
    normalise = ImageNormalizer(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    batches = load_batches(
        selection,
        Order(shard_counts=selection.shard_counts, seed=0),
        tokenize=SimpleTokenizer(),
        image_size=SIZE,
        augmentation=Augmentation(),
        workers=workers,
        batch_size=BATCH,
        first_step=0,
        last_step=steps,
    )
    for batch in batches:
        check(normalise(batch.image_BCHW), batch.text_BT)


def consume_webdataset(shards: Path, steps: int, workers: int) -> None:
    """Every batch of an epoch through the stages of open_clip's training pipeline."""
    transform = image_transform(
        SIZE, is_train=True, mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD
    )
    tokenize = SimpleTokenizer()
    urls = sorted(str(path) for path in shards.glob("*.tar"))
    pipeline = wds.DataPipeline(
        wds.SimpleShardList(urls),
        wds.shuffle(2000),
        wds.split_by_node,
        wds.split_by_worker,
        wds.tarfile_to_samples(),
        wds.shuffle(5000, initial=1000),
        wds.decode("pilrgb"),
        wds.rename(image="jpg;png;jpeg;webp", text="txt"),
        wds.map_dict(image=transform, text=lambda text: tokenize(text)[0]),
        wds.to_tuple("image", "text"),
        wds.batched(BATCH, partial=False),
    )
    loader = wds.WebLoader(
        pipeline, batch_size=None, shuffle=False, num_workers=workers, persistent_workers=False
    )
    count = 0
    for image, text in loader:
        check(image, text)
        count += 1
    assert count == steps, f"{count} batches of {steps}: the peers did not do the same work"


def check(image_BCHW: torch.Tensor, text_BT: torch.Tensor) -> None:
    """Both sides must deliver the same kind of thing."""
    assert image_BCHW.shape == (BATCH, 3, SIZE, SIZE), image_BCHW.shape
    assert image_BCHW.dtype == torch.float32, image_BCHW.dtype
    assert text_BT.shape == (BATCH, 77), text_BT.shape


def draft_psnr(shards: Path, count: int = 64) -> float:
    """Median PSNR in dB of winnow's view against the same crop of the whole decoded picture."""
    augmentation, values = Augmentation(), []
    with tarfile.open(sorted(shards.glob("*.tar"))[0]) as archive:
        pictures = [member for member in archive if member.name.endswith(".jpg")][:count]
        for index, member in enumerate(pictures):
            file = archive.extractfile(member)
            assert file is not None
            data = file.read()
            ours = training_view(
                data, size=SIZE, augmentation=augmentation, random=np.random.default_rng(index)
            )
            whole = Image.open(io.BytesIO(data)).convert("RGB")
            box = choose_crop(*whole.size, augmentation, np.random.default_rng(index))
            exact = whole.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
            error = ours.astype(float) - np.asarray(exact).transpose(2, 0, 1)
            values.append(10 * math.log10(255**2 / np.mean(error**2)))
    return float(np.median(values))


if __name__ == "__main__":
    main()
