"""The ledger's pass over tars, against what reads them at least.

- webdataset's pipeline, which decodes every picture whole with Pillow and takes its sha256;
- `tarfile` alone, streaming the members: a bound, for it looks at nothing.
"""

import hashlib
import io
import itertools
import statistics
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from curation_data import DISTINCT, PICTURE_SIDES, SMALL_SIDE, jpegs, write_tars
from harness import RATIO_COLUMNS, Table, alternate, ratio_of, ratio_rows
from PIL import Image

from winnow.curation.annotate import annotate
from winnow.data.sources import open_source
from winnow.data.tar import PICTURE_EXTENSIONS
from winnow.recipes.packaged import packaged_data

DECODING, STREAMING = "webdataset, Pillow, sha256", "tarfile alone"
AIM = 1.0


def ledger_pass(scratch: Path, rounds: int, pictures: int) -> Table:
    """The ledger's pass against its peers, on drawings and on what passes for photographs."""
    photographs = jpegs(DISTINCT, sides=PICTURE_SIDES)
    captions = [f"a picture of thing number {index}" for index in range(pictures)]
    shards = {
        f"packaged drawings, {SMALL_SIDE} px": sorted(packaged_data().train.glob("*.tar"))[:1],
        f"JPEG of {PICTURE_SIDES[0]} to {PICTURE_SIDES[1]} px": sorted(
            write_tars(scratch / "jpeg", photographs, captions, shards=1, samples=pictures).glob(
                "*.tar"
            )
        ),
    }
    ratios, data, notes = [], [], dict[str, object]()
    for kind, tars in shards.items():
        samples, megabytes = count_samples(tars), sum(tar.stat().st_size for tar in tars) / 1e6
        peers = pass_peers(tars, scratch / kind, samples)
        times = alternate(peers, rounds=rounds)
        notes[kind] = f"{samples:,} samples of {1e3 * megabytes / samples:.0f} kB"
        for peer in (DECODING, STREAMING):
            ratio = ratio_of(times, claim=f"ledger, {kind}", ours="winnow", theirs=peer, aim=AIM)
            ratios.append(ratio)
        for name, seconds in times.items():
            median = statistics.median(seconds)
            rates = {"samples/s": samples / median, "MB/s": megabytes / median}
            notes[f"{name}, {kind}"] = ", ".join(f"{v:,.0f} {unit}" for unit, v in rates.items())
            data.append({"peer": name, "pictures": kind, "samples": samples, **rates})
    rows = [
        row if ratio.theirs == DECODING else (*row[:-2], "-", "a bound")
        for row, ratio in zip(ratio_rows(ratios), ratios, strict=True)
    ]
    return Table(
        title="Reading shards into a ledger",
        columns=RATIO_COLUMNS,
        rows=rows,
        data=[*(asdict(ratio) for ratio in ratios), *data],
        notes=notes
        | {
            "processes": "1, on 1 thread",
            "winnow does besides": "a second hash, a perceptual hash, keys, the ledger's file",
            "winnow's decoding": "a JPEG's at an eighth of its size or a quarter",
        },
    )


def pass_peers(tars: list[Path], ledgers: Path, samples: int) -> dict[str, Callable[[], None]]:
    """One pass over the tars, by name; all see the same number of samples."""
    import webdataset as wds

    source, fresh = open_source([str(tar) for tar in tars]), itertools.count()

    def winnow() -> None:
        result = annotate(source, ledgers / str(next(fresh)), workers=1)
        assert result.samples == samples, f"{result.samples} samples of {samples}"

    def webdataset() -> None:
        seen = 0
        for pair in wds.WebDataset([str(tar) for tar in tars], shardshuffle=False):
            picture = next(pair[name] for name in PICTURE_EXTENSIONS if name in pair)
            hashlib.sha256(picture).hexdigest()
            Image.open(io.BytesIO(picture)).convert("RGB").load()
            pair["txt"].decode()
            seen += 1
        assert seen == samples, f"{seen} samples of {samples}"

    def streaming() -> None:
        for tar in tars:
            with tarfile.open(tar, "r|") as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    assert file is not None and len(file.read()) == member.size

    return {"winnow": winnow, DECODING: webdataset, STREAMING: streaming}


def count_samples(tars: Iterable[Path]) -> int:
    """Captions in the tars."""
    count = 0
    for tar in tars:
        with tarfile.open(tar) as archive:
            count += sum(name.endswith(".txt") for name in archive.getnames())
    return count
